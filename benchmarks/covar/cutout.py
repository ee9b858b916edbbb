"""Objects cut out of photos, and what may be behind them: what all images of a photo share."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .design import CONTROLS
from .warping import Box, blurred, filled, grown, transformed, warp

LARGER = 3
"""How many times as large as its images a photo stays, at most: none needs more."""

STILL = np.eye(3)
"""The homography that moves nothing."""

_RIM = 0.02  # of a photo's side, around an object, that is filled with it
_BLUR = 0.08  # of a photo's side, sigma of the control "blurred"
_SMALL = 96  # pixels a side of what is blurred


@dataclass(frozen=True, eq=False)
class Background:
    """What is to be behind an object.

    Attributes:
        name: Of it.
        picture: Of mode "RGB" and any size: its central square is taken. An editor may do without.
        text: What it shows in words, for editors that are told; "" is its name.
    """

    name: str
    picture: Image.Image | None = None
    text: str = ""

    @cached_property
    def layer(self) -> Tensor:
        """The central square, (3, n, n) float32 from 0 to 1."""
        if self.picture is None:
            raise ValueError(f"background: expected a picture of {self.name!r}, got none")
        return layer_of(self.picture.crop(_central(self.picture.size)))

    @cached_property
    def _renders(self) -> dict[tuple[int, bytes], Tensor]:
        return {}

    def under(self, matrix: NDArray[np.float64], size: int) -> Tensor:
        """As a picture (3, size, size) under a homography; beyond its edge is its mirror image."""
        key = (size, matrix.tobytes())
        if key not in self._renders:
            if len(self._renders) > 12:
                self._renders.clear()
            self._renders[key] = warp(self.layer, matrix, size)
        return self._renders[key]


class Moved(NamedTuple):
    """An object where a transformation puts it, whatever is behind it.

    Attributes:
        box: The part of the picture around it; None where it has left the picture.
        alpha: (1, h, w) float32 over the box.
        colours: (3, h, w) float32 over the box.
        mask: (size, size) bool.
        visible: Which share of it is within the picture.
    """

    box: Box | None
    alpha: Tensor
    colours: Tensor
    mask: NDArray[np.bool_]
    visible: float


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object in the square of a photo, as all images of it need it.

    Attributes:
        picture: (3, n, n) float32 from 0 to 1.
        mask: (n, n) bool.
        moved: The object where transformations put it, as it was made for one background.
    """

    picture: Tensor
    mask: Tensor
    moved: dict[Hashable, Moved] = field(default_factory=dict)
    _grounds: dict[str, Background] = field(default_factory=dict)

    @classmethod
    def of(cls, photo: Image.Image, mask: NDArray[np.bool_], size: int | None = None) -> Cutout:
        """Of a photo and the mask of its object, cut to a square.

        Args:
            photo: Of mode "RGB".
            mask: (H, W) bool, as large as the photo.
            size: Of the images that it is for: a square of more than `LARGER` times that is made
                as small. None leaves it.

        Raises:
            ValueError: If they differ in size, or nothing of the object is in the square.
        """
        if mask.shape != (photo.height, photo.width):
            raise ValueError(
                f"mask: expected {photo.width} x {photo.height} pixels, as the photo, got "
                f"{mask.shape[1]} x {mask.shape[0]}"
            )
        box = square_around(mask)
        inside = mask[box[1] : box[3], box[0] : box[2]]
        if size is not None and len(inside) > LARGER * size:
            values = Image.fromarray(inside.astype(np.uint8) * 255)
            small = values.resize((LARGER * size,) * 2, Image.Resampling.BOX)
            inside = np.asarray(small) >= 128
            if not inside.any():  # thin as it is everywhere
                inside = np.asarray(small) > 0
            picture = shrunk(photo.crop(box), size)
            return cls(layer_of(picture), torch.from_numpy(inside))
        return cls(layer_of(photo.crop(box)), torch.from_numpy(np.ascontiguousarray(inside)))

    @cached_property
    def box(self) -> tuple[tuple[float, float], float, NDArray[np.float64]]:
        """Centre and half of the longer side of the object's box, and its corners (4, 2)."""
        rows, columns = (np.flatnonzero(self.mask.any(dim=axis).numpy()) for axis in (1, 0))
        side = self.mask.shape[0]
        left, right = columns[0] * 2 / side - 1, (columns[-1] + 1) * 2 / side - 1
        top, bottom = rows[0] * 2 / side - 1, (rows[-1] + 1) * 2 / side - 1
        corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
        centre = ((left + right) / 2, (top + bottom) / 2)
        return centre, max(right - left, bottom - top) / 2, corners

    @cached_property
    def colours(self) -> Tensor:
        """(3, n, n): the object's colours, continued beyond its edge from a pixel inside it."""
        core = grown(self.mask, -1)
        return filled(self.picture, core if core.any() else self.mask)

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """(N, 2): centres of the object's pixels."""
        y, x = np.nonzero(self.mask.numpy())
        side: int = self.mask.shape[0]
        return (np.stack([x, y], axis=1) + 0.5) * 2 / side - 1

    @cached_property
    def colour_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the object's channels, (3,) each."""
        own = self.picture[:, self.mask].double()
        return own.mean(dim=1), own.std(dim=1, correction=0)

    def control(self, name: str) -> Background:
        """The background of a control; see `CONTROLS`.

        Raises:
            ValueError: If it is none, or the object fills the whole photo.
        """
        if name not in CONTROLS:
            raise ValueError(f"control: expected one of {', '.join(CONTROLS)}, got {name!r}")
        if name not in self._grounds:
            self._grounds[name] = Background(name, image_of(self._control(name)))
        return self._grounds[name]

    def _control(self, name: str) -> Tensor:
        side = self.mask.shape[0]
        if name == "same":
            return self.picture
        if self.mask.all():
            raise ValueError("mask: expected some background, got an object everywhere")
        if name == "mean":
            mean = self.picture[:, ~self.mask].double().mean(dim=1).float()
            return mean[:, None, None].expand_as(self.picture)
        known = ~grown(self.mask, max(round(_RIM * side), 1))
        plain = filled(self.picture, known if known.any() else ~self.mask)
        if name == "inpainted":
            return plain
        if side > _SMALL:  # a blur this wide needs no more
            plain, side = F.adaptive_avg_pool2d(plain, _SMALL), _SMALL
        return blurred(plain, _BLUR * side)


