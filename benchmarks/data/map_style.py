"""Any data set that gives a row for a number, as images to compare explanations on."""

from __future__ import annotations

import hashlib
import operator
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import torch
from open_clip import IMAGENET_CLASSNAMES
from PIL import Image
from timm.data import ImageNetInfo
from torch import Tensor

from ..images import read_with_scaling
from ..names import readable
from ._pixels import Picture, to_image
from ._tree import some
from .base import Sample, position
from .class_names import check_names, spaced

Key = int | str
"""Of a field of a row: its place in a tuple, or its name in a mapping."""

_LABELS = ("targets", "labels", "_labels")  # what torchvision's data sets call them


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

    They become RGB as `cci_captum.benchmarks.images.read_image` says, transparency laid over
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
        self._length = _length(dataset)
        _check_transforms(dataset)
        self._dataset = dataset
        self._image, self._label, self._captions = image, label, captions
        self._labelled = label is not None or captions is None or targets is not None
        if class_names is not None:
            check_names(class_names)
        self.has_masks = False
        self.notes: list[str] = []
        self._own_targets = targets is not None
        self._known_captions: list[tuple[str, ...]] | None = None
        self._check_first_row()
        found = list(targets) if targets is not None else self._labels_at_hand()
        if targets is not None and len(found or ()) != len(self):
            raise ValueError(
                f"targets: expected one for each of the {len(self)} rows, got {len(found or ())}"
            )
        self.class_names = self._names(class_names, found)
        self._targets = None if found is None else self._as_targets(found)
        if captions is not None:
            column = _column(dataset, captions)
            if column is not None:
                self._known_captions = self._as_captions(column)
        self.name = f"{_name(dataset) if name is None else name} ({len(self)} images)"
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
        return [*_listing(self._dataset, self._image), *captions]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: SupportsIndex) -> Sample:
        place = position(index, len(self))
        row = self._dataset[place]
        value = self._image_of(row, place)
        name = _name_of(value, place)
        image, note = _picture(value, name)
        if note and not self.notes:  # of the first such image, not of each
            self.notes.append(f"{name}: {note}; other images of this kind are read alike")
            warnings.warn(self.notes[0], UserWarning, stacklevel=2)
        target = self._target_of(row, place)
        captions: tuple[str, ...] = ()
        if self._captions is not None:
            captions = _as_caption(self._captions_of(row, place), place)
        return Sample(name, image, target, captions=captions)

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
        return _field(row, "image", self._image, 0, place)

    def _label_of(self, row: Any, place: int) -> Any:
        return _field(row, "label", self._label, 1, place)

    def _captions_of(self, row: Any, place: int) -> Any:
        return _field(row, "captions", self._captions, 1, place)

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
        image = self._image_of(row, 0)
        if self._labelled and not self._own_targets:
            self._label_of(row, 0)
        if self._captions is not None:
            _as_caption(self._captions_of(row, 0), 0)
        if isinstance(image, np.ndarray | Tensor):
            to_image(image, "image 0")
        elif not _is_picture(image) and image is not None:
            raise TypeError(
                "image: expected an image of PIL, a path, bytes, an array or a tensor, got "
                f"{type(image).__name__} in row 0"
            )

    def _labels_at_hand(self) -> list[Any] | None:
        """Of every row, where no image has to be read for it."""
        if not self._labelled:
            return [-1] * len(self)
        return _column(self._dataset, self._label, "label")

    def _names(self, given: Sequence[str] | None, labels: list[Any] | None) -> tuple[str, ...]:
        if not self._labelled:
            return ()
        if given is not None:
            return tuple(given)
        if declared := _declared_names(self._dataset, self._label):
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
        return [_as_caption(value, place) for place, value in enumerate(column)]

    def _read_all(self, field: Callable[[Any, int], Any]) -> list[Any]:
        return [field(self._dataset[place], place) for place in range(len(self))]


