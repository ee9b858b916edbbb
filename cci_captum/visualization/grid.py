"""A grid of attribution maps: one row an image, one column a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ._cells import backdrop, paint, sharpened, show
from ._inputs import Array, positive_number, to_array, to_images, to_maps, to_texts
from ._page import (
    GAP,
    LABEL,
    MARGIN,
    SIDE,
    TITLE,
    Page,
    colorbar_width,
    signed,
    text_height,
    widest,
    wrap,
)

Scale = Literal["per-map", "per-row", "per-column", "shared"] | float

_IMAGE = "image"  # the first column
_CELL_WIDTH = 1.5  # inches
_ROUNDINGS = 16  # in units of the dtype's epsilon: what sums and differences make of one
_SMALLEST = 1e-12
_ZERO, _ROUNDED = "zero everywhere", "zero within rounding"  # below maps that are


def attribution_grid(
    images: Any,
    maps: Mapping[str, Any],
    *,
    titles: Sequence[str] | None = None,
    row_titles: Sequence[str] | None = None,
    scores: Mapping[str, Any] | None = None,
    scale: Scale = "per-map",
    interpolation: Literal["nearest", "bilinear"] = "nearest",
    floor: float | Mapping[str, Any] | None = None,
    image_strength: float = 0.55,
    cell_width: float = _CELL_WIDTH,
) -> Figure:
    """Show attribution maps next to their images: a row an image, a column a method.

    Colours are centred on zero: white where the map is zero, red where it is positive, blue
    where it is negative. The image shows through as brightness.

    Args:
        images: (B, 3, H, W) tensor or (B, H, W, 3) array, floating point in [0, 1] or whole
            numbers in [0, 255]; or a list of images (PIL, (3, H, W) tensors, (H, W, 3)
            arrays), which may differ in size. For the inputs of a model see `denormalize`.
        maps: Column name -> attributions of the B images: (B, h, w), or (B, C, h, w), of which
            the mean over channels is shown (CCI repeats one map over the channels). Maps
            smaller than the images, such as `ClusterEffects.patch_map`, are enlarged.
        titles: Column titles, the image's first; None is "image" and the names in maps.
        row_titles: One title an image, shown left of its row.
        scores: Column name (or "image") -> B numbers or strings, printed below the cells.
        scale: Which maps share the value at which colours are full, their largest absolute
            value: "per-map" (each its own), "per-row", "per-column" or "shared" (all the
            same); or that value itself.
        floor: The largest absolute value that rounding alone can make. A map without a larger one
            is drawn as zero, and the text below it says so. Best known where the map comes from:
            a difference of scores s in float32 is uncertain by some 1e-7 `|s|`. One number, or
            column name -> one or B numbers; 0 draws every map in full colour. None: 16 epsilons
            of the maps' dtype (float32's, where it has fewer digits) of the largest absolute
            value in the column, whose maps have the same unit, but at least 1e-12, which
            differences of scores of about 1 do not reach even in float64 but by rounding.
        interpolation: How small maps are enlarged, "nearest" or "bilinear".
        image_strength: From 0 (the map only) to 1 (the image at full contrast).
        cell_width: Width of a cell in inches.

    Returns:
        The figure; `figure.savefig("grid.pdf")` writes it.

    Raises:
        TypeError: If images or maps are of a type that is not listed above.
        ValueError: If shapes, lengths, names or values do not fit, or a map has NaN.

    Example:
        >>> import torch
        >>> maps = {"one": torch.randn(2, 12, 12), "another": torch.randn(2, 3, 96, 96)}
        >>> figure = attribution_grid(torch.rand(2, 3, 96, 96), maps, scores={"one": [0.7, 0.3]})
        >>> len(figure.axes)  # 2 rows of 3 cells, and the colour bar
        7
    """
    pictures = to_images(images)
    rows = len(pictures)
    if not isinstance(maps, Mapping):
        raise TypeError(f"maps: expected column name -> maps, got {type(maps).__name__}")
    if not maps or _IMAGE in maps:
        raise ValueError(f"maps: expected columns other than {_IMAGE!r}, got {[*maps]}")
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(f"interpolation: expected 'nearest' or 'bilinear', got {interpolation!r}")
    if not 0 <= image_strength <= 1:
        raise ValueError(f"image_strength: expected 0 to 1, got {image_strength}")
    positive_number("cell_width", cell_width)
    columns = [_IMAGE, *maps]
    values = [to_maps(name, column, rows) for name, column in maps.items()]
    largest = np.array([[np.abs(v).max() for v in column] for column in values])
    zero = largest <= _floors(maps, largest, floor)
    full = _full_colour(np.where(zero, 0.0, largest), scale)
    captions = _captions(scores or {}, columns, rows)
    for column, row in np.argwhere(zero):
        note = _ROUNDED if largest[column, row] else _ZERO
        captions[column + 1][row] = f"{captions[column + 1][row]}\n{note}".lstrip()
    layout = _lay_out(
        [picture.shape[:2] for picture in pictures],
        columns,
        to_texts("titles", titles, len(columns)) or columns,
        to_texts("row_titles", row_titles, rows),
        captions,
        _ticks(scale, full),
        cell_width,
    )
    heads, sides, feet, cell_height = layout.heads, layout.sides, layout.feet, layout.cell_height
    left, right, top = layout.left, layout.right, layout.top
    page = Page(layout.width, layout.height)

    for column, head in enumerate(heads):
        centre = left + column * (cell_width + GAP) + cell_width / 2
        page.text(centre, top - 0.05 - text_height(len(head), TITLE), head, TITLE, "center")
    page.colorbar(right + 0.04, top, min(cell_height, 2.0), layout.ticks)
    for row, picture in enumerate(map(sharpened, pictures)):
        if sides:
            page.row_title(left - GAP, top, cell_height, sides[row])
        grey = backdrop(picture, image_strength)
        for column in range(len(columns)):
            x = left + column * (cell_width + GAP)
            axes = page.axes(x, top, cell_width, cell_height)
            if column == 0:
                show(axes, picture)
            else:
                shown = 0.0 if zero[column - 1, row] else 1.0
                cell = shown * values[column - 1][row] / full[column - 1, row]
                show(axes, paint(grey, cell, interpolation))
            page.text(
                x + cell_width / 2, top + cell_height + 0.02, feet[column][row], LABEL, "center"
            )
        top += layout.row_heights[row] + GAP
    return page.finished()


def grid_size(
    sizes: Sequence[tuple[int, int]],
    columns: Sequence[str],
    *,
    titles: Sequence[str],
    row_titles: Sequence[str],
    scores: Mapping[str, Sequence[str]],
    cell_width: float = _CELL_WIDTH,
) -> tuple[float, float]:
    """Width and height in inches that a figure of `attribution_grid` has at most.

    Args:
        sizes: Height and width of each of the B images.
        columns: The names in its maps.
        titles: See `attribution_grid`.
        row_titles: See `attribution_grid`.
        scores: Column name -> B texts, each as long as it will be.
        cell_width: See `attribution_grid`.

    Example:
        >>> size = grid_size(
        ...     [(8, 8)] * 2, ["map"], titles=["image", "map"], row_titles=["a", "b"], scores={}
        ... )
        >>> tuple(round(side, 1) for side in size)
        (4.1, 4.0)
    """
    names = [_IMAGE, *columns]
    captions = _captions(scores, names, len(sizes))
    captions[1:] = [[f"{text}\n{_ROUNDED}" for text in column] for column in captions[1:]]
    ticks = _ticks("per-map", np.zeros(1))
    layout = _lay_out(sizes, names, titles, row_titles, captions, ticks, cell_width)
    return layout.width, layout.height


class _Layout(NamedTuple):
    """The texts around the cells, wrapped, and where everything is in inches."""

    heads: list[list[str]]  # above each column
    sides: list[list[str]]  # left of each row; none if no row has a title
    feet: list[list[list[str]]]  # below each cell, column by column
    ticks: list[str]  # of the colour bar
    cell_height: float
    row_heights: list[float]
    left: float  # of the first cell
    right: float  # of the last cell
    top: float  # of the first row
    width: float
    height: float


def _lay_out(
    sizes: Sequence[tuple[int, ...]],
    columns: Sequence[str],
    titles: Sequence[str],
    row_titles: Sequence[str],
    captions: list[list[str]],
    ticks: list[str],
    cell_width: float,
) -> _Layout:
    """The layout of a row for each of the images' sizes (H, W)."""
    heads = [wrap(text, cell_width, TITLE) for text in titles]
    sides = [wrap(text, SIDE, LABEL) for text in row_titles]
    feet = [[wrap(text, cell_width, LABEL) for text in column] for column in captions]
    ratio = float(np.median([height / width for height, width in sizes]))
    cell_height = cell_width * min(max(ratio, 1 / 3), 3)
    row_heights = [
        max(
            cell_height + text_height(max(len(column[row]) for column in feet), LABEL),
            text_height(len(sides[row]), LABEL) if sides else 0,
        )
        for row in range(len(sizes))
    ]
    left = MARGIN + (widest(sides, LABEL) + GAP if sides else 0)
    right = left + len(columns) * (cell_width + GAP)
    top = MARGIN + text_height(max(map(len, heads)), TITLE) + 0.05
    return _Layout(
        heads=heads,
        sides=sides,
        feet=feet,
        ticks=ticks,
        cell_height=cell_height,
        row_heights=row_heights,
        left=left,
        right=right,
        top=top,
        width=right + 0.04 + colorbar_width(ticks) + MARGIN,
        height=top + sum(row_heights) + GAP * (len(sizes) - 1) + MARGIN,
    )


