"""Studies as pictures: differences with their intervals, a row a method or level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..comparison import MEASURES
from ..comparison.titles import heading, title
from .choices import Level
from .leading import label_of
from .tables import areas_of

_INK, _FAINT = "0.15", "0.7"
_COLOURS = ("#0072b2", "#d55e00", "#009e73")  # Okabe and Ito's
_MARKERS = ("o", "s", "D")


def leading(found: Mapping[str, pd.DataFrame]) -> Figure:
    """Leaders less every other method: gains with 95 % intervals, a row of panels an area.

    Args:
        found: Leader -> its `differences` with "gain".
    """
    first = next(iter(found.values()))
    others = list(first["method"].unique())
    panels = areas_of(first)
    areas = len({measure for _, measure in panels})
    figure, axes = _panels(panels, len(others), 0.11 * len(found), areas)
    offsets = np.linspace(-0.25, 0.25, len(found)) if len(found) > 1 else [0.0]
    for (leader, own), offset, colour, marker in zip(
        found.items(), offsets, _COLOURS, _MARKERS, strict=False
    ):
        for axis, (protocol, measure) in zip(axes, panels, strict=True):
            rows = own[(own["protocol"] == protocol) & (own["measure"] == measure)]
            places = [others.index(name) + offset for name in rows["method"]]
            _points(axis, rows, places, colour, marker, label_of(leader))
    _finish(figure, axes, [title(name) for name in others])
    known, names = axes[0].get_legend_handles_labels()
    figure.legend(
        known, names, frameon=False, fontsize=8, ncols=len(found), loc="outside upper center"
    )
    return figure


def choices(changed: pd.DataFrame, levels: Sequence[Level]) -> Figure:
    """What each level gains beside the method as it is, with 95 % intervals.

    Args:
        changed: As `report.changes` gives it.
        levels: Those that were measured.
    """
    panels = areas_of(changed)
    names, places = list[str](), list[int]()  # a line for each method as it is, above its levels
    borders = []
    for before, level in zip([None, *levels], levels, strict=False):
        if before is None or before.base != level.base:
            names.append(f"{title(level.base)}:")
            borders.append(len(names) - 1.5)
        elif before.choice != level.choice:
            borders.append(len(names) - 0.5)
        places.append(len(names))
        names.append(f"{level.choice}: {level.level}")
    figure, axes = _panels(panels, len(names), 0.17)
    for axis, (protocol, measure) in zip(axes, panels, strict=True):
        own = changed[(changed["protocol"] == protocol) & (changed["measure"] == measure)]
        keyed = own.set_index(["base", "method"])
        rows = keyed.loc[[(level.base, level.name) for level in levels]]
        _points(axis, rows, places, _COLOURS[0], "o", "")
        for border in borders[1:]:
            axis.axhline(border, color=_FAINT, linewidth=0.5)
    _finish(figure, axes, names)
    return figure


def _panels(
    panels: Sequence[tuple[str, str]], rows: int, height: float, lines: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of so many lines of panels, each of so many rows of such a height, in inches."""
    columns = len(panels) // lines
    size = (2.2 + 1.5 * columns, 1.0 + lines * (0.6 + max(height * rows, 0.8)))
    figure = Figure(figsize=size, layout="constrained")
    axes = [*figure.subplots(lines, columns, sharey=True, squeeze=False).flat]
    for axis, (protocol, measure) in zip(axes, panels, strict=True):
        axis.set_title(f"{protocol}\n{heading(measure)}" if protocol else heading(measure), size=8)
    return figure, axes


def _points(
    axis: Axes, rows: pd.DataFrame, places: Sequence[float], colour: str, marker: str, name: str
) -> None:
    """Gains and their intervals; hollow where not off zero."""
    gains = rows["gain"].to_numpy()
    turned = MEASURES[rows["measure"].iloc[0]].better == "lower"
    low, high = (-rows["high"], -rows["low"]) if turned else (rows["low"], rows["high"])
    axis.hlines(places, low, high, color=colour, linewidth=1)
    sure = (rows["verdict"] != "").to_numpy()
    axis.scatter(
        gains,
        places,
        s=14,
        marker=marker,
        edgecolors=colour,
        facecolors=[colour if known else "white" for known in sure],
        linewidths=1,
        zorder=3,
        label=name,
    )


def _finish(figure: Figure, axes: Sequence[Axes], names: Sequence[str]) -> None:
    for axis in axes:
        axis.axvline(0, color=_INK, linewidth=0.6)
        axis.tick_params(labelsize=7, length=2)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(names)), names, fontsize=7)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel("gain: to the right is better; hollow: not off zero (Holm)", fontsize=8)
