"""The picture inside one cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from .._colours import LUMINANCE
from .._regions import outline
from ..attribution.field_of_view import FieldOfView, place
from ._inputs import Array, to_colormap
from ._lettering import INCH
from ._page import DIVERGING, INK

Style = Literal["heat", "spotlight"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]

_SHARP = 256  # pixels: a smaller image is enlarged, so that borders between patches look sharp
_STRENGTHS: dict[Style, float] = {"heat": 0.55, "spotlight": 0.2}


class Look(NamedTuple):
    """How a map and its image make one picture."""

    style: Style
    strength: float
    colours: Colormap  # of the colour bar, from its lower to its upper end
    interpolation: Interpolation

    @classmethod
    def of(cls, style: Style, strength: float | None, cmap: object, interpolation: str) -> Look:
        """The look that a caller asks for, or an error that says what is wrong with it."""
        if style not in _STRENGTHS:
            raise ValueError(f"style: expected 'heat' or 'spotlight', got {style!r}")
        if interpolation not in get_args(Interpolation):
            raise ValueError(
                f"interpolation: expected one of {get_args(Interpolation)}, got {interpolation!r}"
            )
        strength = _STRENGTHS[style] if strength is None else strength
        if not 0 <= strength <= 1:
            raise ValueError(f"image_strength: expected 0 to 1, got {strength}")
        colours = to_colormap(cmap)
        if style == "spotlight":
            ends = [(strength,) * 3, (1.0,) * 3]
            colours = LinearSegmentedColormap.from_list("cci_spotlight", ends)
        return cls(style, strength, colours, interpolation)  # type: ignore[arg-type]

    def painted(self, picture: Array, values: Array, box: Sequence[float] | None) -> Array:
        """A picture (H, W, 3) under values (h, w), full at -1 and 1, that lie in a box of it."""
        values = placed(values, picture.shape[:2], box, self.interpolation)
        if self.style == "heat":
            grey = backdrop(picture, self.strength)
            return paint(grey, values, self.interpolation, self.colours)
        light = enlarged(values, picture.shape[:2], self.interpolation).clip(0, 1)
        return picture * (self.strength + (1 - self.strength) * light)[..., None]

    def norm(self, full: float) -> Normalize:
        """Of values to the colours, which are full at this one."""
        return Normalize(-full if self.style == "heat" else 0.0, full)


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
    return 1 - strength * (1 - picture @ np.array(LUMINANCE))


def paint(
    grey: Array,
    values: Array,
    interpolation: Interpolation = "nearest",
    colours: Colormap = DIVERGING,
) -> Array:
    """The colours of values (h, w), full at -1 and 1, times grey (H, W): (H, W, 3)."""
    shares = (enlarged(values, grey.shape, interpolation) + 1) / 2
    return np.asarray(colours(shares)[..., :3] * grey[..., None])


def enlarged(values: Array, size: tuple[int, ...], interpolation: Interpolation) -> Array:
    """Values (h, w) at this size (H, W)."""
    return _resize(values, size, "nearest-exact" if interpolation == "nearest" else interpolation)


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


def draw_outline(
    axes: Axes,
    mask: NDArray[np.bool_],
    size: tuple[int, ...],
    box: Sequence[float] | None = None,
) -> None:
    """Draw a solid line around a mask (h, w), along the borders of its own cells.

    It is 1.4 points wide, or thinner where cells are so small that it would fill them.

    Args:
        axes: Of a picture.
        mask: True inside.
        size: Height and width of the picture.
        box: Where the mask lies in it, in shares of its width and height; None is all of it.
    """
    lines = to_pixels(outline(mask), mask.shape, size, box)
    cell = np.ptp(to_pixels(np.array([[0.0, 0], [1, 1]]), mask.shape, size, box), axis=0)
    width = min(1.4, 0.2 * points_of(axes, size) * float(cell.min()))
    for colour, share in (("white", 2), (INK, 1)):  # all of the white below all of the line
        drawn = LineCollection(
            list(lines), colors=colour, linewidths=share * width, capstyle="projecting"
        )
        axes.add_collection(drawn, autolim=False)


def points_of(axes: Axes, size: tuple[int, ...]) -> float:
    """Points that a pixel of a picture of this size (H, W) takes in axes."""
    height, width = size[:2]
    return INCH * min(axes.bbox.width / width, axes.bbox.height / height) / axes.figure.figure.dpi


def to_pixels(
    points: Array,
    shape: tuple[int, ...],
    size: tuple[int, ...],
    box: Sequence[float] | None = None,
) -> Array:
    """Points (..., 2) in patches as x and y in the pixels of a picture, whose centres are whole.

    Args:
        points: x and y.
        shape: Rows and columns of patches.
        size: Height and width of the picture.
        box: See `draw_outline`.
    """
    left, top, right, bottom = box or (0.0, 0.0, 1.0, 1.0)
    shares = points / np.array(shape[::-1])
    shares = np.array([left, top]) + shares * np.array([right - left, bottom - top])
    return shares * np.array([size[1], size[0]]) - 0.5


def show(
    axes: Axes,
    picture: Array,
    size: tuple[int, ...],
    colours: Colormap | None = None,
    norm: Normalize | None = None,
) -> None:
    """Put a picture into axes without ticks, in a thin frame.

    Args:
        axes: Measured in pixels of the image from now on.
        picture: What is shown.
        size: Height and width of the image that it shows.
        colours: What a colour bar of the picture shows.
        norm: And of which values.
    """
    height, width = size[:2]
    image = axes.imshow(picture, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    if colours is not None:
        image.set(cmap=colours, norm=norm)  # not used for colours that are given
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.4, color=INK)


def _resize(values: Array, size: tuple[int, ...], mode: str) -> Array:
    align = None if mode.startswith("nearest") else False
    batch = torch.from_numpy(values.copy())[None, None]
    resized = torch.nn.functional.interpolate(batch, size, mode=mode, align_corners=align)
    return np.asarray(resized[0, 0].numpy())
