"""What a comparison asks of images, wherever they come from."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, SupportsIndex

from PIL import Image
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """An image, and what is to be explained in it.

    Attributes:
        name: Says which image it is, unique in its data.
        image: Of mode "RGB" and any size, as it was before any preprocessing.
        target: Index of its class in the data's `class_names`; -1 where the data have captions and
            no classes.
        mask: (H, W) bool at the image's own size, the pixels of what target names; or None.
        source: Says which photo it was made from, where several samples come from one, as crops,
            pasted backgrounds or captions do: such samples are not independent. None is itself.
        captions: What people wrote about it, each a right answer, in the data's order.
        facts: What else is known of it, such as its group or its number elsewhere: name -> value.
        note: What a reader of the results should know of how it was read, and others like it; a
            report has the first such note of a run.
    """

    name: str
    image: Image.Image
    target: int
    mask: Tensor | None = None
    source: str | None = None
    captions: tuple[str, ...] = ()
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    note: str = ""


class MissingImageError(FileNotFoundError, ValueError):
    """There was no such file when the data were listed: a fact about the data, as damage is.

    A file that was there and is not now is a FileNotFoundError alone: a network file system may be
    away, and what is there must not be told from that.
    """


class ImageData(Protocol):
    """Samples by number, and the classes to tell apart.

    Data may have `notes`, too: texts that a reader of the results should know, for the report, as
    they are before any image is read (what is known of an image once it is read is its
    `Sample.note`); and a `listing`: texts that say which images these are, so that two runs can
    tell.

    A sample that cannot be read raises ValueError, or an OSError without a number as decoders do,
    if that says something about it: it is left out, and a report says so. An OSError of the
    system, with its number, or a FileNotFoundError says nothing: a run asks again, and ends if it
    has to, so that the image is measured when it goes on. See `MissingImageError`.

    Attributes:
        name: Says in a report which images these are.
        class_names: The C names, as `cci_captum.ZeroShotClassifier` takes them.
        templates: As `cci_captum.ZeroShotClassifier` takes them.
        has_masks: Whether every sample has a mask; if not, none has.
    """

    name: str
    class_names: tuple[str, ...]
    templates: str | tuple[str, ...]
    has_masks: bool

    @property
    def targets(self) -> Sequence[int]:
        """Of every sample, known without reading it."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: SupportsIndex) -> Sample: ...


class CaptionData(ImageData, Protocol):
    """Images with captions, for retrieval between the two.

    Without classes, `class_names` is empty and every target -1; `templates` is "{}", since a
    caption is a text as it stands.

    Example:
        >>> from cci_captum.benchmarks.data import MapStyle
        >>> rows = [("1.png", ["a cat", "a cat on snow"]), ("2.png", ["a dog"])]
        >>> data: CaptionData = MapStyle(rows, captions=1)
        >>> data.captions  # as `CaptionRetrieval.from_pairs` takes them
        [('a cat', 'a cat on snow'), ('a dog',)]
    """

    @property
    def captions(self) -> Sequence[tuple[str, ...]]:
        """Of every sample, known without reading its image."""
        ...


def position(index: SupportsIndex, length: int) -> int:
    """The place an index means, counted from the end where it is negative.

    Args:
        index: Any int.
        length: How many places there are.

    Returns:
        From 0 to length - 1.

    Raises:
        TypeError: If index is no int.
        IndexError: If there is no such place.

    Example:
        >>> position(-1, 5)
        4
    """
    number = operator.index(index)
    if not -length <= number < length:
        raise IndexError(f"index: expected {-length} to {length - 1}, got {number}")
    return number % length
