"""Plots side by side on a page, with room for the texts around them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ._inputs import Array, to_array
from ._lettering import Lettering, signed, text_height, text_width
from ._page import INK, MARGIN, Page

_FRAME = "#B0B0B0"
_ACROSS = 0.3  # inches between two plots
OVERHANG = 0.16  # inches by which a head may be wider than its plot
_DOWN = 0.12  # inches between a row and the next


def finite_row(name: str, values: Any, length: int | None = None) -> Array:
    """A row of finite numbers, of this length where one is given."""
    row = to_array(values)
    expected = "a row of numbers" if length is None else f"a row of {length} numbers"
    if row.ndim != 1 or row.dtype.kind not in "biuf" or length not in (None, len(row)):
        raise ValueError(f"{name}: expected {expected}, got shape {row.shape}, {row.dtype}")
    row = row.astype(np.float64)
    if not np.isfinite(row).all():
        raise ValueError(f"{name}: NaN or infinity at {int(np.argmin(np.isfinite(row)))}")
    return row


def limits(values: Array) -> tuple[float, float]:
    """The range of values and some room; rounding errors are no range."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high)) or 1.0
    room = 0.04 * (high - low) if high - low > 1e-9 * size else 0.1 * size
    return low - room, high + room


def ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Round numbers between low and high, at most eight, and their texts."""
    places = MaxNLocator(7, steps=[1, 2, 5, 10]).tick_values(low, high)
    step = float(places[1] - places[0])
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    shown = [float(p) for p in places if low - 1e-9 * step <= p <= high + 1e-9 * step]
    return shown, [signed(place, decimals) for place in shown]


def side_width(tick_texts: Sequence[str], label: Sequence[str], lettering: Lettering) -> float:
    """Inches left of the first column: its ticks, and a label that runs upwards."""
    ticks = max(text_width(text, lettering.small) for text in tick_texts)
    return lettering.height(label, lettering.label) + 0.14 + ticks


def below_ticks(lettering: Lettering) -> float:
    """Inches below a plot that its ticks take."""
    return 0.07 + text_height(1, lettering.small)


class Panels:
    """A page of plots in rows, each with lines of text above it and below its ticks.

    Args:
        heads: The lines above each plot.
        feet: The lines below the ticks of each plot.
        columns: The most plots in a row.
        width: Of a plot in inches.
        height: Of a plot in inches.
        side: Inches left of the first column.
        above: Inches kept free on top of the page.
        below: Inches kept free at its bottom.
        head_size: The font size of heads; None is that of labels.
        lettering: Of all texts.

    Attributes:
        page: The page.
        axes: Those of each plot, framed.
        bottom: Inches from the top of the page to where `below` begins.
    """

    def __init__(
        self,
        heads: Sequence[Sequence[str]],
        feet: Sequence[Sequence[str]],
        *,
        columns: int,
        width: float,
        height: float,
        side: float,
        above: float = 0.0,
        below: float = 0.0,
        head_size: float | None = None,
        lettering: Lettering,
    ) -> None:
        label, head_size = lettering.label, head_size or lettering.label
        ticks = below_ticks(lettering)
        rows = [range(i, min(i + columns, len(heads))) for i in range(0, len(heads), columns)]
        head = [max(lettering.height(heads[i], head_size) for i in r) + 0.05 for r in rows]
        foot = [max(lettering.height(feet[i], label) for i in r) + ticks for r in rows]
        right = MARGIN + side + len(rows[0]) * (width + _ACROSS) - _ACROSS + 0.12
        bottom = MARGIN + above + sum(head) + sum(foot) + len(rows) * (height + _DOWN) - _DOWN
        self.bottom = bottom
        self.page = Page(right + MARGIN, bottom + below + MARGIN, lettering)
        self.axes: list[Axes] = []
        top = MARGIN + above
        for row, over, under in zip(rows, head, foot, strict=True):
            top += over
            for column, index in enumerate(row):
                left = MARGIN + side + column * (width + _ACROSS)
                axes = self.page.axes(left, top, width, height)
                axes.spines[:].set(linewidth=0.5, color=_FRAME)
                self.axes.append(axes)
                lines = [*heads[index]]
                start = top - 0.05 - lettering.height(lines, head_size)
                self.page.text(left + width / 2, start, lines, head_size, "center")
                under_ticks = top + height + ticks
                self.page.text(left + width / 2, under_ticks, [*feet[index]], label, "center")
            top += height + under + _DOWN


def set_ticks(
    axes: Axes,
    across: tuple[list[float], list[str]],
    upwards: tuple[list[float], list[str]],
    label: Sequence[str] | None,
    lettering: Lettering,
) -> None:
    """Ticks of both axes; those upwards get texts and a label only in the first column.

    Args:
        axes: Of a plot whose limits are set.
        across: Places and texts on the horizontal axis.
        upwards: Places and texts on the vertical axis.
        label: Lines of the vertical label; None where the plot is not in the first column.
        lettering: Of both.
    """
    axes.set_xticks(*across)
    axes.set_yticks(*upwards)
    size, math = lettering.label, lettering.math
    look: dict[str, Any] = {"length": 2, "width": 0.5, "pad": 2, "color": _FRAME}
    axes.tick_params(labelsize=lettering.small, labelcolor=INK, **look)
    axes.tick_params(axis="y", labelleft=label is not None)
    if label is not None:
        axes.set_ylabel("\n".join(label), fontsize=size, color=INK, labelpad=3, parse_math=math)


def renamed(names: Iterable[str], labels: Mapping[str, str] | None) -> dict[str, str]:
    """What to call each name in the figure."""
    return {name: str((labels or {}).get(name, name)) for name in names}