def _length(dataset: Any) -> int:
    """How many rows there are.

    Raises:
        TypeError: If dataset is no data set of map style.
        ValueError: If it has no rows.
    """
    if isinstance(dataset, Mapping):
        splits = ", ".join(map(repr, dataset))
        raise TypeError(f"dataset: expected one split, got a mapping of {splits or 'nothing'}")
    if isinstance(dataset, str | bytes | Tensor | np.ndarray):
        raise TypeError(f"dataset: expected rows by number, got {type(dataset).__name__}")
    try:
        length = len(dataset)
    except TypeError:
        raise TypeError(
            "dataset: expected a length and rows by number (map style), got "
            f"{type(dataset).__name__}; of a stream, take some rows into a list"
        ) from None
    if not hasattr(dataset, "__getitem__"):
        raise TypeError(f"dataset: expected rows by number, got {type(dataset).__name__}")
    if not length:
        raise ValueError(f"dataset: expected at least one row, got an empty {_name(dataset)}")
    return length


def _check_transforms(dataset: Any) -> None:
    """Raise ValueError if a transform, here or under subsets, normalises as torchvision's does."""
    while dataset is not None:
        for attribute in ("transform", "transforms"):
            transform = getattr(dataset, attribute, None)
            if transform is not None and "Normalize(" in repr(transform):
                raise ValueError(
                    f"dataset: expected images as they are, got a {attribute} that normalises "
                    "them; leave that to the model's preprocess"
                )
        dataset = _parent(dataset)


def _parent(dataset: Any) -> Any:
    """What a torch `Subset` is a subset of; None of all others."""
    return getattr(dataset, "dataset", None) if hasattr(dataset, "indices") else None


def _field(row: Any, argument: str, key: Key | None, place: int, number: int) -> Any:
    """A field of a row; key None is its usual one, which is named as the argument."""
    if isinstance(row, Mapping):
        key = argument if key is None else key
        if key in row:
            return row[key]
        there = f"a mapping with {some(map(str, row))}"
    elif isinstance(row, tuple | list):
        key = place if key is None else key
        if isinstance(key, int) and -len(row) <= key < len(row):
            return row[key]
        there = f"a {type(row).__name__} of {len(row)}"
    else:
        key = place if key is None else key
        there = type(row).__name__
    raise ValueError(f"{argument}: expected {key!r} in every row, got {there} in row {number}")


def _column(dataset: Any, key: Key | None, usual: str = "") -> list[Any] | None:
    """One field of every row, where no image has to be read for it; else None.

    Args:
        dataset: The rows.
        key: See `_field`.
        usual: The name of the argument, where key may be None or an attribute may say it.
    """
    if isinstance(dataset, list | tuple):
        return [_field(row, usual or "captions", key, 1, n) for n, row in enumerate(dataset)]
    name = usual if key is None else key
    if name in (getattr(dataset, "column_names", None) or ()):
        plain = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
        return list(plain[name])
    parent = _parent(dataset)
    if parent is not None:
        column = _column(parent, key, usual)
        return None if column is None else [column[index] for index in dataset.indices]
    if not usual or key not in (None, 1) or _changes_labels(dataset):
        return None
    for attribute in _LABELS:
        labels = getattr(dataset, attribute, None)
        if isinstance(labels, list | tuple | np.ndarray | Tensor) and len(labels) == len(dataset):
            return labels.tolist() if isinstance(labels, np.ndarray | Tensor) else list(labels)
    return None


def _changes_labels(dataset: Any) -> bool:
    joint = getattr(dataset, "transforms", None)
    changed = [getattr(dataset, "target_transform", None), getattr(joint, "target_transform", None)]
    return any(transform is not None for transform in changed)


def _declared_names(dataset: Any, key: Key | None) -> tuple[str, ...]:
    """The class names that the data set says; none if it says none."""
    while dataset is not None:
        features = getattr(dataset, "features", None)
        names: Any = None
        if isinstance(features, Mapping):
            names = getattr(features.get("label" if key is None else key), "names", None)
        elif key in (None, 1):
            names = getattr(dataset, "classes", None)
        if isinstance(names, list | tuple) and names:
            first = [name if isinstance(name, str) else name[0] for name in names]
            ids = ImageNetInfo("imagenet-1k").label_names()
            known = dict(zip(ids, IMAGENET_CLASSNAMES, strict=True))
            return tuple(known.get(name, spaced(name)) for name in first)
        dataset = _parent(dataset)
    return ()


