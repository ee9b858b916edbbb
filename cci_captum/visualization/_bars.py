"""Bars of the drops of clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ._inputs import Array
from ._lettering import INCH, signed, text_width
from ._page import DIVERGING, INK

_SHORT = 0.25  # inches: the least that is left for the bars themselves


class Bars(NamedTuple):
    """A bar for each cluster of an image, largest drop on top, its value printed at its end."""

    names: list[str]
    values: Array
    texts: list[str]
    full: float  # the value at which colours are full

    @classmethod
    def of(cls, numbers: NDArray[np.int64], drops: Array, full: float) -> Bars:
        """Those of clusters that have these numbers and drops."""
        order = np.argsort(-drops, kind="stable")
        decimals = int(np.clip(2 - np.floor(np.log10(full)), 0, 6))  # three digits of the largest
        names = [str(number) for number in numbers[order]]
        texts = [signed(value, decimals) for value in drops[order]]
        return cls(names, drops[order], texts, full)

    def beside(self, size: float) -> float:
        """Inches left of the bars that the numbers of the clusters take."""
        return max(text_width(name, size) for name in self.names) + 0.1

    def least_width(self, size: float) -> float:
        """Inches that bars and their values take at least."""
        return float(self._rooms(size).sum()) + _SHORT

    def draw(self, axes: Axes, width: float, height: float, size: float) -> None:
        """Draw into axes of so many inches, in letters of this size or as small as bars are."""
        count = len(self.values)
        size = min(size, 0.8 * INCH * height / count)
        low, high = min(self.values.min(), 0.0), max(self.values.max(), 0.0)
        # Room for the texts on either side, then as much as is left for the bars.
        rooms = self._rooms(size)
        inch = (high - low or 1.0) / (width - rooms.sum())
        places = range(count)
        axes.barh(
            places,
            self.values,
            height=0.72,
            color=DIVERGING((self.values / self.full + 1) / 2),
            edgecolor=INK,
            linewidth=0.4,
        )
        for place, value, text in zip(places, self.values, self.texts, strict=True):
            align, gap = ("right", -0.04) if value < 0 else ("left", 0.04)
            x = value + gap * inch
            axes.text(x, place, text, fontsize=size, color=INK, ha=align, va="center_baseline")
        axes.axvline(0, color=INK, linewidth=0.6)
        spare = max(5 - count, 0) / 2  # so that few bars are not thick
        axes.set(
            xlim=(low - rooms[0] * inch, high + rooms[1] * inch),
            ylim=(count - 0.5 + spare, -0.5 - spare),
            xticks=[],
        )
        axes.set_yticks(places, self.names, fontsize=size, color=INK)
        axes.tick_params(length=0, pad=3)
        axes.spines[:].set_visible(False)

    def _rooms(self, size: float) -> Array:
        """Inches left and right of the bars that their values take."""
        room = max(text_width(text, size) for text in self.texts) + 0.08
        return np.array([room + 0.1 if self.values.min() < 0 else 0.0, room])
