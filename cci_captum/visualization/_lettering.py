"""Sizes of text, how much room text takes, and the lines that it is broken into."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.cbook import is_math_text
from matplotlib.font_manager import FontProperties

from ._fonts import families
from ._inputs import positive_number

INCH = 72  # points
SMALLEST = 5.0  # points: what gets smaller for want of room gets no smaller, as journals ask
DPI = 150
_LINE, _ASCENT = 1.2, 0.78  # of a font size: from line to line; of a line: from its top to baseline
_FORMULA = re.compile(r"(?:\\.|\$(?:\\.|[^$\\])*\$|[^\s$])+")  # a word, with its formulas whole
_RULER = RendererAgg(1, 1, DPI)  # hinted as on the page: at 72 dpi, small texts are narrower


def text_height(lines: float, size: float) -> float:
    """Inches that so many lines of text without mathematics take."""
    return lines * _LINE * size / INCH


def text_width(text: str, size: float, math: bool = False) -> float:
    """Inches that a line of text takes."""
    return extent(text, size, math)[0]


@lru_cache(maxsize=4096)
def extent(text: str, size: float, math: bool = False) -> tuple[float, float, float]:
    """Width of a line of text, and its reach above and below the baseline, in inches.

    Raises:
        ValueError: For a formula that matplotlib cannot read.
    """
    formula = bool(math and is_math_text(text))
    shown = text if formula or not math else text.replace(r"\$", "$")
    font = FontProperties(family=families(text), size=size)
    try:
        width, height, descent = _RULER.get_text_width_height_descent(shown, font, formula)
    except ValueError as error:
        raise ValueError(
            f"math: expected formulas that matplotlib can read, got {text!r}; math=False writes "
            "dollar signs as they are"
        ) from error
    return float(width) / DPI, float(height - descent) / DPI, float(descent) / DPI


class Lettering(NamedTuple):
    """Font sizes in points, and whether text between dollar signs is mathematics."""

    title: float = 9.0
    label: float = 8.0
    small: float = 7.0
    math: bool = False

    @classmethod
    def of(cls, font_size: float | None, math: bool) -> Lettering:
        """All of one size, or of the usual ones for None."""
        if font_size is None:
            return cls(math=math)
        size = positive_number("font_size", font_size)
        return cls(size, size, size, math)

    def width(self, text: str, size: float) -> float:
        """Inches that a line of text takes."""
        return text_width(text, size, self.math)

    def widest(self, blocks: Iterable[Sequence[str]], size: float) -> float:
        """Inches that the widest line of some blocks of text takes; 0 without any."""
        return max((self.width(line, size) for block in blocks for line in block), default=0.0)

    def height(self, lines: Sequence[str], size: float) -> float:
        """Inches that lines of text take; formulas may be higher than a line."""
        return sum(map(sum, (self.around(line, size) for line in lines)))

    def around(self, line: str, size: float) -> tuple[float, float]:
        """Inches kept above and below the baseline of a line."""
        above, below = text_height(_ASCENT, size), text_height(1 - _ASCENT, size)
        if not (self.math and is_math_text(line)):
            return above, below
        _, ascent, descent = extent(line, size, True)
        gap = text_height(0.05, size)
        return max(above, ascent + gap), max(below, descent + gap)

    def wrap(self, text: str, width: float, size: float) -> list[str]:
        """The lines of a text, at most width inches wide; a longer word is cut.

        Raises:
            ValueError: If a formula, which is not cut, is wider.
        """
        lines: list[str] = []
        for paragraph in text.splitlines():
            formulas = self.math and is_math_text(paragraph)
            words = _FORMULA.findall(paragraph) if formulas else paragraph.split()
            line = ""
            for word in words:
                longer = f"{line} {word}".strip()
                if line and self.width(longer, size) > width:
                    lines.append(line)
                    longer = word
                line = longer
                while len(line) > 1 and self.width(line, size) > width:
                    if self.math and is_math_text(line):
                        raise ValueError(
                            f"math: expected formulas of at most {width:.2f} inches, the room that "
                            f"there is, got {line!r}, which takes {self.width(line, size):.2f}"
                        )
                    cut = self._fitting(line, width, size)
                    lines.append(line[:cut])
                    line = line[cut:]
            lines.append(line)
        return lines

    def fit(self, text: str, width: float, size: float) -> list[str]:
        """The lines of a text as of `wrap`, but of lengths as alike as can be."""
        lines = self.wrap(text, width, size)
        word = max((self.width(word, size) for word in text.split()), default=0.0)
        for share in (0.5, 0.6, 0.7, 0.8, 0.9):
            if self.math and is_math_text(text):
                break
            narrower = self.wrap(text, share * width, size)
            if len(narrower) == len(lines) and word <= share * width:
                return narrower
        return lines

    def _fitting(self, word: str, width: float, size: float) -> int:
        """How many of a word's characters go on a line: up to a hyphen, else what fits."""
        places = [n for n in range(1, len(word)) if unicodedata.category(word[n])[0] != "M"]
        fits = [n for n in places if self.width(word[:n], size) <= width]
        fits = fits or places[:1] or [len(word)]
        return max((n for n in fits if word[n - 1] in "-_/.,:"), default=fits[-1])


def signed(number: float, decimals: int) -> str:
    """A number with a fixed number of decimals and a real minus sign; zero has none."""
    return f"{round(number, decimals) + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
