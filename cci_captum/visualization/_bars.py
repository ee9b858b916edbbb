"""Bars of the drops of clusters."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ._inputs import Array
from ._lettering import INCH, SMALLEST, signed, text_width
from ._page import DIVERGING, INK

_FEW = 5  # bars, which fewer are no thicker than
_PITCH = 1.25  # font sizes from bar to bar
_EDGE = 0.02  # inches left of the bars
_SHORT = 0.25  # inches: the least that is left for the bars themselves


class Bars(NamedTuple):
    """A bar for each cluster of an image, largest drop on top, its value printed to its right."""

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
        return self._room(size) + _EDGE + _SHORT

    def written(self, height: float, size: float) -> tuple[list[int], float]:
        """The bars that have room for a number and a value, from the top, and the font size.

        Args:
            height: Inches of the axes.
            size: The largest font size in points. Where not all have room at 5 points, those of
                the largest drops have, at that size.
        """
        pitch = INCH * height / max(len(self.values), _FEW) / _PITCH  # the size that has room
        if pitch >= min(size, SMALLEST):
            return [*range(len(self.values))], min(size, pitch)
        size = min(size, SMALLEST)
        found: list[int] = []
        for place in np.argsort(-np.abs(self.values), kind="stable").tolist():
            if all(abs(place - other) * pitch >= size for other in found):
                found.append(place)
        return sorted(found), size

    def draw(self, axes: Axes, width: float, height: float, size: float) -> None:
        """Draw into axes of so many inches, in letters of at most this size."""
        count = len(self.values)
        written, size = self.written(height, size)
        low, high = min(self.values.min(), 0.0), max(self.values.max(), 0.0)
        # Room for the texts on the right, then as much as is left for the bars.
        room = self._room(size)
        inch = (high - low or 1.0) / (width - room - _EDGE)
        places = range(count)
        axes.barh(
            places,
            self.values,
            height=0.72,
            color=DIVERGING((self.values / self.full + 1) / 2),
            edgecolor=INK,
            linewidth=0.4,
        )
        for place in written:
            value, text = self.values[place], self.texts[place]
            x = max(value, 0.0) + 0.04 * inch  # a bar to the left leaves room beside the line
            axes.text(x, place, text, fontsize=size, color=INK, ha="left", va="center_baseline")
        axes.axvline(0, color=INK, linewidth=0.6)
        spare = max(_FEW - count, 0) / 2  # so that few bars are not thick
        axes.set(
            xlim=(low - _EDGE * inch, high + room * inch),
            ylim=(count - 0.5 + spare, -0.5 - spare),
            xticks=[],
        )
        names = [self.names[place] for place in written]
        axes.set_yticks(written, names, fontsize=size, color=INK)
        axes.tick_params(length=0, pad=3)
        axes.spines[:].set_visible(False)

    def _room(self, size: float) -> float:
        """Inches right of the bars that their values take."""
        return max(text_width(text, size) for text in self.texts) + 0.08
