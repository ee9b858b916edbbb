"""Texts whose words have the colour of what they add."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .._checks import check_pieces
from ._inputs import positive_number, to_colormap, to_texts
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

_WIDTH = 6.5  # inches: the widest a figure is made of its own accord
_PAD = 0.03  # inches of colour left and right of a word
_LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue
_DARK = 0.55  # below this luminance of its ground a word is white


class _Part(NamedTuple):
    """A word, and the value of the piece it is in."""

    text: str
    value: float | None
    label: str  # below it: the value, below the first word of a piece
    spaced: bool  # whether white space goes before it
    piece: int  # the number of its piece

    @property
    def width(self) -> float:
        """Inches."""
        pad = 0 if self.value is None else 2 * _PAD
        label = text_width(self.label, SMALL) + _PAD if self.label else 0
        return max(text_width(self.text, TITLE) + pad, label)


def text_heat(
    texts: Sequence[Sequence[tuple[str, float | None]]],
    *,
    row_titles: Sequence[str] | None = None,
    scale: float | None = None,
    width: float | None = None,
    cmap: str | Colormap = DIVERGING,
    decimals: int | None = 3,
) -> Figure:
    """Show texts, the words in the colour of their values.

    White is zero, red positive (the word supports the match), blue negative, as in
    `attribution_grid`.

    Args:
        texts: Each a list of its pieces in order, white space included, with the value of each or
            None: ``[("a ", None), ("cat", 0.31), (" on snow", None)]``;
            `cci_captum.explained_words.pieces` makes them.
        row_titles: One a text, left of it, such as the image's name.
        scale: The value at which colours are full; None is the largest absolute value of all
            texts.
        width: Of the figure in inches; None is as wide as the texts are, and 6.5 at most.
        cmap: Colours from -1 over 0 to 1: a matplotlib colormap or its name.
        decimals: Of the values below the words; None for no values.

    Returns:
        The figure.

    Raises:
        TypeError: If a piece is not a string and a number or None.
        ValueError: If there is no text, a value is not finite, or the width is too small.

    Example:
        >>> figure = text_heat([[("a ", None), ("cat", 0.31), (" on ", None), ("snow", -0.05)]])
        >>> figure.savefig("text.png")
    """
    lines_of = [_parts(index, text, decimals) for index, text in enumerate(texts)]
    if not lines_of:
        raise ValueError("texts: expected at least one text, got none")
    colours = to_colormap(cmap)
    values = [abs(part.value) for parts in lines_of for part in parts if part.value is not None]
    full = max(values, default=0.0) or 1.0
    if scale is not None:
        full = positive_number("scale", scale)
    sides = [wrap(title, SIDE, LABEL) for title in to_texts("row_titles", row_titles, len(texts))]
    left = MARGIN + (widest(sides, LABEL) + 2 * GAP if sides else 0)
    room = (_WIDTH if width is None else width) - left - MARGIN
    longest = max((part.width for parts in lines_of for part in parts), default=0.0)
    if not longest <= room < float("inf"):
        raise ValueError(
            f"width: expected at least {left + longest + MARGIN:.2f} inches for the longest word, "
            f"got {width}"
        )
    broken = [_broken(parts, room) for parts in lines_of]
    used = max(_width(line) for lines in broken for line in lines)
    line_height = text_height(1.35, TITLE) + (0 if decimals is None else text_height(1, SMALL))
    heights = [
        max(len(lines) * line_height, text_height(len(sides[row]), LABEL) if sides else 0)
        for row, lines in enumerate(broken)
    ]
    page = Page(
        left + used + MARGIN if width is None else width,
        2 * MARGIN + sum(heights) + GAP * (len(broken) - 1),
    )
    top = MARGIN
    for row, lines in enumerate(broken):
        if sides:
            page.row_title(left - 2 * GAP, top, heights[row], sides[row])
        for number, line in enumerate(lines):
            _draw(page, left, top + number * line_height, line, full, colours)
        top += heights[row] + GAP
    return page.finished()


def _parts(
    index: int, text: Sequence[tuple[str, float | None]], decimals: int | None
) -> list[_Part]:
    """The words of a text, each with the value of its piece."""
    parts: list[_Part] = []
    spaced = False
    for number, piece in enumerate(check_pieces(f"texts[{index}]", text)):
        label = "" if piece[1] is None or decimals is None else signed(piece[1], decimals)
        for space, word in re.findall(r"(\s*)(\S+|$)", piece[0]):
            spaced = spaced or bool(space)
            if word:
                parts.append(_Part(word, piece[1], label, spaced, number))
                spaced, label = False, ""
    return parts


def _broken(parts: list[_Part], room: float) -> list[list[_Part]]:
    """Lines that are no wider than the room; broken at white space alone where that is enough."""
    lines: list[list[_Part]] = [[]]
    for part in parts:
        if lines[-1] and _width([*lines[-1], part]) > room:
            lines.append([])
        lines[-1].append(part)
    return lines


def _width(line: list[_Part]) -> float:
    return sum(
        part.width + (_space() if part.spaced and place else 0) for place, part in enumerate(line)
    )


def _space() -> float:
    return text_width("a a", TITLE) - text_width("aa", TITLE)


def _draw(
    page: Page, x: float, top: float, line: list[_Part], full: float, colours: Colormap
) -> None:
    """One line: words on the grounds of their values, and the values below."""
    height = text_height(1.2, TITLE)
    for before, part in pairwise([None, *line]):
        if before is not None and part.spaced:
            if part.value is not None and before.piece == part.piece:
                _ground(page, (x, top, _space(), height), _colour(part.value / full, colours))
            x += _space()
        ink = INK
        if part.value is not None:
            colour = _colour(part.value / full, colours)
            _ground(page, (x, top, part.width, height), colour)
            ink = "white" if np.dot(colour[:3], _LUMINANCE) < _DARK else INK
        middle = x + part.width / 2
        page.text(middle, top + 0.1 * height, [part.text], TITLE, "center", ink)
        if part.label:  # below the middle of what stands here of its piece
            own = [other for other in line if other.piece == part.piece]
            middle = x + _width([own[0]._replace(spaced=False), *own[1:]]) / 2
            page.text(middle, top + height, [part.label], SMALL, "center")
        x += part.width


def _colour(value: float, colours: Colormap) -> tuple[float, float, float, float]:
    """Of a value from -1 to 1."""
    return colours(0.5 + 0.5 * float(np.clip(value, -1, 1)))


def _ground(
    page: Page,
    box: tuple[float, float, float, float],
    colour: tuple[float, float, float, float],
) -> None:
    """Colour a rectangle: left, top, width, height in inches."""
    left, top, width, height = box
    corner = (left / page.width, 1 - (top + height) / page.height)
    page.figure.add_artist(
        Rectangle(
            corner,
            width / page.width,
            height / page.height,
            transform=page.figure.transFigure,
            facecolor=colour,
            edgecolor="none",
        )
    )
