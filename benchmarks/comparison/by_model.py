"""One row a model: what it is, how well it does, how faithful the methods are; or why it is not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..clip_variants import find_variant
from ..markdown import NO_INTERVAL, literal, table, with_interval
from ..statistics import rate_interval
from .measures import MEASURES
from .results import Comparison
from .titles import heading, title

FACTS = ("backbone", "patch", "image_size", "data", "loss", "parameters", "gflops")
"""Columns of what is known of a model that a list has; see `benchmarks.clip_variants`."""

_HEADS = {"image_size": "size", "data": "trained on", "parameters": "M", "gflops": "GFLOP"}


def by_model(
    comparisons: Sequence[Comparison], failed: Mapping[str, str], order: Sequence[str]
) -> pd.DataFrame:
    """Models side by side.

    Args:
        comparisons: Each of one model.
        failed: Model -> why there is nothing of it.
        order: Of the rows: all of these models.

    Returns:
        A row a model: "model"; `FACTS`, None where no list has it; of classification "accuracy"
        with "accuracy_low" and "accuracy_high", its share of images whose class it predicts; of
        each method under each protocol the main areas, as "cci: tokens: deletion_top1" with "...
        _low" and "... _high", or, without protocols, where its maps lie; and "error", "" if there
        is none.
    """
    known = {each.settings["model"]: each for each in comparisons}
    rows = []
    for model in order:
        row: dict[str, Any] = {"model": model, **dict.fromkeys(FACTS), "error": ""}
        try:
            variant = find_variant(model)
            row |= {name: getattr(variant, name) for name in FACTS}
        except ValueError:  # a model of the user's own
            pass
        if model in known:
            row |= _accuracy(known[model]) | _areas(known[model])
        else:
            row["error"] = failed.get(model, "")
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame[[*(name for name in frame if name != "error"), "error"]]


def page(frame: pd.DataFrame, method: str, protocol: str, note: str = "") -> str:
    """The table as a Markdown page, with the areas of one method.

    Args:
        frame: As of `by_model`.
        method: Its key in a comparison.
        protocol: "" if there is none.
        note: A paragraph of Markdown put before it.
    """
    start = f"{method}: {protocol + ': ' if protocol else ''}"
    measures = [
        name.removeprefix(start)
        for name in frame
        if name.startswith(start) and name.removeprefix(start) in MEASURES
    ]
    facts = [name for name in FACTS if frame[name].notna().any()]
    head = ["model", *(_HEADS.get(name, name) for name in facts)]
    accuracy = ["accuracy"] if "accuracy" in frame else []
    head += [*accuracy, *(f"{title(method)}: {heading(name)}" for name in measures)]
    errors = bool((frame["error"] != "").any())
    lines = []
    for row in frame.to_dict("records"):
        cells = [row["model"], *(_fact(row[name]) for name in facts)]
        cells += [_cell(row, name) for name in (*accuracy, *(start + name for name in measures))]
        lines.append(cells + [row["error"]] * errors)
    parts = ["# Models", note]
    if protocol and measures:
        parts.append(f'Areas under "{literal(protocol)}", with 95 % intervals.')
    parts.append(table(head + ["error"] * errors, lines))
    if "(-)" in parts[-1]:
        parts.append(NO_INTERVAL)
    return "\n\n".join(filter(None, parts)) + "\n"


def _accuracy(comparison: Comparison) -> dict[str, float]:
    if comparison.kind.name != "classification" or comparison.settings["explained"] != "true":
        return {}
    right = comparison.samples["predicted"] == comparison.samples["target"]
    low, high = rate_interval(int(right.sum()), len(right))
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": float(low),
        "accuracy_high": float(high),
    }


def _areas(comparison: Comparison) -> dict[str, float]:
    kind = comparison.kind
    protocols = list(filter(None, comparison.protocols))
    measures = kind.areas(*kind.main) if protocols else ("pointing_game", "energy")
    summary = comparison.summary(measures=[name for name in measures if name in comparison.results])
    found: dict[str, float] = {}
    for row in summary[summary["check"] == ""].to_dict("records"):
        said = f"{row['protocol']}: " if row["protocol"] else ""
        name = f"{row['method']}: {said}{row['measure']}"
        found |= {name: row["mean"], f"{name}_low": row["low"], f"{name}_high": row["high"]}
    return found


def _fact(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.0f}" if isinstance(value, float) else str(value)


def _cell(row: Mapping[str, Any], name: str) -> str:
    if math.isnan(row[name]):
        return ""
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])
