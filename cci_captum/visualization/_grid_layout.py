"""Where the cells and the texts of a grid of maps stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._inputs import to_array
from ._lettering import Lettering, signed, text_height
from ._page import GAP, MARGIN, NARROWEST, beside_rows, colorbar_width, largest


class GridTexts(NamedTuple):
    """What is written around the cells."""

    titles: Sequence[str]  # one a column
    row_titles: Sequence[str]  # one a row, or none
    captions: Sequence[Sequence[str]]  # below each cell, column by column
    ticks: Sequence[str] | None  # of the colour bar; None without one


class GridLayout(NamedTuple):
    """The texts, wrapped, and where everything is in inches."""

    heads: list[list[str]]  # above each column
    sides: list[list[str]]  # left of each row; none if no row has a title
    feet: list[list[list[str]]]  # below each cell, column by column
    cell_width: float
    cell_height: float
    row_heights: list[float]
    left: float  # of the first cell
    right: float  # of the last cell
    top: float  # of the first row
    width: float
    height: float

    @classmethod
    def of(
        cls,
        sizes: Sequence[tuple[int, ...]],
        texts: GridTexts,
        lettering: Lettering,
        cell_width: float,
    ) -> GridLayout:
        """A row for each of the images' sizes (H, W), a column for each of the titles."""
        label, title = lettering.label, lettering.title
        sides, left, beside = _around(texts, lettering)
        heads = [lettering.wrap(text, cell_width, title) for text in texts.titles]
        feet = [[lettering.wrap(text, cell_width, label) for text in c] for c in texts.captions]
        ratio = float(np.median([height / width for height, width in sizes]))
        cell_height = cell_width * min(max(ratio, 1 / 3), 3)
        row_heights = [
            max(
                cell_height + max(lettering.height(column[row], label) for column in feet),
                lettering.height(sides[row], label) if sides else 0,
            )
            for row in range(len(sizes))
        ]
        right = left + len(heads) * (cell_width + GAP)
        above = max(lettering.height(head, title) for head in heads)
        top = MARGIN + max(above, text_height(0.5, lettering.small)) + 0.05
        return cls(
            heads=heads,
            sides=sides,
            feet=feet,
            cell_width=cell_width,
            cell_height=cell_height,
            row_heights=row_heights,
            left=left,
            right=right,
            top=top,
            width=right + beside + MARGIN,
            height=top + sum(row_heights) + GAP * (len(sizes) - 1) + MARGIN,
        )

    @classmethod
    def of_width(
        cls,
        sizes: Sequence[tuple[int, ...]],
        texts: GridTexts,
        lettering: Lettering,
        width: float,
        name: str = "width",
    ) -> GridLayout:
        """As `of`, with cells as wide as a figure of this width has room for.

        Raises:
            ValueError: If the width, which the error calls by the name, leaves cells too small.
        """
        _, left, beside = _around(texts, lettering)
        columns = len(texts.titles)
        least = left + columns * (NARROWEST + GAP) + beside + MARGIN
        if not least <= width < float("inf"):
            raise ValueError(
                f"{name}: expected at least {least:.2f} inches for {columns} columns with their "
                f"titles, got {width:.4g}"
            )
        cell_width = (width - left - beside - MARGIN) / columns - GAP
        return cls.of(sizes, texts, lettering, cell_width)

    @classmethod
    def within(
        cls,
        sizes: Sequence[tuple[int, ...]],
        texts: GridTexts,
        lettering: Lettering,
        size: tuple[float, float],
    ) -> GridLayout:
        """The largest one in a figure of this width and height in inches.

        Raises:
            ValueError: If it leaves cells too small.
        """
        widest = cls.of_width(sizes, texts, lettering, size[0], "fig").cell_width
        return largest(partial(cls.of, sizes, texts, lettering), NARROWEST, widest, size[1])


def _around(texts: GridTexts, lettering: Lettering) -> tuple[list[list[str]], float, float]:
    """Titles of rows, wrapped; inches left of the first cell, and those of the colour bar."""
    sides, left = beside_rows(texts.row_titles, lettering)
    if texts.ticks is None:
        return sides, left, 0.0
    return sides, left, 0.04 + colorbar_width(texts.ticks, lettering.small)


def captions_of(scores: Mapping[str, Any], columns: list[str], rows: int) -> list[list[str]]:
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
