"""A figure laid out in inches from its upper left corner, so that no text overlaps."""

from __future__ import annotations

import unicodedata
import warnings
from functools import lru_cache

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from .._colours import DIVERGING_STOPS
from ._fonts import families, without_glyph
from ._picture import Picture

DIVERGING = LinearSegmentedColormap.from_list(
    "cci_diverging",
    DIVERGING_STOPS,
    N=513,  # odd, so that zero is exactly white
)
TITLE, LABEL, SMALL = 9.0, 8.0, 7.0  # font sizes in points
INK = "#222222"
MARGIN = 0.08  # inches of white around everything
GAP = 0.06  # inches between cells
SIDE = 1.3  # inches: the widest a row title may be
_ENDS = "opposes   supports"  # along the colour bar, upwards
_INCH = 72  # points
_DPI = 150


class Page:
    """A blank figure of width x height inches."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Picture(figsize=(width, height), dpi=_DPI, facecolor="white")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """New axes whose upper left corner is at (left, top)."""
        bottom = self.height - top - height
        return self.figure.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def text(
        self, x: float, top: float, lines: list[str], size: float, align: str, ink: str = INK
    ) -> None:
        """Lines of text from top downwards, each aligned with x; no mathtext."""
        for index, line in enumerate(lines):
            baseline = top + text_height(index + 0.78, size)
            self.figure.text(
                x / self.width,
                1 - baseline / self.height,
                line,
                fontsize=size,
                color=ink,
                ha=align,
                va="baseline",
                parse_math=False,
            )

    def row_title(self, right: float, top: float, height: float, lines: list[str]) -> None:
        """Text left of a row, at half its height where it is not higher itself."""
        top += max(height - text_height(len(lines), LABEL), 0) / 2
        self.text(right, top, lines, LABEL, "right")

    def colorbar(
        self, left: float, top: float, height: float, ticks: list[str], colours: Colormap
    ) -> None:
        """A vertical bar of colours; ticks: its lower end, centre, upper end."""
        axes = self.axes(left, top, 0.09, height)
        bar = self.figure.colorbar(ScalarMappable(Normalize(-1, 1), colours), cax=axes)
        bar.set_ticks([-1, 0, 1], labels=ticks)
        axes.tick_params(labelsize=SMALL, length=2, width=0.5, labelcolor=INK, color=INK, pad=2)
        ends = _ENDS if text_width(_ENDS, SMALL) <= height else "attribution"
        bar.set_label(ends, fontsize=SMALL, color=INK, labelpad=2)
        axes.spines[:].set_linewidth(0.5)

    def finished(self) -> Picture:
        """The figure, each of its texts in fonts that have its characters.

        Characters that no installed font has are boxes; a UserWarning names them.
        """
        texts: list[Text] = self.figure.findobj(Text)
        for text in texts:
            text.set_fontfamily(families(text.get_text()))
        if lacking := without_glyph(text.get_text() for text in texts):
            warnings.warn(
                f"no installed font has {lacking!r}, of which the figure shows boxes; install one "
                "for this script, such as Noto Sans",
                UserWarning,
                stacklevel=3,
            )
        return self.figure


def colorbar_width(ticks: list[str]) -> float:
    """Inches that a colour bar takes with its ticks and its label."""
    return 0.09 + 0.1 + max(text_width(tick, SMALL) for tick in ticks) + text_height(1, SMALL)


def text_height(lines: float, size: float) -> float:
    """Inches that so many lines of text take."""
    return lines * 1.2 * size / _INCH


@lru_cache(maxsize=4096)
def text_width(text: str, size: float) -> float:
    """Inches that a line of text takes."""
    font = FontProperties(family=families(text), size=size)
    width, _, _ = _RULER.get_text_width_height_descent(text, font, False)
    return float(width) / _DPI


_RULER = RendererAgg(1, 1, _DPI)  # hinted as on the page: at 72 dpi, small texts are narrower


def widest(blocks: list[list[str]], size: float) -> float:
    """Inches that the widest line of some blocks of text takes; 0 without any."""
    return max((text_width(line, size) for block in blocks for line in block), default=0.0)


def wrap(text: str, width: float, size: float) -> list[str]:
    """The lines of a text, at most width inches wide; a longer word is cut."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and text_width(longer, size) > width:
                lines.append(line)
                longer = word
            line = longer
            while len(line) > 1 and text_width(line, size) > width:
                cut = _fitting(line, width, size)
                lines.append(line[:cut])
                line = line[cut:]
        lines.append(line)
    return lines


def _fitting(word: str, width: float, size: float) -> int:
    """How many of a word's characters go on a line: up to a hyphen or the like, else what fits."""
    places = [n for n in range(1, len(word)) if unicodedata.category(word[n])[0] != "M"]
    fits = [n for n in places if text_width(word[:n], size) <= width] or places[:1] or [len(word)]
    return max((n for n in fits if word[n - 1] in "-_/.,:"), default=fits[-1])


def signed(number: float, decimals: int) -> str:
    """A number with a fixed number of decimals and a real minus sign; zero has none."""
    return f"{round(number, decimals) + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
