"""A picture of what hiding each cluster did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ._cells import backdrop, paint, sharpened, show
from ._inputs import (
    Array,
    check_shapes,
    cut_out,
    positive_number,
    to_array,
    to_boxes,
    to_images,
    to_texts,
)
from ._page import (
    DIVERGING,
    GAP,
    INK,
    LABEL,
    MARGIN,
    SIDE,
    SMALL,
    TITLE,
    Page,
    signed,
    text_height,
    text_width,
    widest,
    wrap,
)

if TYPE_CHECKING:
    from ..effects import ClusterEffects

_NUMBERS = 0.3  # inches for the numbers left of the bars


def show_clusters(
    effects: ClusterEffects,
    images: Any,
    *,
    target: Any = None,
    row_titles: Sequence[str] | None = None,
    scale: Literal["per-image", "shared"] | float = "per-image",
    cell_width: float = 1.8,
    fields_of_view: Sequence[Sequence[float]] | None = None,
) -> Figure:
    """Show the clusters of each image and how far the output drops when each is hidden.

    A row holds the image, its clusters, and a bar for each cluster, largest drop on top. Red
    clusters support the target (hiding them lowers the output), blue ones speak against it.
    Drops of an image none of which is above `ClusterEffects.rounding` are shown as zero, and said
    to be.
    Clusters have the numbers that the clustering gave them, `effects.clusters`.

    Args:
        effects: What `CCI.effects` returned for the B images.
        images: The B images, as in `attribution_grid`.
        target: The output to show, as in `ClusterEffects.drops`.
        row_titles: One title an image, shown left of its row.
        scale: The drop at which colours are full: "per-image" (the image's own largest
            absolute drop), "shared" (the largest of all images), or that drop itself.
        cell_width: Width of an image in inches.
        fields_of_view: Of each image the rectangle that the model saw, which alone is shown; see
            `attribution_grid`.

    Returns:
        The figure; `figure.savefig("clusters.pdf")` writes it.

    Raises:
        TypeError: If images are of a type that is not listed in `attribution_grid`.
        ValueError: If the numbers of images, titles and effects differ, or values do not fit.

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
    if len(pictures) != len(labels):
        raise ValueError(
            f"images: expected {len(labels)}, one for each of effects, got {len(pictures)}"
        )
    positive_number("cell_width", cell_width)
    if fields_of_view is None:
        check_shapes("effects", list(labels), pictures)
    boxes = to_boxes(fields_of_view, pictures)
    pictures = [cut_out(*pair) for pair in zip(pictures, boxes, strict=True)]
    drops = to_array(effects.drops(target)).astype(np.float64)
    zero = np.abs(drops).max(axis=1) <= to_array(effects.rounding(target))
    drops[zero] = 0.0
    full = _full_colour(
        [row[used] for row, used in zip(drops, map(np.unique, labels), strict=True)], scale
    )
    sides = [wrap(text, SIDE, LABEL) for text in to_texts("row_titles", row_titles, len(labels))]

    ratio = float(np.median([picture.shape[0] / picture.shape[1] for picture in pictures]))
    cell_height = cell_width * min(max(ratio, 0.6), 2)
    row_height = max([cell_height, *(text_height(len(side), LABEL) for side in sides)])
    left = MARGIN + (widest(sides, LABEL) + GAP if sides else 0)
    middle = left + cell_width + GAP
    right = middle + cell_width + GAP + _NUMBERS
    bar_width = 1.3 * cell_width
    top = MARGIN + text_height(1, TITLE) + 0.05
    page = Page(right + bar_width + MARGIN, top + len(labels) * (row_height + GAP) - GAP + MARGIN)

    for title, centre in {
        "image": left + cell_width / 2,
        "clusters": middle + cell_width / 2,
        "drop when hidden": right + bar_width / 2,
    }.items():
        page.text(centre, MARGIN, [title], TITLE, "center")
    for row, picture in enumerate(map(sharpened, pictures)):
        if sides:
            page.row_title(left - GAP, top, row_height, sides[row])
        y = top + (row_height - cell_height) / 2
        show(page.axes(left, y, cell_width, cell_height), picture)
        axes = page.axes(middle, y, cell_width, cell_height)
        grey = backdrop(picture, 0.5)
        show(axes, paint(grey, drops[row][labels[row]] / full[row]))
        _outline(axes, labels[row], numbers[row], grey.shape)
        axes = page.axes(right, y, bar_width, cell_height)
        used = np.unique(labels[row])
        _bars(axes, numbers[row][used], drops[row][used], full[row], (bar_width, cell_height))
        if zero[row]:
            centre = right + bar_width / 2
            page.text(centre, y + 0.04, ["zero within rounding"], SMALL, "center")
        top += row_height + GAP
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


