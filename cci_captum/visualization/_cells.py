"""The picture inside one cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ..attribution.field_of_view import FieldOfView, place
from ._inputs import Array
from ._page import DIVERGING, INK

_SHARP = 256  # pixels: a smaller image is enlarged, so that borders between patches look sharp


def sharpened(picture: Array) -> Array:
    """A picture (H, W, 3) smoothly enlarged by a whole factor, unless it is large enough."""
    factor = -(-_SHARP // max(picture.shape[:2]))
    if factor == 1:
        return picture
    size = (picture.shape[0] * factor, picture.shape[1] * factor)
    return np.stack([_resize(c, size, "bicubic") for c in np.moveaxis(picture, -1, 0)], -1).clip(
        0, 1
    )


def backdrop(picture: Array, strength: float) -> Array:
    """The brightness (H, W) of a picture (H, W, 3), pulled towards white unless strength is 1."""
    return 1 - strength * (1 - picture @ np.array([0.299, 0.587, 0.114]))


def paint(
    grey: Array, values: Array, interpolation: str = "nearest", colours: Colormap = DIVERGING
) -> Array:
    """The colours of values (h, w), full at -1 and 1, times grey (H, W): (H, W, 3)."""
    mode = "nearest-exact" if interpolation == "nearest" else interpolation
    enlarged = _resize(values, grey.shape, mode)
    return np.asarray(colours((enlarged + 1) / 2)[..., :3] * grey[..., None])


def placed(values: Array, size: tuple[int, ...], box: Sequence[float] | None, mode: str) -> Array:
    """Values (h, w) in a picture of this size (H, W): where a box lies, as shares of it, or all."""
    if box is None:
        return values
    height, width = size
    view = FieldOfView.of_box([e * s for e, s in zip(box, (width, height) * 2, strict=True)])
    return np.asarray(place(torch.from_numpy(values)[None], (height, width), mode, view)[0].numpy())


def contour(axes: Axes, mask: NDArray[np.bool_], size: tuple[int, ...]) -> None:
    """Draw the border of a mask (h, w) as a dashed line over a picture of this size (H, W)."""
    edged = np.pad(mask, 1).astype(float)  # so that a border at the edge is closed
    rows, columns = (
        (np.arange(n + 2) - 0.5) * s / n - 0.5 for n, s in zip(mask.shape, size[:2], strict=True)
    )
    lines = axes.contour(columns, rows, edged, [0.5], colors=INK, linewidths=0.8, linestyles="--")
    lines.set(path_effects=[withStroke(linewidth=1.5, foreground="white")])
    axes.set(xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))


def show(axes: Axes, picture: Array) -> None:
    """Put a picture into axes without ticks, in a thin frame."""
    axes.imshow(picture)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.4, color=INK)


def _resize(values: Array, size: tuple[int, ...], mode: str) -> Array:
    align = None if mode.startswith("nearest") else False
    batch = torch.from_numpy(values.copy())[None, None]
    resized = torch.nn.functional.interpolate(batch, size, mode=mode, align_corners=align)
    return np.asarray(resized[0, 0].numpy())
