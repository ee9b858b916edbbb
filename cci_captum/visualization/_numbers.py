"""Where the numbers of clusters stand in a picture of them, so that none lies on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._regions import innermost
from ._inputs import Array
from ._lettering import INCH, SMALLEST, extent, text_width

_STEP = 0.5  # points
_APART = 1.2 / INCH  # inches between two numbers, for the white around them


class Numbers(NamedTuple):
    """The numbers of one image."""

    texts: list[str]
    places: Array  # (N, 2), x and y of their middles in patches
    left_out: int  # for which there is no room


def place_numbers(
    labels: Sequence[NDArray[np.int64]],
    numbers: Sequence[NDArray[np.int64]],
    drops: Sequence[Array],
    patches: Sequence[tuple[float, float]],
    size: float,
) -> tuple[list[Numbers], float]:
    """A place for each number, in its own cluster and as far inside as can be.

    All have one size: the largest at which they have room, 5 points or more. Where they have none
    at 5 points, those of the clusters with the smallest drops are left out.

    Args:
        labels: Of each image (h, w), the column of each patch in numbers and drops.
        numbers: Of each image (K,), what each cluster is called.
        drops: Of each image (K,).
        patches: Width and height of a patch of each image, in inches.
        size: The largest font size in points, which they have where it is below 5.

    Returns:
        The numbers of each image, and the font size.
    """
    ranked = []  # of each image the clusters by their drops: column, name, and middles of patches
    for image, names, drop in zip(labels, numbers, drops, strict=True):
        used = np.unique(image)
        used = used[np.argsort(-np.abs(drop[used]), kind="stable")]
        cells = [np.float64(0.5) + innermost(image == k)[:, ::-1] for k in used]
        ranked.append(
            [(k, str(names[k]), own) for k, own in zip(used.tolist(), cells, strict=True)]
        )
    while True:
        found = [
            _placed(clusters, image.shape, patch, size)
            for clusters, image, patch in zip(ranked, labels, patches, strict=True)
        ]
        if size <= SMALLEST or not any(row.left_out for row in found):
            return found, size
        size = max(size - _STEP, SMALLEST)


def _placed(
    clusters: list[tuple[int, str, Array]],
    shape: tuple[int, ...],
    patch: tuple[float, float],
    size: float,
) -> Numbers:
    """Those of the clusters, the most important first, that find a place."""
    _, above, below = extent("lp", size)  # a line of text is as high as its highest letters
    inch = np.array(patch)
    found: list[tuple[int, str]] = []
    places, widths = np.empty((0, 2)), np.empty(0)
    for column, text, cells in clusters:
        width = text_width(text, size)
        # Not over the edge of the picture, as far as a number can stay in its patch.
        half = np.array([width, above]) / 2 / inch
        middles = cells + (cells.clip(half, np.array(shape[::-1]) - half) - cells).clip(-0.45, 0.45)
        apart = np.abs(middles[:, None] - places) * inch
        room = np.stack([(width + widths) / 2, np.full(len(widths), above + below)], 1) + _APART
        free = (apart >= room).any(-1).all(-1)
        if free.any():
            found.append((column, text))
            places = np.concatenate([places, middles[free.argmax()][None]])
            widths = np.append(widths, width)
    order = sorted(range(len(found)), key=found.__getitem__)  # by columns
    left_out = len(clusters) - len(found)
    return Numbers([found[place][1] for place in order], places[order], left_out)
