"""Some images of other data, chosen as PyTorch users choose them: by `torch.utils.data.Subset`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, SupportsIndex, cast

from torch.utils.data import Subset

from .base import CaptionData, ImageData, Sample, position

_ASKED = ("name", "class_names", "templates", "has_masks")  # of data, without reading anything


class Part:
    """The images at some places of other data.

    Made where a task is given a `Subset`, also one of a subset.

    Args:
        data: Any images.
        places: Theirs, each once, in the order that the part has.

    Raises:
        IndexError: If there is no such place.
        ValueError: If a place comes twice.

    Example:
        >>> from torch.utils.data import Subset
        >>> from cci_captum.benchmarks.data import Scenes
        >>> part = image_data(Subset(Scenes(10), [7, 2]))
        >>> part.name, [part[place].name for place in range(len(part))]
        ('2 of scenes (train artwork, one object, seed 0)', ['scene 7', 'scene 2'])
    """

    def __init__(self, data: ImageData, places: Sequence[SupportsIndex]) -> None:
        self._data = data
        self._places = [position(place, len(data)) for place in places]
        if twice := [place for place, count in Counter(self._places).items() if count > 1]:
            raise ValueError(f"data: expected each image once in a Subset, got {twice[0]} again")
        self.class_names, self.templates = data.class_names, data.templates
        self.has_masks = data.has_masks
        self.name = f"{len(self)} of {data.name}"

    @property
    def targets(self) -> list[int]:
        """Of every image."""
        targets = self._data.targets
        return [targets[place] for place in self._places]

    @property
    def captions(self) -> list[tuple[str, ...]]:
        """Of every image; empty where the data have none."""
        captions = getattr(self._data, "captions", None)
        return [captions[place] if captions else () for place in self._places]

    @property
    def notes(self) -> list[str]:
        """Those of the data."""
        return list(getattr(self._data, "notes", ()))

    @property
    def listing(self) -> list[str]:
        """That of the data, and the places."""
        return [*map(str, getattr(self._data, "listing", ())), str(self._places)]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        return self._data[self._places[position(index, len(self))]]


def image_data(data: Any) -> ImageData:
    """Images as a task takes them: as they are, or a part of such for a `Subset`.

    Raises:
        TypeError: If they are neither; of a data set of rows, `MapStyle` makes images.
    """
    if isinstance(data, Subset):
        return Part(image_data(data.dataset), data.indices)
    if missing := [name for name in _ASKED if not hasattr(data, name)]:
        raise TypeError(
            "data: expected images of cci_captum.benchmarks.data, or a Subset of them, got "
            f"{type(data).__name__} without {', '.join(missing)}; MapStyle(dataset) makes them of "
            "any data set of images and labels"
        )
    return cast("ImageData", data)


def caption_data(data: Any) -> CaptionData:
    """The same of images with captions.

    Raises:
        TypeError: See `image_data`.
        ValueError: If no image has a caption.
    """
    found = image_data(data)
    if not any(getattr(found, "captions", None) or ()):
        raise ValueError(f"data: expected images with captions, got none in {found.name}")
    return cast("CaptionData", found)
