"""A figure laid out in inches from its upper left corner, so that no text overlaps."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

from .._colours import DIVERGING_STOPS
from ._fonts import families, without_glyph
from ._lettering import DPI, Lettering, text_height, text_width
from ._picture import Picture

DIVERGING = LinearSegmentedColormap.from_list(
    "cci_diverging",
    DIVERGING_STOPS,
    N=513,  # odd, so that zero is exactly white
)
INK = "#222222"
MARGIN = 0.08  # inches of white around everything
GAP = 0.06  # inches between cells
SIDE = 1.3  # inches: the widest a row title may be
NARROWEST = 0.4  # inches: a cell


class Page:
    """A blank figure of width x height inches, or as much in the middle of one that there is."""

    def __init__(
        self,
        width: float,
        height: float,
        lettering: Lettering | None = None,
        figure: Figure | SubFigure | None = None,
    ) -> None:
        self.width, self.height = width, height
        self.lettering = lettering or Lettering()
        self.figure: Figure | SubFigure = (
            Picture(figsize=(width, height), dpi=DPI, facecolor="white")
            if figure is None
            else figure
        )
        self.own: list[Artist] = []  # what was put on it
        self._size = size_of(self.figure)
        self._left, self._top = (self._size[0] - width) / 2, (self._size[1] - height) / 2

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """New axes whose upper left corner is at (left, top)."""
        across, down = self._size
        axes = self.figure.add_axes(
            (*self.place(left, top + height), width / across, height / down)
        )
        self.own.append(axes)
        return axes

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Inches from the left and the top as shares of the figure from the left and the bottom."""
        return (self._left + x) / self._size[0], 1 - (self._top + y) / self._size[1]

    def text(
        self, x: float, top: float, lines: list[str], size: float, align: str, ink: str = INK
    ) -> None:
        """Lines of text from top downwards, each aligned with x."""
        for line in lines:
            above, below = self.lettering.around(line, size)
            text = self.figure.text(
                *self.place(x, top + above),
                line,
                fontsize=size,
                color=ink,
                ha=align,
                va="baseline",
                parse_math=self.lettering.math,
            )
            self.own.append(text)
            top += above + below

    def row_title(self, right: float, top: float, height: float, lines: list[str]) -> None:
        """Text left of a row, at half its height where it is not higher itself."""
        size = self.lettering.label
        top += max(height - self.lettering.height(lines, size), 0) / 2
        self.text(right, top, lines, size, "right")

    def colorbar(
        self,
        left: float,
        top: float,
        height: float,
        colours: Colormap,
        ticks: Sequence[str],
        labels: Iterable[str],
    ) -> None:
        """A vertical bar of colours.

        Args:
            left: Inches.
            top: Inches.
            height: Inches.
            colours: From its lower to its upper end.
            ticks: At equal steps from its lower to its upper end; where there is no room for all,
                at both ends.
            labels: What may stand beside it, of which the first that fits does.
        """
        size = self.lettering.small
        if text_height(len(ticks) - 1, size) > height:
            ticks = [ticks[0], ticks[-1]]
        axes = self.axes(left, top, 0.09, height)
        bar = self.figure.colorbar(ScalarMappable(Normalize(0, 1), colours), cax=axes)
        bar.set_ticks([place / (len(ticks) - 1) for place in range(len(ticks))], labels=ticks)
        axes.tick_params(labelsize=size, length=2, width=0.5, labelcolor=INK, color=INK, pad=2)
        label = next((text for text in labels if text_width(text, size) <= height), "")
        bar.set_label(label, fontsize=size, color=INK, labelpad=2)
        axes.spines[:].set_linewidth(0.5)

    def finished(self) -> Figure:
        """The figure, each of the page's texts in fonts that have its characters.

        Characters that no installed font has are boxes; a UserWarning names them.
        """
        in_own_fonts([text for artist in self.own for text in artist.findobj(Text)])
        return root_of(self.figure)


def in_own_fonts(texts: Sequence[Text]) -> None:
    """Put each text into fonts that have its characters, and warn of those that none has."""
    for text in texts:
        text.set_fontfamily(families(text.get_text()))
    if lacking := without_glyph(text.get_text() for text in texts):
        warnings.warn(
            f"no installed font has {lacking!r}, of which the figure shows boxes; install one "
            "for this script, such as Noto Sans",
            UserWarning,
            stacklevel=4,
        )


def label_axes(
    axes: Axes,
    title: str,
    side: str,
    below: str,
    lettering: Lettering,
    font_size: float | None,
) -> None:
    """Say what is in axes of a caller's own; without a text a label stays as it was."""
    lettering.widest([text.splitlines() for text in (title, side, below)], lettering.label)  # reads
    options: dict[str, Any] = {"parse_math": lettering.math}
    if font_size is not None:
        options["fontsize"] = font_size
    texts = []
    if title:
        texts.append(axes.set_title(title, **options))
    if side:
        texts.append(axes.set_ylabel(side, **options))
    if below:
        texts.append(axes.set_xlabel(below, **options))
    in_own_fonts(texts)


def size_of(figure: Figure | SubFigure) -> tuple[float, float]:
    """Width and height of a figure, or of a part of one, in inches."""
    dpi = root_of(figure).dpi
    return figure.bbox.width / dpi, figure.bbox.height / dpi


def root_of(figure: Figure | SubFigure) -> Figure:
    """The figure that a part belongs to."""
    root = figure.figure
    assert isinstance(root, Figure)
    return root


class _Layout(Protocol):
    @property
    def height(self) -> float: ...


_L = TypeVar("_L", bound=_Layout)


def largest(lay_out: Callable[[float], _L], least: float, most: float, height: float) -> _L:
    """The layout with the widest cells that is no higher than so many inches.

    Args:
        lay_out: From the width of a cell to a layout.
        least: Inches of a cell.
        most: Inches of a cell.
        height: Inches there are.

    Raises:
        ValueError: If cells of the least width are too high.
    """
    found = lay_out(most)
    if found.height <= height:
        return found
    found = lay_out(least)
    if found.height > height:
        raise ValueError(
            f"fig: expected at least {found.height:.2f} inches of height for these images with "
            f"their texts, got {height:.4g}"
        )
    for _ in range(12):  # halves, down to less than a thousandth of an inch
        tried = lay_out((least + most) / 2)
        if tried.height <= height:
            least, found = (least + most) / 2, tried
        else:
            most = (least + most) / 2
    return found


def beside_rows(
    titles: Sequence[str], lettering: Lettering, gap: float = GAP
) -> tuple[list[list[str]], float]:
    """Titles of rows, wrapped, and the inches left of what they are titles of."""
    size = lettering.label
    sides = [lettering.wrap(text, SIDE, size) for text in titles]
    return sides, MARGIN + (lettering.widest(sides, size) + gap if sides else 0)


def colorbar_width(ticks: Sequence[str], size: float) -> float:
    """Inches that a colour bar takes with its ticks and its label."""
    return 0.09 + 0.1 + max(text_width(tick, size) for tick in ticks) + text_height(1, size)
