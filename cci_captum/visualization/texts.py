"""Texts whose words have the colour of what they add."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .._checks import check_pieces
from .._colours import is_dark
from ._inputs import positive_number, to_colormap, to_texts
from ._lettering import Lettering, signed, text_height, text_width
from ._page import DIVERGING, GAP, INK, MARGIN, Page, beside_rows

_WIDTH = 6.5  # inches: the widest a figure is made of its own accord
_PAD = 0.03  # inches of colour left and right of a word


class _Part(NamedTuple):
    """A word, and the value of the piece it is in."""

    text: str
    value: float | None
    label: str  # below it: the value, below the first word of a piece
    spaced: bool  # whether white space goes before it
    piece: int  # the number of its piece
    letters: Lettering

    @property
    def width(self) -> float:
        """Inches."""
        pad = 0 if self.value is None else 2 * _PAD
        label = text_width(self.label, self.letters.small) + _PAD if self.label else 0
        return max(text_width(self.text, self.letters.title) + pad, label)

    @property
    def space(self) -> float:
        """Inches before it, unless it begins a line."""
        title = self.letters.title
        return text_width("a a", title) - text_width("aa", title) if self.spaced else 0.0


def text_heat(
    texts: Sequence[Sequence[tuple[str, float | None]]],
    *,
    row_titles: Sequence[str] | None = None,
    scale: float | None = None,
    width: float | None = None,
    cmap: str | Colormap = DIVERGING,
    decimals: int | None = 3,
    font_size: float | None = None,
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
        font_size: Of all texts, in points; None: words of 9, titles of 8, values of 7.

    Returns:
        The figure.

    Raises:
        TypeError: If a piece is not a string and a number or None.
        ValueError: If there is no text, a value is not finite, or the width is too small.

    Example:
        >>> figure = text_heat([[("a ", None), ("cat", 0.31), (" on ", None), ("snow", -0.05)]])
    """
    letters = Lettering.of(font_size, math=False)
    lines_of = [_parts(index, text, decimals, letters) for index, text in enumerate(texts)]
    if not lines_of:
        raise ValueError("texts: expected at least one text, got none")
    colours = to_colormap(cmap)
    values = [abs(part.value) for parts in lines_of for part in parts if part.value is not None]
    full = max(values, default=0.0) or 1.0
    if scale is not None:
        full = positive_number("scale", scale)
    label, small, large = letters.label, letters.small, letters.title
    titles = to_texts("row_titles", row_titles, len(texts))
    sides, left = beside_rows(titles, letters, 2 * GAP)
    longest = max((part.width for parts in lines_of for part in parts), default=0.0)
    room = max(_WIDTH - left - MARGIN, longest) if width is None else width - left - MARGIN
    if not longest <= room < float("inf"):
        raise ValueError(
            f"width: expected at least {left + longest + MARGIN:.2f} inches for the longest word, "
            f"got {width}"
        )
    broken = [_broken(parts, room) for parts in lines_of]
    leftwards = [_is_leftwards("".join(piece for piece, _ in text)) for text in texts]
    used = max(_width(line) for lines in broken for line in lines)
    line_height = text_height(1.35, large) + (0 if decimals is None else text_height(1, small))
    heights = [
        max(len(lines) * line_height, letters.height(sides[row], label) if sides else 0)
        for row, lines in enumerate(broken)
    ]
    page = Page(
        left + used + MARGIN if width is None else width,
        2 * MARGIN + sum(heights) + GAP * (len(broken) - 1),
        letters,
    )
    top = MARGIN
    for row, lines in enumerate(broken):
        if sides:
            page.row_title(left - 2 * GAP, top, heights[row], sides[row])
        for number, line in enumerate(map(_from_right, lines) if leftwards[row] else lines):
            _draw(page, left, top + number * line_height, line, full, colours)
        top += heights[row] + GAP
    return page.finished()


def _parts(
    index: int,
    text: Sequence[tuple[str, float | None]],
    decimals: int | None,
    letters: Lettering,
) -> list[_Part]:
    """The words of a text, each with the value of its piece."""
    parts: list[_Part] = []
    spaced = False
    for number, piece in enumerate(check_pieces(f"texts[{index}]", text)):
        label = "" if piece[1] is None or decimals is None else signed(piece[1], decimals)
        for space, word in re.findall(r"(\s*)(\S+|$)", piece[0]):
            spaced = spaced or bool(space)
            if word:
                parts.append(_Part(word, piece[1], label, spaced, number, letters))
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
    return sum(part.width + (part.space if place else 0) for place, part in enumerate(line))


def _is_leftwards(text: str) -> bool:
    """Whether a text is written from right to left, as its first letter is."""
    kinds = (unicodedata.bidirectional(character) for character in text)
    return next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"


def _from_right(line: list[_Part]) -> list[_Part]:
    """A line from right to left, as the order in which it is drawn from the left."""
    drawn: list[_Part] = []
    labels = {part.piece: part.label for part in line if part.label}
    spaced = False  # whether white space goes after the part before
    for part in reversed(line):
        first = not drawn or drawn[-1].piece != part.piece
        label = labels.get(part.piece, "") if first else ""
        drawn.append(part._replace(spaced=spaced, label=label))
        spaced = part.spaced
    return drawn


def _draw(
    page: Page, x: float, top: float, line: list[_Part], full: float, colours: Colormap
) -> None:
    """One line: words on the grounds of their values, and the values below."""
    letters = page.lettering
    height = text_height(1.2, letters.title)
    for before, part in zip([None, *line], line, strict=False):
        if before is not None and part.spaced:
            if part.value is not None and before.piece == part.piece:
                _ground(page, (x, top, part.space, height), _colour(part.value / full, colours))
            x += part.space
        ink = INK
        if part.value is not None:
            colour = _colour(part.value / full, colours)
            _ground(page, (x, top, part.width, height), colour)
            ink = "white" if is_dark(*colour[:3]) else INK
        middle = x + part.width / 2
        page.text(middle, top + 0.1 * height, [part.text], letters.title, "center", ink)
        if part.label:  # below the middle of what stands here of its piece
            own = [other for other in line if other.piece == part.piece]
            middle = x + _width([own[0]._replace(spaced=False), *own[1:]]) / 2
            page.text(middle, top + height, [part.label], letters.small, "center")
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
