"""Pictures under homographies, small ones without steps at their edges; and how holes are filled.

Layers are float32 (C, n, n) and cover the square from -1 to 1, x to the right and y down: the
outer edge of the first pixel is at -1, that of the last one at 1.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Box = tuple[int, int, int, int]
"""Pixels of a picture: left, top, right and bottom, the last two not among them."""

_MOST = 8  # samples a pixel and direction


def transformed(matrix: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where points go by a homography.

    Args:
        matrix: (3, 3).
        points: (N, 2).

    Returns:
        (N, 2) float64.

    Example:
        >>> transformed(np.diag([0.5, 1.0, 1.0]), np.array([[1.0, 1.0]])).tolist()
        [[0.5, 1.0]]
    """
    moved = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ matrix.T
    return moved[:, :2] / moved[:, 2:]


def warp(
    layer: Tensor,
    matrix: NDArray[np.float64],
    size: int,
    outside: Literal["zeros", "border", "reflection"] = "reflection",
    box: Box | None = None,
) -> Tensor:
    """A layer under a homography, as a picture of another size.

    Where the layer gets smaller it is averaged first, by whole factors, and then sampled several
    times a pixel, so that nothing is skipped; else it is interpolated linearly.

    Args:
        layer: (C, n, n).
        matrix: (3, 3), from a point of the layer to where it is in the picture.
        size: Height and width of the picture.
        outside: What is beyond the layer's edge: nothing, its last pixels, or its mirror image.
        box: The part of the picture to make; None is the whole.

    Returns:
        (C, bottom - top, right - left) float32.

    Example:
        >>> layer = torch.arange(4.0).reshape(1, 2, 2)
        >>> warp(layer, np.diag([-1.0, 1.0, 1.0]), 2).tolist()
        [[[1.0, 0.0], [3.0, 2.0]]]
    """
    box = (0, 0, size, size) if box is None else box
    key = np.ascontiguousarray(matrix, dtype=np.float64).tobytes()
    factor, times, places = _samples(key, size, box, layer.shape[-1])
    if factor > 1:
        layer = F.adaptive_avg_pool2d(layer, math.ceil(layer.shape[-1] / factor))
    found = F.grid_sample(layer[None], places, padding_mode=outside, align_corners=False)
    return F.avg_pool2d(found, times)[0]


def box_of(points: NDArray[np.float64], size: int, margin: int) -> Box | None:
    """The pixels of a picture around some points, or None where none is.

    Args:
        points: (N, 2) in the picture's coordinates.
        size: Height and width of the picture.
        margin: Pixels on each side.

    Example:
        >>> box_of(np.array([[-1.0, -1.0], [0.0, 0.0]]), 8, 1)
        (0, 0, 5, 5)
    """
    pixels = (points + 1) / 2 * size
    low = np.maximum(np.floor(pixels.min(axis=0)) - margin, 0).astype(int)
    high = np.minimum(np.ceil(pixels.max(axis=0)) + margin, size).astype(int)
    if (low >= high).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def filled(picture: Tensor, known: Tensor) -> Tensor:
    """A picture with what is not known filled from around it, smoothly (push and pull).

    Known pixels are averaged into ever smaller pictures, two by two, until all pixels of one are
    known; then each picture's unknown pixels are interpolated linearly from the next smaller one.

    Args:
        picture: (C, n, n).
        known: (n, n) bool.

    Returns:
        (C, n, n); known pixels are as they were.

    Raises:
        ValueError: If no pixel is known.

    Example:
        >>> known = torch.tensor([[True, False], [False, False]])
        >>> filled(torch.full((1, 2, 2), 7.0), known).tolist()
        [[[7.0, 7.0], [7.0, 7.0]]]
    """
    if not known.any():
        raise ValueError("known: expected at least one pixel that is known, got none")
    levels = [(picture, known)]
    while not levels[-1][1].all():
        colours, there = levels[-1]
        weights = there.to(colours.dtype)[None]
        odd = colours.shape[-1] % 2
        pad = (0, odd, 0, odd)
        sums = F.avg_pool2d(F.pad(colours * weights, pad), 2)
        counts = F.avg_pool2d(F.pad(weights, pad), 2)
        levels.append((sums / counts.clamp(min=0.25), counts[0] > 0))
    found = levels.pop()[0]
    for colours, there in reversed(levels):
        side = colours.shape[-1]
        wide = F.interpolate(found[None], scale_factor=2, mode="bilinear", align_corners=False)
        found = torch.where(there, colours, wide[0, :, :side, :side])
    return found


