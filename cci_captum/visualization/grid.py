"""A grid of attribution maps: one row an image, one column a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure, SubFigure

from ._cells import Interpolation, Look, Style
from ._drawing import ROUNDED, Drawing
from ._grid_layout import GridLayout, GridTexts, captions_of
from ._inputs import (
    check_canvas,
    check_shapes,
    positive_number,
    to_boxes,
    to_images,
    to_maps,
    to_masks,
    to_outlines,
    to_texts,
)
from ._lettering import Lettering
from ._page import DIVERGING, GAP, Page, label_axes, root_of, size_of
from ._scaling import Scale, ticks_of

_IMAGE = "image"  # the first column
_CELL_WIDTH = 1.5  # inches
_LABELS = {  # beside the colour bar, upwards; the first that fits
    "heat": ("opposes   supports", "attribution"),
    "spotlight": ("shown as it supports", "supports"),
}


def attribution_grid(
    images: Any,
    maps: Mapping[str, Any],
    *,
    titles: Sequence[str] | None = None,
    row_titles: Sequence[str] | None = None,
    scores: Mapping[str, Any] | None = None,
    scale: Scale = "per-map",
    interpolation: Interpolation = "nearest",
    floor: float | Mapping[str, Any] | None = None,
    style: Style = "heat",
    image_strength: float | None = None,
    cell_width: float = _CELL_WIDTH,
    width: float | None = None,
    cmap: str | Colormap = DIVERGING,
    fields_of_view: Sequence[Sequence[float]] | None = None,
    masks: Any = None,
    outlines: Mapping[str, Any] | None = None,
    unit: str | None = None,
    image_column: bool = True,
    colorbar: bool = True,
    font_size: float | None = None,
    math: bool = False,
    fig: Figure | SubFigure | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show attribution maps next to their images: a row an image, a column a method.

    Colours are centred on zero: white where the map is zero, red where it is positive (the region
    supports the target), blue where it is negative (it speaks against it). Captum's own
    `visualize_image_attr` has red for negative and green for positive values. The image shows
    through as brightness. Or the image is dimmed where a map is low: see style.

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
        interpolation: How small maps are enlarged, "nearest", "bilinear" or "bicubic".
        style: "heat", colours over the image; or "spotlight", the image itself, as it is where a
            map has its largest value (or that of scale), darker the lower the map is, and darkest
            where it is zero, negative or not known. A spotlight has no colours of its own, and
            scale asks for positive values alone.
        image_strength: Of heat, from 0 (the map only) to 1 (the image at full contrast); of a
            spotlight, what is left of the image's brightness where it is darkest. None is 0.55
            and 0.2.
        cell_width: Width of a cell in inches.
        width: Width of the whole figure in inches instead, such as 3.25 for a column of a paper.
        cmap: Colours of heat from -1 over 0 to 1: a matplotlib colormap or its name.
        fields_of_view: Of each image the rectangle that its maps show: left, top, right, bottom in
            its pixels, beyond it where the model's input was padded. None: all of it, and maps
            whose shape cannot be that of the whole image are refused.
        masks: (B, H, W) bool, or a list of B masks (H, W), whose borders are drawn dashed over
            the maps, in each image's own proportions.
        outlines: Column name -> (B, h, w) bool, or a list of B masks (h, w) or None, outlined with
            a solid line along the borders of their own cells. As maps, they show fields_of_view.
        unit: Of the maps' values, such as "drop": below each map stands its strongest value, with
            this; "" for the number alone, None for nothing.
        image_column: Whether the images are a column of their own, the first.
        colorbar: Whether there is a colour bar; that of a spotlight goes from dark to light.
        font_size: Of all texts, in points; None: titles of 9, the colour bar's of 7, others of 8.
        math: Whether text between dollar signs is mathematics, as matplotlib has it.
        fig: A figure, or a part of one, to draw into: the grid is as large as it has room for, in
            its middle. Nothing else in it changes.
        ax: Axes to draw into, of one image and one map: the map alone, measured in pixels of the
            image, with its title as that of the axes and what else stands beside and below a cell
            as their labels, in their own fonts unless font_size is given. Nothing else in their
            figure changes. There is no colour bar; `fig.colorbar(ax.images[-1], ax=ax)` makes one.

    Returns:
        The figure; `figure.savefig("grid.pdf")` writes it, and a notebook shows it. With fig or
        ax the one that they belong to.

    Raises:
        TypeError: If an argument is of a type that is not listed above.
        ValueError: If shapes, lengths, names or values do not fit, a map has NaN, the width or fig
            leaves no room, or a formula cannot be read.

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
    look = Look.of(style, image_strength, cmap, interpolation)
    positive_number("cell_width", cell_width)
    check_canvas(fig, ax, width)
    lettering = Lettering.of(font_size, math)
    values = [to_maps(name, column, rows) for name, column in maps.items()]
    drawing = Drawing(
        pictures,
        values,
        look,
        to_boxes(fields_of_view, pictures),
        None if masks is None else to_masks(masks, rows),
        to_outlines({} if outlines is None else outlines, [*maps], rows),
        [*maps],
    )
    if fields_of_view is None:
        for name, own in zip(maps, values, strict=True):
            check_shapes(f"maps[{name!r}]", own, pictures)
        for name, regions in drawing.outlines.items():
            check_shapes(f"outlines[{name!r}]", regions, pictures)
    columns = [_IMAGE, *maps]
    captions = captions_of(scores or {}, columns, rows)
    notes = drawing.scaled(maps, floor, scale, unit)
    for column, row in np.ndindex(len(maps), rows):
        lines = [captions[column + 1][row], notes[column][row]]
        captions[column + 1][row] = "\n".join(filter(None, lines))
    heads = to_texts("titles", titles, len(columns)) or columns
    sides = to_texts("row_titles", row_titles, rows)
    if ax is not None:
        if rows != 1 or len(maps) != 1:
            raise ValueError(
                f"ax: expected one image and one map, got {rows} and {len(maps)}; a whole grid "
                "goes into fig"
            )
        drawing.cell(ax, 0, 0)
        label_axes(ax, heads[1], "".join(sides), captions[1][0], lettering, font_size)
        return root_of(ax.figure)
    first = 0 if image_column else 1
    texts = GridTexts(
        heads[first:],
        sides,
        captions[first:],
        ticks_of(style, scale, drawing.full) if colorbar else None,
    )
    shapes = [picture.shape[:2] for picture in pictures]
    if fig is not None:
        layout = GridLayout.within(shapes, texts, lettering, size_of(fig))
    elif width is not None:
        layout = GridLayout.of_width(shapes, texts, lettering, width)
    else:
        layout = GridLayout.of(shapes, texts, lettering, cell_width)
    page = Page(layout.width, layout.height, lettering, fig)
    _draw(page, layout, texts, drawing, first)
    return page.finished()


def _draw(page: Page, layout: GridLayout, texts: GridTexts, drawing: Drawing, first: int) -> None:
    """Put the cells from the first column on, and the texts around them, on a page."""
    lettering, look = page.lettering, drawing.look
    cell_width, cell_height, top = layout.cell_width, layout.cell_height, layout.top
    for place, head in enumerate(layout.heads):
        centre = layout.left + place * (cell_width + GAP) + cell_width / 2
        above = top - 0.05 - lettering.height(head, lettering.title)
        page.text(centre, above, head, lettering.title, "center")
    if texts.ticks is not None:
        height, labels = min(cell_height, 2.0), _LABELS[look.style]
        page.colorbar(layout.right + 0.04, top, height, look.colours, texts.ticks, labels)
    for row, row_height in enumerate(layout.row_heights):
        if layout.sides:
            page.row_title(layout.left - GAP, top, cell_height, layout.sides[row])
        for place, feet in enumerate(layout.feet):
            x = layout.left + place * (cell_width + GAP)
            axes = page.axes(x, top, cell_width, cell_height)
            column = place + first - 1
            if column < 0:
                drawing.image(axes, row)
            else:
                drawing.cell(axes, column, row)
            below = top + cell_height + 0.02
            page.text(x + cell_width / 2, below, feet[row], lettering.label, "center")
        top += row_height + GAP


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
    captions = captions_of(scores, names, len(sizes))
    captions[1:] = [[f"{text}\n{ROUNDED}" for text in column] for column in captions[1:]]
    ticks = ticks_of("heat", "per-map", np.zeros(1))
    texts = GridTexts(titles, row_titles, captions, ticks)
    layout = GridLayout.of(sizes, texts, Lettering(), cell_width)
    return layout.width, layout.height
