"""A public set as a picture: the one number of each model, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .benchmark import Benchmark
from .report import by_headline, measures

_COLOURS = ("#33558b", "#d95f02", "#4f9d69", "#a6518f", "#8a6d3b", "#5b5b5b", "#c23b3b", "#2a9db0")
_ROW = 0.28  # inches a model
_SPREAD = 0.6  # of the distance between two parts, what the models of one share
_THICKEST = 0.26  # inches a bar


def picture(
    predictions: Mapping[str, pd.DataFrame],
    benchmark: Benchmark,
    known: Mapping[str, Any] | None = None,
    width: float = 7.2,
) -> Figure:
    """The models by their headline, best first, and beside it what it is made of.

    Left, a bar a model, with 95 % intervals. Right, a dot a model in every variant, group or
    ablation, in the same colours; a ring is where the headline comes from, as the worst group.

    Args:
        predictions: Name of a model -> its table of predictions.
        benchmark: What was asked.
        known: Of the benchmark's `known`.
        width: In inches.

    Raises:
        ValueError: If there are no models, or a table is not of this benchmark.
    """
    measured = measures(predictions, benchmark, known)
    ordered = by_headline(measured, benchmark)
    colours = {model: _COLOURS[place % len(_COLOURS)] for place, model in enumerate(ordered)}
    parts = _parts(measured, benchmark)
    height = 1.1 + max(_ROW * len(ordered), 0.3 * len(parts), 1.2)
    figure = Figure(figsize=(width, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    thickness = min(0.62, _THICKEST * len(ordered) / (height - 1.1))
    _headline(left, measured, ordered, colours, benchmark, thickness)
    _made_of(right, measured, ordered, colours, parts, benchmark)
    for axes in (left, right):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure


def _headline(
    axes: Axes,
    measured: Mapping[str, Mapping[str, pd.DataFrame]],
    ordered: Sequence[str],
    colours: Mapping[str, str],
    benchmark: Benchmark,
    thickness: float,
) -> None:
    """A bar a model, from 0, with its number at its end."""
    furthest = 0.0
    for place, model in enumerate(ordered):
        row = benchmark.value(measured[model])
        value = float(row["value"])
        if np.isnan(value):
            axes.text(0, place, " not measured", va="center", fontsize=8, color="#777777")
            continue
        low, high = (value if np.isnan(row[end]) else float(row[end]) for end in ("low", "high"))
        axes.barh(place, value, thickness, color=colours[model])
        axes.plot([low, high], [place, place], color="black", linewidth=0.9)
        axes.annotate(
            _number(value, benchmark.percent, 1),
            (max(high, 0.0), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            fontweight="bold",
        )
        furthest = max(furthest, high)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(ordered)), ordered)
    axes.set_ylim(len(ordered) - 0.4, -0.6)  # the best on top
    axes.set_xlim(right=furthest * 1.22 + 0.01)
    title = benchmark.axis.replace(": ", ":\n")
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    lower = benchmark.better == "lower"
    axes.set_xlabel(
        "\N{LEFTWARDS ARROW} leans less on backgrounds"
        if lower
        else "leans less on backgrounds \N{RIGHTWARDS ARROW}",
        fontsize=8,
    )
    axes.xaxis.set_major_formatter(lambda value, _: _number(value, benchmark.percent, 0))


def _made_of(
    axes: Axes,
    measured: Mapping[str, Mapping[str, pd.DataFrame]],
    ordered: Sequence[str],
    colours: Mapping[str, str],
    parts: Sequence[str],
    benchmark: Benchmark,
) -> None:
    """A row a part, a dot a model in it."""
    tables = {model: measured[model][benchmark.panel[0]].set_index("part") for model in ordered}
    main = {model: float(benchmark.value(measured[model])["value"]) for model in ordered}
    step = _SPREAD / max(len(ordered), 1)
    for place, model in enumerate(ordered):
        own = tables[model].reindex(parts)
        heights = np.arange(len(parts)) + (place - (len(ordered) - 1) / 2) * step
        values = own["value"].to_numpy(dtype=float)
        ends = own[["low", "high"]].to_numpy(dtype=float)
        for height, value, (low, high) in zip(heights, values, ends, strict=True):
            if not np.isnan(low):
                axes.plot([low, high], [height, height], color=colours[model], linewidth=1.0)
            axes.plot([value], [height], "o", color=colours[model], markersize=4)
            if benchmark.headline[0] == benchmark.panel[0] and value == main[model]:
                axes.plot([value], [height], "o", markersize=8, mfc="none", mec="black", mew=0.9)
    for place in range(1, len(parts), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#f4f4f4", zorder=0)
    axes.set_yticks(range(len(parts)), [benchmark.labels.get(part, part) for part in parts])
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_title(benchmark.panel[1], loc="left", fontsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _parts(measured: Mapping[str, Mapping[str, pd.DataFrame]], benchmark: Benchmark) -> list[str]:
    """What the right panel shows: accuracies, neither the headline nor differences."""
    name, headline = benchmark.panel[0], benchmark.headline[1]
    every = dict.fromkeys(part for own in measured.values() for part in own[name]["part"])
    return [part for part in every if part != headline and not part.endswith("drop")]


def _number(value: float, percent: bool, digits: int) -> str:
    """A share in percent, or a signed number, with a minus sign that prints."""
    said = f"{value:.{digits}%}" if percent else f"{value:+.{digits + 1}f}"
    return said.replace("-", "\N{MINUS SIGN}")