def square_around(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The largest square of a photo, as central as it may be to hold its object.

    Args:
        mask: (H, W) bool.

    Returns:
        Left, top, right and bottom in pixels. An object that is longer than the square is in its
        middle.

    Raises:
        ValueError: If there is no object.

    Example:
        >>> mask = np.zeros((10, 30), bool)
        >>> mask[4:6, 22:26] = True
        >>> square_around(mask)
        (16, 0, 26, 10)
    """
    if not mask.any():
        raise ValueError("mask: expected an object, got none")
    high, wide = mask.shape
    side = min(high, wide)
    starts = []
    for axis, length in ((0, wide), (1, high)):
        there = np.flatnonzero(mask.any(axis=axis))
        first, last = int(there[0]), int(there[-1]) + 1
        start = (length - side) // 2
        if last - first > side:
            start = (first + last - side) // 2
        else:
            start = min(max(start, last - side), first)
        starts.append(min(max(start, 0), length - side))
    return starts[0], starts[1], starts[0] + side, starts[1] + side


def visible_share(
    matrix: NDArray[np.float64], cutout: Cutout, corners: NDArray[np.float64]
) -> float:
    """The share of an object's pixels that are within the picture where a homography puts them.

    Args:
        matrix: (3, 3).
        cutout: Has the object.
        corners: Of the object's box, (4, 2), where they go.
    """
    if (np.abs(corners) <= 1).all():
        return 1.0
    return float((np.abs(transformed(matrix, cutout.points)) <= 1).all(axis=1).mean())


def shrunk(picture: Image.Image, size: int) -> Image.Image:
    """A picture whose shorter side is at most `LARGER` times the size of the images it is for."""
    side = min(picture.size)
    if side <= LARGER * size:
        return picture
    factor = LARGER * size / side
    wide, high = (max(round(length * factor), LARGER * size) for length in picture.size)
    return picture.resize((wide, high), Image.Resampling.LANCZOS)


def layer_of(picture: Image.Image) -> Tensor:
    """A picture as (3, H, W) float32 from 0 to 1."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.float32))
    return pixels.permute(2, 0, 1).contiguous() / 255


def image_of(layer: Tensor) -> Image.Image:
    """A layer (3, H, W) in 8 bits."""
    pixels = (layer * 255).round().clamp(0, 255).byte()
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def _central(size: tuple[int, int]) -> tuple[int, int, int, int]:
    wide, high = size
    side = min(size)
    left, top = (wide - side) // 2, (high - side) // 2
    return left, top, left + side, top + side