def _outline(
    axes: Axes, labels: NDArray[np.int64], numbers: NDArray[np.int64], size: tuple[int, ...]
) -> None:
    """Draw the borders between clusters, and each cluster's number inside it."""
    patch = np.array([size[1] / labels.shape[1], size[0] / labels.shape[0]])  # width, height
    rows, columns = np.nonzero(labels[:, 1:] != labels[:, :-1])
    lines = [[(c + 1, r), (c + 1, r + 1)] for r, c in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(labels[1:] != labels[:-1])
    lines += [[(c, r + 1), (c + 1, r + 1)] for r, c in zip(rows, columns, strict=True)]
    ends = [np.array(line) * patch - 0.5 for line in lines]
    axes.add_collection(LineCollection(ends, colors=INK, linewidths=0.7, capstyle="round"))
    for label in np.unique(labels):
        row, column = _innermost(labels == label)
        x, y = np.array([column + 0.5, row + 0.5]) * patch - 0.5
        outlined = [withStroke(linewidth=1.6, foreground="white")]
        axes.text(
            x,
            y,
            str(numbers[label]),
            fontsize=SMALL,
            color=INK,
            ha="center",
            va="center_baseline",
            path_effects=outlined,
        )


def _innermost(inside: NDArray[np.bool_]) -> tuple[int, int]:
    """The patch of a cluster that is farthest from every patch outside it."""
    cells = np.argwhere(inside)
    outside = np.argwhere(~np.pad(inside, 1)) - 1  # the rim around the image is outside too
    distance = ((cells[:, None] - outside[None]) ** 2).sum(-1).min(axis=1)
    row, column = cells[distance.argmax()]
    return int(row), int(column)


def _bars(
    axes: Axes, numbers: NDArray[np.int64], drops: Array, full: float, size: tuple[float, float]
) -> None:
    """A bar for each cluster, largest drop on top, its value printed at its end."""
    width, height = size  # of the axes, in inches
    order = np.argsort(-drops, kind="stable")
    values = drops[order]
    font = min(SMALL, 0.8 * 72 * height / len(values))
    decimals = int(np.clip(2 - np.floor(np.log10(full)), 0, 6))  # three digits of the largest
    texts = [signed(value, decimals) for value in values]
    # Room for the texts on either side, then as much as is left for the bars.
    room = max(text_width(text, font) for text in texts) + 0.08
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    rooms = np.array([room + 0.1 if low < 0 else 0.0, room])
    inch = (high - low or 1.0) / (width - rooms.sum())
    places = range(len(values))
    axes.barh(
        places,
        values,
        height=0.72,
        color=DIVERGING((values / full + 1) / 2),
        edgecolor=INK,
        linewidth=0.4,
    )
    for place, value, text in zip(places, values, texts, strict=True):
        x, align = (value - 0.04 * inch, "right") if value < 0 else (value + 0.04 * inch, "left")
        axes.text(x, place, text, fontsize=font, color=INK, ha=align, va="center_baseline")
    axes.axvline(0, color=INK, linewidth=0.6)
    spare = max(5 - len(values), 0) / 2  # so that few bars are not thick
    axes.set(
        xlim=(low - rooms[0] * inch, high + rooms[1] * inch),
        ylim=(len(values) - 0.5 + spare, -0.5 - spare),
        xticks=[],
    )
    axes.set_yticks(places, [str(number) for number in numbers[order]], fontsize=font, color=INK)
    axes.tick_params(length=0, pad=3)
    axes.spines[:].set_visible(False)