def _captions(scores: Mapping[str, Any], columns: list[str], rows: int) -> list[list[str]]:
    """What is printed below each cell, by column."""
    unknown = [name for name in scores if name not in columns]
    if unknown:
        raise ValueError(f"scores: expected columns among {columns}, got {unknown}")
    captions = []
    for name in columns:
        column = scores.get(name, [""] * rows)
        column = to_array(column).tolist() if hasattr(column, "ndim") else list(column)
        if len(column) != rows:
            raise ValueError(f"scores[{name!r}]: expected {rows} values, got {len(column)}")
        captions.append([c if isinstance(c, str) else signed(c, 3) for c in column])
    return captions


def _floors(maps: Mapping[str, Any], largest: Array, floor: Any) -> Array:
    """The largest absolute value that counts as zero, for each column and row."""
    if isinstance(floor, Mapping) and (unknown := [name for name in floor if name not in maps]):
        raise ValueError(f"floor: expected columns among {[*maps]}, got {unknown}")
    floors = np.empty_like(largest)
    for row, (name, column) in zip(floors, maps.items(), strict=True):
        given = floor.get(name) if isinstance(floor, Mapping) else floor
        if given is None:
            own = largest[list(maps).index(name)].max()
            row[:] = max(_ROUNDINGS * _epsilon(column) * own, _SMALLEST)
            continue
        numbers = to_array(given).astype(np.float64)
        if numbers.shape not in ((), row.shape) or not (numbers >= 0).all():
            raise ValueError(
                f"floor: expected one or {len(row)} numbers that are not negative, got {given!r}"
            )
        row[:] = numbers
    return floors


def _epsilon(column: Any) -> float:
    """Of the dtype of maps; float32's where it has fewer digits or is no floating point type."""
    double = "float64" in str(getattr(column[0], "dtype", ""))
    return float(np.finfo(np.float64 if double else np.float32).eps)


def _full_colour(largest: Array, scale: Scale) -> Array:
    """The value at which the colours are full, for each column and row: (columns, rows)."""
    if not isinstance(scale, str):
        return np.full_like(largest, positive_number("scale", scale))
    shared_axes = {"per-map": (), "per-row": (0,), "per-column": (1,), "shared": (0, 1)}
    if scale not in shared_axes:
        raise ValueError(f"scale: expected a number or one of {[*shared_axes]}, got {scale!r}")
    full = np.broadcast_to(largest.max(axis=shared_axes[scale], keepdims=True), largest.shape)
    return np.where(full > 0, full, 1.0)  # a map of zeros stays white


def _ticks(scale: Scale, full: Array) -> list[str]:
    """Ticks of the colour bar: its ends are numbers if they are the same for all maps."""
    end = "max" if isinstance(scale, str) and scale != "shared" else f"{full.flat[0]:.2g}"
    return [f"\N{MINUS SIGN}{end}", "0", end]
