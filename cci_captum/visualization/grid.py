"""A grid of attribution maps: one row an image, one column a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure

from ._cells import backdrop, enlarge, paint, show
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


def attribution_grid(
    images: Any,
    maps: Mapping[str, Any],
    *,
    titles: Sequence[str] | None = None,
    row_titles: Sequence[str] | None = None,
    scores: Mapping[str, Any] | None = None,
    scale: Scale = "per-map",
    interpolation: Literal["nearest", "bilinear"] = "nearest",
    image_strength: float = 0.55,
    cell_width: float = 1.5,
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
    full = _full_colour(values, scale)
    ticks = _ticks(scale, full)

    # The text of each cell, wrapped, and from it all sizes in inches.
    heads = [
        wrap(text, cell_width, TITLE)
        for text in to_texts("titles", titles, len(columns)) or columns
    ]
    sides = [wrap(text, SIDE, LABEL) for text in to_texts("row_titles", row_titles, rows)]
    feet = [
        [wrap(text, cell_width, LABEL) for text in column]
        for column in _captions(scores or {}, columns, rows)
    ]
    ratio = float(np.median([picture.shape[0] / picture.shape[1] for picture in pictures]))
    cell_height = cell_width * min(max(ratio, 1 / 3), 3)
    head_height = text_height(max(map(len, heads)), TITLE)
    row_heights = [
        max(
            cell_height + text_height(max(len(column[row]) for column in feet), LABEL),
            text_height(len(sides[row]), LABEL) if sides else 0,
        )
        for row in range(rows)
    ]
    left = MARGIN + (widest(sides, LABEL) + GAP if sides else 0)
    right = left + len(columns) * (cell_width + GAP)
    top = MARGIN + head_height + 0.05
    page = Page(
        right + 0.04 + colorbar_width(ticks) + MARGIN,
        top + sum(row_heights) + GAP * (rows - 1) + MARGIN,
    )

    for column, head in enumerate(heads):
        centre = left + column * (cell_width + GAP) + cell_width / 2
        page.text(centre, top - 0.05 - text_height(len(head), TITLE), head, TITLE, "center")
    page.colorbar(right + 0.04, top, min(cell_height, 2.0), ticks)
    for row, picture in enumerate(map(enlarge, pictures)):
        if sides:
            page.row_title(left - GAP, top, cell_height, sides[row])
        grey = backdrop(picture, image_strength)
        for column in range(len(columns)):
            x = left + column * (cell_width + GAP)
            axes = page.axes(x, top, cell_width, cell_height)
            if column == 0:
                show(axes, picture)
            else:
                cell = values[column - 1][row] / full[column - 1, row]
                show(axes, paint(grey, cell, interpolation))
            page.text(
                x + cell_width / 2, top + cell_height + 0.02, feet[column][row], LABEL, "center"
            )
        top += row_heights[row] + GAP
    return page.figure


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


def _full_colour(values: list[list[Array]], scale: Scale) -> Array:
    """The value at which the colours are full, for each column and row: (columns, rows)."""
    largest = np.array([[np.abs(v).max() for v in column] for column in values])
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
