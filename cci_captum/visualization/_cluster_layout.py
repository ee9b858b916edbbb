"""Where images, their clusters, numbers and bars stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._bars import Bars
from ._inputs import Array
from ._lettering import Lettering
from ._numbers import Numbers, place_numbers
from ._page import GAP, MARGIN, NARROWEST, beside_rows

_HEADS = ("image", "clusters", "drop when hidden")
_BARS = 1.3  # widths of a cell


class Clusters(NamedTuple):
    """What is drawn of one image."""

    picture: Array  # (H, W, 3), what the model saw
    labels: NDArray[np.int64]  # (h, w), the column of each patch in numbers and drops
    numbers: NDArray[np.int64]  # (K,)
    drops: Array  # (K,)
    full: float  # the drop at which colours are full
    outlined: NDArray[np.bool_] | None  # (h, w)
    zero: bool  # whether all drops are, within rounding

    @property
    def bars(self) -> Bars:
        """Those of the clusters that the image has."""
        used = np.unique(self.labels)
        return Bars.of(self.numbers[used], self.drops[used], self.full)

    def below(self, height: float, size: float) -> str:
        """What is to be said of the bars, in axes of so many inches of height."""
        bars = self.bars
        left_out = len(bars.values) - len(bars.written(height, size)[0])
        said = ["zero within rounding" if self.zero else "", without_room(left_out, "value")]
        return "\n".join(filter(None, said))

    def patch(self, width: float, height: float) -> tuple[float, float]:
        """Width and height of a patch in a cell of so many inches."""
        high, wide = self.picture.shape[:2]
        inch = min(width / wide, height / high)
        return inch * wide / self.labels.shape[1], inch * high / self.labels.shape[0]


def placed_numbers(
    rows: Sequence[Clusters], width: float, height: float, size: float
) -> tuple[list[Numbers], float]:
    """The numbers of each image in a cell of so many inches, and their size: `place_numbers`."""
    return place_numbers(
        [row.labels for row in rows],
        [row.numbers for row in rows],
        [row.drops for row in rows],
        [row.patch(width, height) for row in rows],
        size,
    )


def without_room(count: int, what: str) -> str:
    """What is said of so many of something that are left out."""
    return f"no room for {count} {what}{'s' * (count > 1)}" if count else ""


class ClusterLayout(NamedTuple):
    """The texts, wrapped, and where everything is in inches."""

    heads: list[list[str]]  # above the three columns
    sides: list[list[str]]  # left of each row; none if no row has a title
    numbers: list[Numbers]
    number_size: float
    feet: list[list[list[str]]]  # below the clusters and the bars of each row
    cell_width: float
    cell_height: float
    bar_width: float
    row_heights: list[float]
    lefts: list[float]  # of the three columns
    top: float  # of the first row
    width: float
    height: float

    @classmethod
    def of(
        cls,
        rows: Sequence[Clusters],
        row_titles: Sequence[str],
        lettering: Lettering,
        cell_width: float,
    ) -> ClusterLayout:
        """A row for each image."""
        label, small = lettering.label, lettering.small
        sides, lefts, least = _around(rows, row_titles, lettering, cell_width)
        bar_width = max(_BARS * cell_width, least)
        widths = (cell_width, cell_width, bar_width)
        heads = [
            lettering.wrap(head, width, lettering.title)
            for head, width in zip(_HEADS, widths, strict=True)
        ]
        ratio = float(np.median([row.picture.shape[0] / row.picture.shape[1] for row in rows]))
        cell_height = cell_width * min(max(ratio, 0.6), 2)
        numbers, number_size = placed_numbers(rows, cell_width, cell_height, small)
        feet = [
            [
                lettering.wrap(without_room(own.left_out, "number"), cell_width, small),
                lettering.wrap(row.below(cell_height, small), bar_width, small),
            ]
            for row, own in zip(rows, numbers, strict=True)
        ]
        row_heights = [
            max(
                cell_height + max(lettering.height(foot, small) for foot in own),
                lettering.height(sides[index], label) if sides else 0,
            )
            for index, own in enumerate(feet)
        ]
        top = MARGIN + max(lettering.height(head, lettering.title) for head in heads) + 0.05
        return cls(
            heads=heads,
            sides=sides,
            numbers=numbers,
            number_size=number_size,
            feet=feet,
            cell_width=cell_width,
            cell_height=cell_height,
            bar_width=bar_width,
            row_heights=row_heights,
            lefts=lefts,
            top=top,
            width=lefts[2] + bar_width + MARGIN,
            height=top + sum(row_heights) + GAP * (len(rows) - 1) + MARGIN,
        )

    @classmethod
    def of_width(
        cls,
        rows: Sequence[Clusters],
        row_titles: Sequence[str],
        lettering: Lettering,
        width: float,
        name: str = "width",
    ) -> ClusterLayout:
        """As `of`, with cells as wide as a figure of this width has room for.

        Raises:
            ValueError: If the width, which the error calls by the name, leaves cells too small.
        """
        _, lefts, bars = _around(rows, row_titles, lettering, 0.0)
        room = width - lefts[2] - MARGIN  # for two cells and the bars
        cell = narrowest(lettering)
        least = width - room + 2 * cell + max(_BARS * cell, bars)
        if not least <= width + 1e-9 or width == float("inf"):
            raise ValueError(
                f"{name}: expected at least {least:.2f} inches for two pictures and the bars with "
                f"their texts, got {width:.4g}"
            )
        return cls.of(rows, row_titles, lettering, min(room / (2 + _BARS), (room - bars) / 2))


def narrowest(lettering: Lettering) -> float:
    """Inches of a cell that holds the title of its column on one line."""
    return max(NARROWEST, lettering.widest([_HEADS[:2]], lettering.title))


def _around(
    rows: Sequence[Clusters], row_titles: Sequence[str], lettering: Lettering, cell_width: float
) -> tuple[list[list[str]], list[float], float]:
    """Titles of rows, wrapped; inches left of each column; the least inches of the bars."""
    small = lettering.small
    sides, left = beside_rows(row_titles, lettering)
    middle = left + cell_width + GAP
    right = middle + cell_width + GAP + max(row.bars.beside(small) for row in rows)
    return sides, [left, middle, right], max(row.bars.least_width(small) for row in rows)
