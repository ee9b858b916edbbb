"""A picture of what hiding each cluster did."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.patheffects import withStroke

from .._regions import borders
from ._cells import backdrop, draw_outline, paint, points_of, sharpened, show, to_pixels
from ._cluster_layout import ClusterLayout, Clusters, narrowest, placed_numbers, without_room
from ._inputs import (
    Array,
    check_canvas,
    check_shapes,
    cut_out,
    positive_number,
    to_array,
    to_boxes,
    to_images,
    to_texts,
)
from ._lettering import Lettering
from ._numbers import Numbers
from ._page import DIVERGING, GAP, INK, Page, label_axes, largest, root_of, size_of
from .strongest import outlined

if TYPE_CHECKING:
    from ..effects import ClusterEffects


def show_clusters(
    effects: ClusterEffects,
    images: Any,
    *,
    target: Any = None,
    row_titles: Sequence[str] | None = None,
    scale: Literal["per-image", "shared"] | float = "per-image",
    cell_width: float = 1.8,
    width: float | None = None,
    fields_of_view: Sequence[Sequence[float]] | None = None,
    outline: bool | Sequence[int] = False,
    font_size: float | None = None,
    math: bool = False,
    fig: Figure | SubFigure | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Show the clusters of each image and how far the output drops when each is hidden.

    A row holds the image, its clusters, and a bar for each cluster, largest drop on top. Red
    clusters support the target (hiding them lowers the output), blue ones speak against it.
    Drops of an image none of which is above `ClusterEffects.rounding` are shown as zero, and said
    to be.
    Clusters have the numbers that the clustering gave them, `effects.clusters`. Where numbers, or
    the values of bars, have no room they get smaller, down to 5 points; where they have none then,
    those of the smallest drops are left out, and a line below says how many.

    Args:
        effects: What `CCI.effects` returned for the B images.
        images: The B images, as in `attribution_grid`.
        target: The output to show, as in `ClusterEffects.drops`.
        row_titles: One title an image, shown left of its row.
        scale: The drop at which colours are full: "per-image" (the image's own largest
            absolute drop), "shared" (the largest of all images), or that drop itself.
        cell_width: Width of an image in inches.
        width: Width of the whole figure in inches instead, such as 3.25 for a column of a paper.
        fields_of_view: Of each image the rectangle that the model saw, which alone is shown; see
            `attribution_grid`.
        outline: True draws a thick line around the cluster with the largest drop of each image, if
            that is above `ClusterEffects.rounding`; or around those of B numbers.
        font_size: Of all texts, in points; None: titles of 9, those of rows of 8, numbers of 7.
            Numbers and values of many clusters are smaller, down to 5 points.
        math: Whether text between dollar signs is mathematics, as matplotlib has it.
        fig: A figure, or a part of one, to draw into; see `attribution_grid`.
        ax: Axes to draw the clusters of one image into, alone: without the image and the bars.

    Returns:
        The figure; `figure.savefig("clusters.pdf")` writes it. With fig or ax the one that they
        belong to.

    Raises:
        TypeError: If an argument is of a type that is not listed, in `attribution_grid` of images.
        ValueError: If the numbers of images, titles and effects differ, values do not fit, or the
            width or fig leaves no room.

    Example:
        >>> import torch, cci_captum
        >>> effects = cci_captum.ClusterEffects(
        ...     labels=torch.tensor([[[0, 0, 1, 2]]]),
        ...     outputs=torch.tensor([1.0]),
        ...     masked_outputs=torch.tensor([[0.25, 1.25, 1.0]]),
        ...     image_shape=(3, 8, 32),
        ... )
        >>> figure = show_clusters(effects, torch.rand(1, 3, 8, 32))
        >>> len(figure.axes)  # image, clusters, bars
        3
    """
    pictures = to_images(images)
    labels, numbers = to_array(effects.labels), to_array(effects.clusters)
    count = len(labels)
    if len(pictures) != count:
        raise ValueError(f"images: expected {count}, one for each of effects, got {len(pictures)}")
    positive_number("cell_width", cell_width)
    check_canvas(fig, ax, width)
    lettering = Lettering.of(font_size, math)
    if fields_of_view is None:
        check_shapes("effects", list(labels), pictures)
    boxes = to_boxes(fields_of_view, pictures)
    drops = to_array(effects.drops(target)).astype(np.float64)
    zero = np.abs(drops).max(axis=1) <= to_array(effects.rounding(target))
    drops[zero] = 0.0
    full = _full_colour(
        [row[used] for row, used in zip(drops, map(np.unique, labels), strict=True)], scale
    )
    masks = outlined(effects, target, outline)
    titles = to_texts("row_titles", row_titles, count)
    rows = [
        Clusters(
            cut_out(pictures[index], boxes[index]),
            labels[index],
            numbers[index],
            drops[index],
            full[index],
            masks[index],
            bool(zero[index]),
        )
        for index in range(count)
    ]
    if ax is not None:
        return _draw_into(ax, rows, titles, lettering, font_size)
    if fig is not None:
        across, down = size_of(fig)
        widest = ClusterLayout.of_width(rows, titles, lettering, across, "fig").cell_width
        least = narrowest(lettering)
        layout = largest(partial(ClusterLayout.of, rows, titles, lettering), least, widest, down)
    elif width is not None:
        layout = ClusterLayout.of_width(rows, titles, lettering, width)
    else:
        layout = ClusterLayout.of(rows, titles, lettering, cell_width)
    page = Page(layout.width, layout.height, lettering, fig)
    _draw(page, layout, rows)
    return page.finished()