def blurred(layer: Tensor, sigma: float) -> Tensor:
    """A layer under a Gaussian of sigma pixels, cut off at four; its last pixels go on beyond it.

    Args:
        layer: (C, n, n).
        sigma: 0 or more.

    Example:
        >>> blurred(torch.eye(3)[None], 0.0).tolist() == torch.eye(3)[None].tolist()
        True
    """
    if sigma <= 0:
        return layer
    reach = math.ceil(4 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    kernel = (line / line.sum()).to(layer.dtype)
    wide = F.pad(layer[:, None], (reach,) * 4, mode="replicate")
    across = F.conv2d(wide, kernel.reshape(1, 1, 1, -1))
    return F.conv2d(across, kernel.reshape(1, 1, -1, 1))[:, 0]


def grown(mask: Tensor, pixels: int) -> Tensor:
    """A mask (n, n) bool with so many pixels more on every side; fewer where pixels is negative.

    Example:
        >>> grown(torch.eye(5).bool(), 1).sum(), grown(torch.ones(5, 5).bool(), -1).sum()
        (tensor(19), tensor(25))
    """
    if not pixels:
        return mask
    values = (mask if pixels > 0 else ~mask).float()[None, None]
    wide = F.max_pool2d(values, 2 * abs(pixels) + 1, 1, abs(pixels))[0, 0] > 0
    return wide if pixels > 0 else ~wide


@lru_cache(maxsize=32)  # the same for many pictures
def _samples(key: bytes, size: int, box: Box, side: int) -> tuple[int, int, Tensor]:
    """By how much a layer is to be averaged, samples a pixel and direction, and where they are."""
    left, top, right, bottom = box
    back = np.asarray(np.linalg.inv(np.frombuffer(key).reshape(3, 3)), dtype=np.float64)
    least, most = _shrinking(back, size, box, side)
    factor = max(math.floor(least), 1)
    times = min(max(math.ceil(most / factor), 1), _MOST)
    x = (np.arange(left * times, right * times) + 0.5) * 2 / (size * times) - 1
    y = (np.arange(top * times, bottom * times) + 0.5) * 2 / (size * times) - 1
    under = [row[0] * x[None, :] + row[1] * y[:, None] + row[2] for row in back]
    places = np.stack([under[0] / under[2], under[1] / under[2]], axis=-1).astype(np.float32)
    return factor, times, torch.from_numpy(places)[None]


def _shrinking(back: NDArray[np.float64], size: int, box: Box, side: int) -> tuple[float, float]:
    """Pixels of the layer a pixel of the picture, the least and the most, over a box."""
    left, top, right, bottom = box
    x, y = np.meshgrid(np.linspace(left, right, 5), np.linspace(top, bottom, 5))
    points = np.stack([x.ravel(), y.ravel()], axis=1) * 2 / size - 1
    step = 1.0 / size
    found = []
    for move in ((step, 0.0), (0.0, step)):
        ends = [transformed(back, points + sign * np.array(move)) for sign in (-0.5, 0.5)]
        found.append((ends[1] - ends[0]) / step)
    jacobian = np.stack(found, axis=-1) * side / size
    values = np.linalg.svd(jacobian, compute_uv=False)
    return float(values.min()) + 1e-6, float(values.max()) - 1e-6
