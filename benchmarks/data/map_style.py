"""Any data set that gives a row for a number, as images to compare explanations on."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, SupportsIndex

import numpy as np
from torch import Tensor

from ._notes import ScalingNotes
from ._pixels import to_image
from ._rows import (
    Key,
    as_caption,
    check_transforms,
    column_of,
    dataset_name,
    declared_names,
    field_of,
    is_picture,
    length_of,
    listing_of,
    missing_files,
    name_of,
    picture_of,
)
from ._tree import some
from .base import MissingImageError, Sample, position
from .class_names import check_names


class MapStyle:
    """A data set with `len(dataset)` and `dataset[number]`, read a row at a time.

    Rows are tuples (image, label, ...), as of torchvision, of a torch `Dataset` or in a list of
    pairs; or mappings {"image": ..., "label": ...}, as of Hugging Face `datasets`. Nothing is
    copied, and an image is read when it is asked for.

    Images may be

    - of PIL, of any mode; a path; or the content of a file as bytes, alone or in a mapping
      {"bytes": ..., "path": ...}, as Hugging Face has them;
    - arrays (H, W) or (H, W, C), or tensors (H, W) or (C, H, W), with C of 1 (grey), 2 (grey and
      alpha), 3 or 4 (RGB and alpha): bool, uint8 from 0 to 255, uint16 from 0 to 65535, or
      floating point from 0 to 1. What lies further outside is refused: the model's own
      preprocessing normalises, the data set must not.

    They become RGB as `cci_captum.images.read_image` says, transparency laid over
    white. A smaller image is fine, so that a transform may resize.

    Labels are ints, or strings that are class names. Which label each row has must be known
    without reading the images: from `targets`; a column of Hugging Face's; a list's rows;
    `dataset.targets` or `dataset.labels`, where no target_transform changes them; or any of these
    under `torch.utils.data.Subset`. Of other data sets, every row is read once, when this is first
    asked for. The same holds for captions.

    Args:
        dataset: The rows.
        image: Place or name of the image in a row. None: 0, or "image".
        label: Of the label. None: 1, or "label"; none where there are captions.
        class_names: The names to tell apart, by label. None: as the data set says, in
            `dataset.classes` (of several names for a class, the first) or
            `dataset.features[label].names`, with spaces for underscores and OpenAI's names for
            WordNet ids of ImageNet's classes; or, where labels are strings, these, sorted.
        captions: Place or name of the captions, a string or several. None: there are none.
        name: Says in a report which images these are. None: as the data set says, or its type.
        templates: As `cci_captum.ZeroShotClassifier` takes them.
        targets: The label of every row, in place of those in the rows.

    Attributes:
        listing: Says which images these are, as far as the data set does: its own `listing`;
            Hugging Face's fingerprint; files and their sizes, and digests of what is in memory,
            of a list, `dataset.samples` or `dataset.data`; else its repr. A data set of one's own
            that says nothing should have a `listing`, or other images of the same number and
            labels pass for these.
        notes: What was taken for granted in images of more than 8 bits, once one was read.

    Raises:
        OSError: When a sample is read: if the system cannot give the file now; see `ImageData`.
        TypeError: If dataset has no length or no rows by number, or is several splits; or what a
            row holds is no image, label or caption.
        ValueError: If there are no rows, a row has no such field, a label is no class, the classes
            have no names, or a transform of the data set normalises. When a sample is read: if the
            image is missing, damaged or out of range, or its label is not the one known before.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> rows = [(Image.new("L", (8, 6)), 1), (np.ones((6, 8, 3), dtype=np.float32), 0)]
        >>> data = MapStyle(rows, class_names=["cat", "dog"], name="two pictures")
        >>> data.targets, data[1].image.getpixel((0, 0)), data[0].name
        ([1, 0], (255, 255, 255), 'image 0')
        >>> MapStyle([("a.png", "dog"), ("b.png", "cat")]).class_names
        ('cat', 'dog')
    """

    def __init__(
        self,
        dataset: Any,
        image: Key | None = None,
        label: Key | None = None,
        class_names: Sequence[str] | None = None,
        captions: Key | None = None,
        name: str | None = None,
        templates: str | Sequence[str] | None = None,
        *,
        targets: Sequence[int] | None = None,
    ) -> None:
        self._length = length_of(dataset)
        check_transforms(dataset)
        self._dataset = dataset
        self._image, self._label, self._captions = image, label, captions
        self._labelled = label is not None or captions is None or targets is not None
        if class_names is not None:
            check_names(class_names)
        self.has_masks = False
        self.notes: list[str] = []
        self._scaling = ScalingNotes(self.notes)
        self._own_targets = targets is not None
        self._known_captions: list[tuple[str, ...]] | None = None
        self._check_first_row()
        self._missing = missing_files(dataset, image)
        found = list(targets) if targets is not None else self._labels_at_hand()
        if targets is not None and len(found or ()) != len(self):
            raise ValueError(
                f"targets: expected one for each of the {len(self)} rows, got {len(found or ())}"
            )
        self.class_names = self._names(class_names, found)
        self._targets = None if found is None else self._as_targets(found)
        if captions is not None:
            column = column_of(dataset, captions)
            if column is not None:
                self._known_captions = self._as_captions(column)
        self.name = f"{dataset_name(dataset) if name is None else name} ({len(self)} images)"
        if templates is None:
            templates = "a photo of a {}." if self._labelled else "{}"
        self.templates: str | tuple[str, ...] = (
            templates if isinstance(templates, str) else tuple(templates)
        )

    @property
    def targets(self) -> list[int]:
        """Of every row; -1 where there are no labels."""
        if self._targets is None:
            self._targets = self._as_targets(self._read_all(self._label_of))
        return self._targets

    @property
    def captions(self) -> list[tuple[str, ...]]:
        """Of every row; empty where there are none."""
        if self._captions is None:
            return [()] * len(self)
        if self._known_captions is None:
            self._known_captions = self._as_captions(self._read_all(self._captions_of))
        return self._known_captions

    @property
    def listing(self) -> list[str]:
        """Which images these are, as far as the data set says; see the class."""
        captions = [text for own in self.captions for text in own]
        return [*listing_of(self._dataset, self._image), *captions]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: SupportsIndex) -> Sample:
        place = position(index, len(self))
        try:
            row = self._dataset[place]
            value = self._image_of(row, place)
            name = name_of(value, place)
            image, scaling = picture_of(value, name)
        except FileNotFoundError as error:
            if place in self._missing:
                raise MissingImageError(str(error)) from error
            raise
        note = self._scaling.of(name, scaling)
        target = self._target_of(row, place)
        captions: tuple[str, ...] = ()
        if self._captions is not None:
            captions = as_caption(self._captions_of(row, place), place)
        return Sample(name, image, target, captions=captions, note=note)

    def _target_of(self, row: Any, place: int) -> int:
        if not self._labelled or self._own_targets:
            return self.targets[place]
        target = self._as_target(self._label_of(row, place), place)
        if self._targets is not None and target != self._targets[place]:
            raise ValueError(
                f"dataset: expected the label {self._targets[place]} in row {place}, as "
                f"known of all rows together, got {target}"
            )
        return target

    def _image_of(self, row: Any, place: int) -> Any:
        return field_of(row, "image", self._image, 0, place)

    def _label_of(self, row: Any, place: int) -> Any:
        return field_of(row, "label", self._label, 1, place)

    def _captions_of(self, row: Any, place: int) -> Any:
        return field_of(row, "captions", self._captions, 1, place)

    def _check_first_row(self) -> None:
        """Raise what is wrong with every row, before the first is needed."""
        try:
            row = self._dataset[0]
        except (OSError, ValueError):  # a damaged file, which is reported when it is asked for
            return
        except (LookupError, NotImplementedError) as error:
            raise TypeError(
                f"dataset: expected rows by number, got {type(error).__name__} from "
                f"{type(self._dataset).__name__}[0]"
            ) from error
        if isinstance(row, Sample):
            raise TypeError(
                "dataset: expected rows of images and labels, got samples, which need no MapStyle: "
                "these images, or a Subset of them, are taken as they are"
            )
        image = self._image_of(row, 0)
        if self._labelled and not self._own_targets:
            self._label_of(row, 0)
        if self._captions is not None:
            as_caption(self._captions_of(row, 0), 0)
        if isinstance(image, np.ndarray | Tensor):
            to_image(image, "image 0")
        elif not is_picture(image) and image is not None:
            raise TypeError(
                "image: expected an image of PIL, a path, bytes, an array or a tensor, got "
                f"{type(image).__name__} in row 0"
            )

    def _labels_at_hand(self) -> list[Any] | None:
        """Of every row, where no image has to be read for it."""
        if not self._labelled:
            return [-1] * len(self)
        return column_of(self._dataset, self._label, "label")

    def _names(self, given: Sequence[str] | None, labels: list[Any] | None) -> tuple[str, ...]:
        if not self._labelled:
            return ()
        if given is not None:
            return tuple(given)
        if declared := declared_names(self._dataset, self._label):
            return declared
        if labels is None:
            labels = self._read_all(self._label_of)
        if labels and all(isinstance(label, str) for label in labels):
            return tuple(sorted(set(labels)))
        raise ValueError(
            "class_names: expected the names of the classes, which the data set does not say; got "
            "None"
        )

    def _as_targets(self, labels: Sequence[Any]) -> list[int]:
        if not self._labelled:
            return list(labels)
        return [self._as_target(label, place) for place, label in enumerate(labels)]

    def _as_target(self, label: Any, place: int) -> int:
        names = self.class_names
        if isinstance(label, str):
            if label not in names:
                raise ValueError(
                    f"label: expected one of the {len(names)} class names, {some(names)}, got "
                    f"{label!r} in row {place}"
                )
            return names.index(label)
        if isinstance(label, bool | np.bool_):
            label = int(label)
        try:
            target = operator.index(label)
        except TypeError:
            got = "None" if label is None else type(label).__name__
            raise TypeError(
                f"label: expected an int or a class name, got {got} in row {place}"
            ) from None
        if not 0 <= target < len(names):
            raise ValueError(
                f"label: expected 0 to {len(names) - 1}, the {len(names)} classes, got {target} "
                f"in row {place}"
            )
        return target

    def _as_captions(self, column: Sequence[Any]) -> list[tuple[str, ...]]:
        return [as_caption(value, place) for place, value in enumerate(column)]

    def _read_all(self, read: Callable[[Any, int], Any]) -> list[Any]:
        return [read(self._dataset[place], place) for place in range(len(self))]