def _as_caption(value: Any, place: int) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise TypeError(
            f"captions: expected a string or several, got {type(value).__name__} in row {place}"
        )
    return tuple(texts)


def _is_picture(value: Any) -> bool:
    kinds = (str, bytes, os.PathLike, Image.Image, np.ndarray, Tensor)
    return isinstance(value, kinds) or _is_encoded(value)


def _is_encoded(value: Any) -> bool:
    """Whether this is an image as Hugging Face keeps it."""
    return isinstance(value, Mapping) and bool({"bytes", "path"} & set(value))


def _path_of(value: Any) -> str:
    """The file an image is from, as the data set says it, or ""."""
    if _is_encoded(value):
        value = value.get("path")
    elif isinstance(value, Image.Image):
        value = getattr(value, "filename", "")
    return os.fspath(value) if isinstance(value, str | os.PathLike) else ""


def _name_of(value: Any, place: int) -> str:
    path = _path_of(value)
    return f"image {place} ({readable(path)})" if path else f"image {place}"


def _picture(value: Any, name: str) -> Picture:
    if isinstance(value, str | os.PathLike):
        return Picture(*read_with_scaling(value))
    if _is_encoded(value):
        content = value.get("bytes")
        value = Path(value["path"]) if content is None else content
        return _picture(value, name)
    return to_image(value, name)


def _name(dataset: Any) -> str:
    """What a data set is called: its own name, and its split where it has one."""
    parent = _parent(dataset)
    if parent is not None:
        return f"part of {_name(parent)}"
    info = getattr(dataset, "info", None)
    name = getattr(info, "dataset_name", None) or type(dataset).__name__
    split = getattr(dataset, "split", None)
    return f"{name}" if split is None or callable(split) else f"{name} {split}"


def _listing(dataset: Any, image: Key | None) -> list[str]:
    own = getattr(dataset, "listing", None)
    if own is not None:
        return [str(text) for text in own]
    if isinstance(fingerprint := getattr(dataset, "_fingerprint", None), str):
        return [fingerprint]
    parent = _parent(dataset)
    if parent is not None:
        return [*_listing(parent, image), str([int(index) for index in dataset.indices])]
    if isinstance(dataset, list | tuple):
        rows = enumerate(dataset)
        return [_identity(_field(row, "image", image, 0, place)) for place, row in rows]
    samples = getattr(dataset, "samples", None)
    if isinstance(samples, list) and all(isinstance(row, tuple) and row for row in samples):
        return [_identity(row[0]) for row in samples]
    pixels = getattr(dataset, "data", None)
    if isinstance(pixels, np.ndarray | Tensor):
        return [_identity(pixels)]
    return [re.sub(r" at 0x[0-9a-f]+", "", repr(dataset))]


def _identity(value: Any) -> str:
    """Which image a value is: its file and its size, or a digest of what is in memory."""
    if _is_encoded(value) and value.get("bytes") is not None:
        value = value["bytes"]
    path = _path_of(value)
    if path:
        size = os.path.getsize(path) if os.path.exists(path) else "missing"
        return f"{readable(path)} {size}"
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        shape, content = (
            (value.dtype, *value.shape),
            value.flatten().view(torch.uint8).numpy().tobytes(),
        )
    elif isinstance(value, np.ndarray):
        shape, content = (value.dtype, *value.shape), value.tobytes()
    elif isinstance(value, Image.Image):
        shape, content = (value.mode, *value.size), value.tobytes()
    elif isinstance(value, bytes):
        shape, content = ("bytes",), value
    else:
        return type(value).__name__
    return f"{' '.join(map(str, shape))} {hashlib.sha256(content).hexdigest()}"
