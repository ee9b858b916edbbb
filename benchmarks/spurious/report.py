"""A page of Markdown on one public set, and lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..markdown import NO_INTERVAL, literal, table, with_interval
from ..predictions.pages import statuses
from .background_errors import background_errors
from .benchmark import Benchmark

FIGURE = "backgrounds.png"
"""The file that the page shows."""


def page(
    predictions: Mapping[str, pd.DataFrame],
    benchmark: Benchmark,
    known: Mapping[str, Any] | None = None,
    *,
    data: str = "",
    notes: Sequence[str] = (),
    how: str = "",
) -> str:
    """A page of Markdown: the models by their headline, every measure, and what was left out.

    Args:
        predictions: Name of a model -> its table of predictions on the benchmark's data.
        benchmark: What was asked.
        known: Of the benchmark's `known`.
        data: The data's name.
        notes: Theirs.
        how: How to make it again, as Markdown.

    Raises:
        ValueError: If there are no models, or a table is not of this benchmark.
    """
    measured = measures(predictions, benchmark, known)
    ordered = by_headline(measured, benchmark)
    said = [
        f"# {benchmark.name}",
        benchmark.question,
        _first_line(measured, ordered, benchmark),
        f"![{_axis(benchmark)}]({FIGURE})",
        _headlines(measured, ordered, benchmark),
    ]
    said += [literal(data)] if data else []
    said += [how] if how else []
    for name in measured[ordered[0]]:
        said += [f"## {name.capitalize()}", _parts(measured, ordered, name)]
    if benchmark.published:
        said += ["## As published", _published(benchmark)]
    said += _background_errors(predictions, ordered, benchmark)
    said += ["## What it measures", benchmark.says, "## What it does not", benchmark.limits]
    if missing := statuses(predictions):
        said += ["## Not measured", missing]
    said += ["Numbers in brackets are 95 % intervals.", NO_INTERVAL]
    if notes:
        said.append("\n".join(f"- {literal(note)}" for note in notes))
    return "\n\n".join(said) + "\n"


def text(
    predictions: Mapping[str, pd.DataFrame],
    benchmark: Benchmark,
    known: Mapping[str, Any] | None = None,
) -> str:
    """For the terminal: a line a model, the one that leans least on backgrounds first."""
    measured = measures(predictions, benchmark, known)
    width = max(map(len, measured))
    lines = [f"{_axis(benchmark)} ({benchmark.better} is better)"]
    for model in by_headline(measured, benchmark):
        row = benchmark.value(measured[model])
        lines.append(f"{model:{width}}  {with_interval(row['value'], row['low'], row['high'])}")
    out = sum(int((own["status"] != "").sum()) for own in predictions.values())
    if out:
        lines.append(f"{out} predictions were not measured: the page says why")
    return "\n".join(lines)


def measures(
    predictions: Mapping[str, pd.DataFrame],
    benchmark: Benchmark,
    known: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, pd.DataFrame]]:
    """Every measure of every model: model -> name of a table -> the table.

    Raises:
        ValueError: If there are no models, or a table is not of this benchmark.
    """
    if not predictions:
        raise ValueError("predictions: expected at least one model, got none")
    return {model: benchmark.measures(own, known or {}) for model, own in predictions.items()}


def by_headline(
    measured: Mapping[str, Mapping[str, pd.DataFrame]], benchmark: Benchmark
) -> list[str]:
    """The models, that which leans least on backgrounds first; those without a number last."""
    sign = 1 if benchmark.better == "lower" else -1
    values = {model: sign * benchmark.value(own)["value"] for model, own in measured.items()}
    return sorted(values, key=lambda model: (bool(np.isnan(values[model])), values[model]))


def _axis(benchmark: Benchmark) -> str:
    """The axis of its picture, in one line."""
    return " ".join(benchmark.axis.split())


def _first_line(
    measured: Mapping[str, Mapping[str, pd.DataFrame]], ordered: Sequence[str], benchmark: Benchmark
) -> str:
    best, last = ordered[0], ordered[-1]
    row = benchmark.value(measured[best])
    name = f"{_axis(benchmark)} ({benchmark.better} is better)."
    said = f"{name} **{literal(best)}**: {with_interval(row['value'], row['low'], row['high'])}"
    if len(ordered) == 1:
        return f"{said}."
    row = benchmark.value(measured[last])
    value = with_interval(row["value"], row["low"], row["high"])
    return f"{said}, the best of {len(ordered)} models; **{literal(last)}**, the last: {value}."


def _headlines(
    measured: Mapping[str, Mapping[str, pd.DataFrame]], ordered: Sequence[str], benchmark: Benchmark
) -> str:
    rows = []
    for model in ordered:
        row = benchmark.value(measured[model])
        value = with_interval(row["value"], row["low"], row["high"])
        rows.append([model, value, int(row["images"])])
    return table(["model", f"{benchmark.headline[1]} ({benchmark.better} is better)", "of"], rows)


def _parts(
    measured: Mapping[str, Mapping[str, pd.DataFrame]], ordered: Sequence[str], name: str
) -> str:
    tables = {model: measured[model][name].set_index("part") for model in ordered}
    parts = list(dict.fromkeys(part for own in tables.values() for part in own.index))
    rows = []
    for part in parts:
        cells: list[object] = []
        for own in tables.values():
            row = own.loc[part] if part in own.index else None
            cells.append(
                "" if row is None else with_interval(row["value"], row["low"], row["high"])
            )
        counts = [int(own.loc[part, "images"]) for own in tables.values() if part in own.index]
        rows.append([part, *cells, "/".join(map(str, dict.fromkeys(counts)))])
    return table(["", *ordered, "images"], rows)


def _published(benchmark: Benchmark) -> str:
    parts = list(dict.fromkeys(part for own in benchmark.published.values() for part in own))
    rows = [
        [model, *(f"{own[part]:.3f}" if part in own else "" for part in parts)]
        for model, own in benchmark.published.items()
    ]
    return table(["model", *parts], rows)


def _background_errors(
    predictions: Mapping[str, pd.DataFrame], ordered: Sequence[str], benchmark: Benchmark
) -> list[str]:
    rows = []
    for model in ordered:
        own = predictions[model]
        for row in background_errors(own, benchmark.by).itertuples():
            share = with_interval(row.value, row.low, row.high) if row.judged else "-"
            rows.append([model, row.rule, row.part, row.errors, row.judged, row.background, share])
    if not rows:
        return []
    said = "Of the wrong predictions with a verdict, those that the background drove (BG-Er)."
    head = ["model", "rule", benchmark.by, "errors", "judged", "by the background", "share"]
    return ["## Errors that the background drove", said, table(head, rows)]
