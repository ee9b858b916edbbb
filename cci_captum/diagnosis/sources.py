"""Images and their objects, in whatever form they are given, as batches of inputs and masks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..attribution.inputs import check_images
from ..models.preprocessing import Preprocess
from ..models.seen_area import Area
from ..names import readable
from ..photos import Photo, read_photos
from ..regions import check_masks


class Given(NamedTuple):
    """Some images, ready for the model, on the CPU or where they were given.

    Attributes:
        names: Of their files, or "image 2".
        inputs: (b, 3, H, W).
        masks: (b, H, W) bool, the object's pixels; none where there is a status.
        statuses: Why an image, or its mask, is not there; "" where both are.
        read: Whether an image is there; else its input says nothing.
    """

    names: list[str]
    inputs: Tensor
    masks: Tensor
    statuses: list[str]
    read: list[bool]


class Source:
    """All images of a diagnosis; read when they are asked for.

    Args:
        images: See `diagnose`.
        segmenter: See `diagnose`.
        preprocess: See `diagnose`.
        class_names: What a segmenter is asked for, by class; empty: it is asked for indices.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If there are no images, or not as many masks.
    """

    def __init__(
        self,
        images: Any,
        segmenter: Any,
        preprocess: Preprocess | None,
        class_names: Sequence[str],
    ) -> None:
        self._are_inputs = isinstance(images, Tensor) and images.is_floating_point()
        if self._are_inputs:
            check_images(images, "images")
        elif not hasattr(images, "__getitem__") or isinstance(images, str | bytes):
            raise TypeError(
                "images: expected a floating point tensor (B, 3, H, W), or a sequence of files, "
                f"PIL images or arrays, got {type(images).__name__}"
            )
        elif preprocess is None:
            raise TypeError(
                "preprocess: expected a function from a PIL image to an input, got None"
            )
        if not len(images):
            raise ValueError("images: expected at least one, got none")
        self._images, self._preprocess, self._names = images, preprocess, tuple(class_names)
        self._segmenter = self._checked(segmenter)
        self._masks_inputs = hasattr(segmenter, "of_inputs")

    def __len__(self) -> int:
        """Number of images."""
        return len(self._images)

    def batch(self, places: Sequence[int], true: Sequence[int]) -> Given:
        """The images at some places, whose true classes are these.

        Raises:
            ValueError: If a mask has another size than its image and the input.
        """
        given = [self._images[place] for place in places]
        names = [
            readable(image) if isinstance(image, str | os.PathLike) else f"image {place}"
            for place, image in zip(places, given, strict=True)
        ]
        if self._are_inputs and self._preprocess is None:
            inputs = torch.stack(given)
            if self._masks_inputs:
                found = list(self._segmenter.of_inputs(inputs))
            else:
                found = [(self._segmenter[place], "") for place in places]
            area = (0.0, 0.0, float(inputs.shape[3]), float(inputs.shape[2]))
            none = [None] * len(names)
            return _given(names, [*inputs], found, [area] * len(names), none, [""] * len(names))
        photos = [_read(image, self._preprocess) for image in given]
        read = {row: photo for row, photo in enumerate(photos) if isinstance(photo, Photo)}
        own = dict(zip(read, self._segmented(read, places, true, names), strict=True))
        assert self._preprocess is not None  # of images that are no inputs
        blank = torch.empty(0)
        if len(read) < len(photos):
            blank = torch.zeros_like(self._preprocess(Image.new("RGB", (64, 64))))
        return _given(
            names,
            [p.inputs if isinstance(p, Photo) else blank for p in photos],
            [own.get(row, (None, "")) for row in range(len(photos))],
            [p.area if isinstance(p, Photo) else (0.0, 0.0, 1.0, 1.0) for p in photos],
            # Masks of inputs are at their places already, also where the photos are as large.
            [
                p.image.size[::-1] if isinstance(p, Photo) and not self._masks_inputs else None
                for p in photos
            ],
            ["" if isinstance(p, Photo) else p for p in photos],
        )

    def _segmented(
        self,
        read: Mapping[int, Photo],
        places: Sequence[int],
        true: Sequence[int],
        names: list[str],
    ) -> list[tuple[Tensor | None, str]]:
        if not read:
            return []
        if self._masks_inputs:
            inputs = torch.stack([photo.inputs for photo in read.values()])
            return list(self._segmenter.of_inputs(inputs))
        if callable(self._segmenter):
            asked = [self._names[true[row]] if self._names else str(true[row]) for row in read]
            found = self._segmenter(
                [photo.image for photo in read.values()], asked, [names[row] for row in read]
            )
            return [(each.mask, each.status) for each in found]
        return [(self._segmenter[places[row]], "") for row in read]

    def _checked(self, segmenter: Any) -> Any:
        """Masks, one an image; or what is asked for them."""
        if hasattr(segmenter, "of_inputs"):
            return segmenter
        if callable(segmenter):
            if self._are_inputs and self._preprocess is None:
                raise TypeError(
                    f"segmenter: {type(segmenter).__name__} looks at photos, got a tensor of "
                    "inputs; give preprocess, too, so that they can be shown, or the photos"
                )
            return segmenter
        masks: Any = segmenter if isinstance(segmenter, Tensor) else None
        if masks is None and isinstance(segmenter, Sequence) and not isinstance(segmenter, str):
            masks = [torch.as_tensor(mask) for mask in segmenter]
        if masks is None:
            raise TypeError(
                "segmenter: expected masks (B, H, W), a sequence of them, or a Segmenter, got "
                f"{type(segmenter).__name__}"
            )
        if len(masks) != len(self):
            raise ValueError(f"segmenter: expected {len(self)} masks, got {len(masks)}")
        for place, mask in enumerate(masks):
            check_masks(mask, f"segmenter[{place}]")
        return masks


def as_seen(mask: Tensor, area: Area, size: tuple[int, int]) -> Tensor:
    """A mask of a photo as a model's input shows it: each pixel is the nearest of the photo's.

    Args:
        mask: (H, W) bool, at the photo's size.
        area: Left, top, right and bottom of what the input shows, in pixels of the photo.
        size: Height and width of the input.

    Returns:
        (height, width) bool, False beyond the photo.

    Example:
        >>> import torch
        >>> from cci_captum.diagnosis.sources import as_seen
        >>> as_seen(torch.tensor([[True, False]]), (-1, 0, 3, 1), (1, 4))  # padded left and right
        tensor([[False,  True, False, False]])
    """
    left, top, right, bottom = area
    return _looked_up(mask, (top, left), (bottom - top, right - left), size)


def as_photo(mask: Tensor, area: Area, size: tuple[int, int]) -> Tensor:
    """A mask of a model's input on the photo that it shows a part of; undoes `as_seen`.

    Args:
        mask: (H, W) bool, at the input's size.
        area: Left, top, right and bottom of what the input shows, in pixels of the photo.
        size: Height and width of the photo.

    Returns:
        (height, width) bool, False where the input does not show the photo.

    Example:
        >>> import torch
        >>> from cci_captum.diagnosis.sources import as_photo
        >>> as_photo(torch.tensor([[True, False]]), (1, 0, 3, 1), (1, 4))
        tensor([[False,  True, False, False]])
    """
    left, top, right, bottom = area
    tall, wide = mask.shape[0] / (bottom - top), mask.shape[1] / (right - left)
    return _looked_up(mask, (-top * tall, -left * wide), (size[0] * tall, size[1] * wide), size)


def _looked_up(
    mask: Tensor, start: tuple[float, float], length: tuple[float, float], size: tuple[int, int]
) -> Tensor:
    """The pixels nearest to the middles of so many cells of a rectangle; False beyond the mask."""
    axes = []
    for first, side, count, pixels in zip(start, length, size, mask.shape, strict=True):
        index = np.floor(first + (np.arange(count) + 0.5) * (side / count)).astype(np.int64)
        axes.append((index.clip(0, pixels - 1), (index >= 0) & (index < pixels)))
    (rows, in_rows), (columns, in_columns) = axes
    there = torch.from_numpy(in_rows[:, None] & in_columns[None])
    found = mask[torch.from_numpy(rows)][:, torch.from_numpy(columns)]
    return found & there.to(found.device)


def _read(image: Any, preprocess: Any) -> Photo | str:
    """A photo, or why it cannot be read."""
    try:
        return read_photos([image], preprocess)[0]
    except (OSError, ValueError) as error:
        return str(error)


def _given(
    names: list[str],
    inputs: list[Tensor],
    found: list[tuple[Tensor | None, str]],
    areas: list[Area],
    sizes: Sequence[tuple[int, int] | None],
    statuses: list[str],
) -> Given:
    size = (inputs[0].shape[1], inputs[0].shape[2])
    masks, read = [], [not status for status in statuses]
    for row, (mask, status) in enumerate(found):
        statuses[row] = statuses[row] or status
        if mask is None:
            masks.append(torch.zeros(size, dtype=torch.bool))
            statuses[row] = statuses[row] or "no mask"
        elif tuple(mask.shape) == size and sizes[row] != size:
            masks.append(mask.cpu())
        elif tuple(mask.shape) == (sizes[row] or size):
            masks.append(as_seen(mask.cpu(), areas[row], size))
        else:
            raise ValueError(
                f"segmenter: expected a mask of {sizes[row] or size} pixels, as {names[row]} has, "
                f"got {tuple(mask.shape)}"
            )
    return Given(names, torch.stack(inputs), torch.stack(masks), statuses, read)