def _full_colour(drops: list[Array], scale: Any) -> list[float]:
    """The drop at which the colours of each image are full."""
    if not isinstance(scale, str):
        return [positive_number("scale", scale)] * len(drops)
    if scale not in ("per-image", "shared"):
        raise ValueError(f"scale: expected a number, 'per-image' or 'shared', got {scale!r}")
    largest = [float(np.abs(row).max()) for row in drops]
    if scale == "shared":
        largest = [max(largest)] * len(drops)
    return [value or 1.0 for value in largest]  # without any drop, everything stays white


def _draw(page: Page, layout: ClusterLayout, rows: Sequence[Clusters]) -> None:
    """Put all rows on a page."""
    lettering, top = page.lettering, layout.top
    width, height, bar_width = layout.cell_width, layout.cell_height, layout.bar_width
    left, middle, right = layout.lefts
    centres = (left + width / 2, middle + width / 2, right + bar_width / 2)
    for head, centre in zip(layout.heads, centres, strict=True):
        above = top - 0.05 - lettering.height(head, lettering.title)
        page.text(centre, above, head, lettering.title, "center")
    for index, (row, row_height) in enumerate(zip(rows, layout.row_heights, strict=True)):
        feet = layout.feet[index]
        if layout.sides:
            page.row_title(left - GAP, top, row_height, layout.sides[index])
        taken = height + max(lettering.height(foot, lettering.small) for foot in feet)
        y = top + (row_height - taken) / 2
        show(page.axes(left, y, width, height), sharpened(row.picture), row.picture.shape)
        axes = page.axes(middle, y, width, height)
        _draw_clusters(axes, row, layout.numbers[index], layout.number_size)
        axes = page.axes(right, y, bar_width, height)
        row.bars.draw(axes, bar_width, height, lettering.small)
        for foot, centre in zip(feet, centres[1:], strict=True):
            page.text(centre, y + height + 0.02, foot, lettering.small, "center")
        top += row_height + GAP


def _draw_into(
    axes: Axes,
    rows: Sequence[Clusters],
    titles: Sequence[str],
    lettering: Lettering,
    font_size: float | None,
) -> Figure:
    """Draw the clusters of the one image into axes of a caller's own."""
    if len(rows) != 1:
        raise ValueError(f"ax: expected one image, got {len(rows)}; more go into fig")
    dpi = root_of(axes.figure).dpi
    inches = axes.bbox.width / dpi, axes.bbox.height / dpi
    (numbers,), size = placed_numbers(rows, *inches, lettering.small)
    _draw_clusters(axes, rows[0], numbers, size)
    label_axes(
        axes, "".join(titles), "", without_room(numbers.left_out, "number"), lettering, font_size
    )
    return root_of(axes.figure)


def _draw_clusters(axes: Axes, row: Clusters, numbers: Numbers, size: float) -> None:
    """Draw clusters in the colours of their drops, the borders between them and their numbers."""
    labels, shape = row.labels, row.picture.shape
    sharp = sharpened(row.picture)
    painted = paint(backdrop(sharp, 0.5), row.drops[labels] / row.full)
    show(axes, painted, shape, DIVERGING, Normalize(-row.full, row.full))
    lines = list(to_pixels(borders(labels), labels.shape, shape))
    patch = points_of(axes, shape) * min(shape[0] / labels.shape[0], shape[1] / labels.shape[1])
    thin = min(0.7, 0.12 * patch)
    axes.add_collection(LineCollection(lines, colors=INK, linewidths=thin, capstyle="round"))
    if row.outlined is not None:
        draw_outline(axes, row.outlined, shape)
    places = to_pixels(numbers.places, labels.shape, shape)
    for text, (x, y) in zip(numbers.texts, places, strict=True):
        axes.text(
            x,
            y,
            text,
            fontsize=size,
            color=INK,
            ha="center",
            va="center_baseline",
            path_effects=[withStroke(linewidth=1.6, foreground="white")],
        )
