"""A legend in columns that stands below all panels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.lines import Line2D

from ._lettering import INCH, Lettering
from ._looks import Look
from ._page import INK, Page

_HANDLE, _PAD, _BETWEEN, _SPACING = 2.6, 0.6, 1.8, 0.35  # in font sizes
_NAME = 2.6  # inches: the widest a name may be
_ABOVE = 0.1  # inches


class Legend:
    """Names and looks in as many columns as fit.

    Args:
        looks: Method -> look, in the order of the legend, column by column.
        names: Method -> its name.
        width: Inches that the legend may take.
        lettering: Of the names.
    """

    def __init__(
        self,
        looks: Mapping[str, Look],
        names: Mapping[str, str],
        width: float,
        lettering: Lettering,
    ) -> None:
        self._lettering = lettering
        self._em = lettering.label / INCH  # a font size in inches
        room = min(_NAME, width - (_HANDLE + _PAD) * self._em)
        self.lines = [lettering.fit(names[method], room, lettering.label) for method in looks]
        self.handles = [Line2D([], [], **look.options()) for look in looks.values()]
        fitting = [n for n in range(1, len(looks) + 1) if self._width(n) <= width]
        rows = -(-len(looks) // max(fitting, default=1))
        self.columns = -(-len(looks) // rows)  # no more than these rows need
        blocks = [[self.lines[i] for i in column] for column in self._split(self.columns)]
        self.height = _ABOVE + max(
            sum(lettering.height(lines, lettering.label) + _SPACING * self._em for lines in block)
            for block in blocks
        )

    def draw(self, page: Page, top: float) -> None:
        """Put the legend on a page, in the middle, below `top` inches."""
        legend = page.figure.legend(
            self.handles,
            ["\n".join(lines) for lines in self.lines],
            ncols=self.columns,
            loc="upper center",
            bbox_to_anchor=page.place(page.width / 2, top + _ABOVE),
            fontsize=self._lettering.label,
            labelcolor=INK,
            frameon=False,
            handlelength=_HANDLE,
            handletextpad=_PAD,
            columnspacing=_BETWEEN,
            labelspacing=_SPACING,
            borderpad=0,
            borderaxespad=0,
        )
        for text in legend.get_texts():
            text.set_parse_math(self._lettering.math)
        page.own.append(legend)

    def _split(self, columns: int) -> list[list[int]]:
        """The entries of each column, as matplotlib fills them."""
        return [part.tolist() for part in np.array_split(np.arange(len(self.lines)), columns)]

    def _width(self, columns: int) -> float:
        """Inches that so many columns take."""
        names = [
            self._lettering.widest([self.lines[i] for i in part], self._lettering.label)
            for part in self._split(columns)
        ]
        return sum(names) + (columns * (_HANDLE + _PAD + _BETWEEN) - _BETWEEN) * self._em
