"""A grid of attribution maps: one row an image, one column a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from ._cells import backdrop, contour, paint, placed, sharpened, show
from ._inputs import (
    Array,
    check_shapes,
    positive_number,
    to_array,
    to_boxes,
    to_colormap,
    to_images,
    to_maps,
    to_masks,
    to_texts,
)
from ._page import (
    DIVERGING,
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
from ._scaling import Scale, floors, full_colour, ticks_of

_IMAGE = "image"  # the first column
_CELL_WIDTH = 1.5  # inches
_NARROWEST = 0.4  # inches: a cell
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
    width: float | None = None,
    cmap: str | Colormap = DIVERGING,
    fields_of_view: Sequence[Sequence[float]] | None = None,
    masks: Any = None,
    unit: str | None = None,
    image_column: bool = True,
    colorbar: bool = True,
) -> Figure:
    """Show attribution maps next to their images: a row an image, a column a method.

    Colours are centred on zero: white where the map is zero, red where it is positive (the region
    supports the target), blue where it is negative (it speaks against it). Captum's own
    `visualize_image_attr` has red for negative and green for positive values. The image shows
    through as brightness.

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
        width: Width of the whole figure in inches instead, such as 3.25 for a column of a paper.
        cmap: Colours from -1 over 0 to 1: a matplotlib colormap or its name.
        fields_of_view: Of each image the rectangle that its maps show: left, top, right, bottom in
            its pixels, beyond it where the model's input was padded. None: all of it, and maps
            whose shape cannot be that of the whole image are refused.
        masks: (B, H, W) bool, or a list of B masks (H, W), whose borders are drawn dashed over
            the maps, in each image's own proportions.
        unit: Of the maps' values, such as "drop": below each map stands its strongest value, with
            this; "" for the number alone, None for nothing.
        image_column: Whether the images are a column of their own, the first.
        colorbar: Whether there is a colour bar.

    Returns:
        The figure; `figure.savefig("grid.pdf")` writes it, and a notebook shows it.

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
    colours = to_colormap(cmap)
    outlines = None if masks is None else to_masks(masks, rows)
    columns = [_IMAGE, *maps]
    values = [to_maps(name, column, rows) for name, column in maps.items()]
    boxes = to_boxes(fields_of_view, pictures)
    if fields_of_view is None:
        for name, own in zip(maps, values, strict=True):
            check_shapes(f"maps[{name!r}]", own, pictures)
    largest = np.array([[np.abs(v).max() for v in column] for column in values])
    zero = largest <= floors(maps, largest, floor)
    full = full_colour(np.where(zero, 0.0, largest), scale)
    captions = _captions(scores or {}, columns, rows)
    for column, row in np.ndindex(*zero.shape):
        note = [_ROUNDED if largest[column, row] else _ZERO] if zero[column, row] else []
        if unit is not None and not note:
            note = [f"{_strongest(values[column][row])} {unit}".rstrip()]
        captions[column + 1][row] = "\n".join([captions[column + 1][row], *note]).lstrip()
    heads = to_texts("titles", titles, len(columns)) or columns
    first = 0 if image_column else 1
    layout = _lay_out(
        [picture.shape[:2] for picture in pictures],
        heads[first:],
        to_texts("row_titles", row_titles, rows),
        captions[first:],
        ticks_of(scale, full) if colorbar else None,
        cell_width,
        width,
    )
    cell_width, cell_height, top = layout.cell_width, layout.cell_height, layout.top
    page = Page(layout.width, layout.height)

    for place, head in enumerate(layout.heads):
        centre = layout.left + place * (cell_width + GAP) + cell_width / 2
        page.text(centre, top - 0.05 - text_height(len(head), TITLE), head, TITLE, "center")
    if layout.ticks is not None:
        page.colorbar(layout.right + 0.04, top, min(cell_height, 2.0), layout.ticks, colours)
    for row, picture in enumerate(map(sharpened, pictures)):
        if layout.sides:
            page.row_title(layout.left - GAP, top, cell_height, layout.sides[row])
        grey = backdrop(picture, image_strength)
        for place, column in enumerate(range(first, len(columns))):
            x = layout.left + place * (cell_width + GAP)
            axes = page.axes(x, top, cell_width, cell_height)
            if column == 0:
                show(axes, picture)
            else:
                shown = 0.0 if zero[column - 1, row] else 1.0
                cell = shown * values[column - 1][row] / full[column - 1, row]
                cell = placed(cell, grey.shape, boxes[row], interpolation)
                show(axes, paint(grey, cell, interpolation, colours))
                if outlines is not None:
                    contour(axes, outlines[row], grey.shape)
            feet = layout.feet[place][row]
            page.text(x + cell_width / 2, top + cell_height + 0.02, feet, LABEL, "center")
        top += layout.row_heights[row] + GAP
    return page.finished()


def _strongest(map_: Array) -> str:
    """The value of largest absolute value, to three digits."""
    return f"{map_.flat[np.abs(map_).argmax()]:.3g}".replace("-", "\N{MINUS SIGN}")


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
    ticks = ticks_of("per-map", np.zeros(1))
    layout = _lay_out(sizes, titles, row_titles, captions, ticks, cell_width)
    return layout.width, layout.height


class _Layout(NamedTuple):
    """The texts around the cells, wrapped, and where everything is in inches."""

    heads: list[list[str]]  # above each column
    sides: list[list[str]]  # left of each row; none if no row has a title
    feet: list[list[list[str]]]  # below each cell, column by column
    ticks: list[str] | None  # of the colour bar
    cell_width: float
    cell_height: float
    row_heights: list[float]
    left: float  # of the first cell
    right: float  # of the last cell
    top: float  # of the first row
    width: float
    height: float


def _lay_out(
    sizes: Sequence[tuple[int, ...]],
    titles: Sequence[str],
    row_titles: Sequence[str],
    captions: list[list[str]],
    ticks: list[str] | None,
    cell_width: float,
    width: float | None = None,
) -> _Layout:
    """The layout of a row for each of the images' sizes (H, W), a column for each of the titles."""
    sides = [wrap(text, SIDE, LABEL) for text in row_titles]
    left = MARGIN + (widest(sides, LABEL) + GAP if sides else 0)
    beside = 0.0 if ticks is None else 0.04 + colorbar_width(ticks)
    if width is not None:
        least = left + len(titles) * (_NARROWEST + GAP) + beside + MARGIN
        if not least <= width < float("inf"):
            raise ValueError(
                f"width: expected at least {least:.2f} inches for {len(titles)} columns with their "
                f"titles, got {width}"
            )
        cell_width = (width - left - beside - MARGIN) / len(titles) - GAP
    heads = [wrap(text, cell_width, TITLE) for text in titles]
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
    right = left + len(titles) * (cell_width + GAP)
    top = MARGIN + text_height(max(map(len, heads)), TITLE) + 0.05
    return _Layout(
        heads=heads,
        sides=sides,
        feet=feet,
        ticks=ticks,
        cell_width=cell_width,
        cell_height=cell_height,
        row_heights=row_heights,
        left=left,
        right=right,
        top=top,
        width=right + beside + MARGIN,
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
