"""A diagnosis as pictures: how often each verdict is given, and the images at both ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from cci_captum.attribution.native_map import native_map
from cci_captum.diagnosis import VERDICTS, Rule
from cci_captum.diagnosis.sources import as_photo
from cci_captum.diagnosis.verdicts import share_column, verdict_column
from cci_captum.visualization import attribution_grid

from ..tasks import Task
from .report import counts

_COLOURS = ("#33558b", "#d95f02", "#7a9cc6", "#f2a65a", "#b8b8b8")
_BAR = 0.16  # of the distance between two rules


def verdict_bars(table: pd.DataFrame, rules: Sequence[Rule], width: float = 6.5) -> Figure:
    """How often each rule gives each verdict, with 95 % intervals.

    Args:
        table: Of `diagnose` or `DiagnosisRun`.
        rules: Whose verdicts.
        width: In inches.

    Returns:
        A figure of one panel: a group of five bars a rule.
    """
    found = counts(table, rules)
    figure = Figure(figsize=(width, 2.6), layout="constrained")
    axes = figure.add_subplot()
    for place, (verdict, colour) in enumerate(zip(VERDICTS, _COLOURS, strict=True)):
        own = found[found["verdict"] == verdict]
        centres = np.arange(len(own)) + (place - 2) * _BAR
        rates = own["rate"].fillna(0.0).to_numpy()
        ends = np.stack([rates - own["low"].fillna(0.0), own["high"].fillna(0.0) - rates])
        axes.bar(centres, rates, 0.9 * _BAR, color=colour, label=verdict)
        axes.errorbar(
            centres, rates, ends.clip(min=0), fmt="none", ecolor="black", elinewidth=0.8, capsize=2
        )
    axes.set_xticks(range(len(rules)), [str(rule).replace("(", "\n(") for rule in rules])
    axes.set_ylabel("share of images", fontsize=8)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(VERDICTS), fontsize=8, frameon=False)
    return figure


def extremes(
    table: pd.DataFrame,
    task: Task,
    rule: Rule,
    method: Any,
    count: int = 4,
) -> Figure:
    """The images in which the background counts most, then those in which it counts least.

    Args:
        table: Of a `DiagnosisRun`.
        task: The run's.
        rule: By whose share.
        method: From a classifier to an attribution of it, whose maps are shown: those for the
            predicted class.
        count: Images of each end.

    Returns:
        An attribution grid: a row an image, the object outlined; below, shares and verdict.

    Raises:
        ValueError: If no image has a share.
    """
    known = table[table[share_column(rule)].notna()]
    if known.empty:
        raise ValueError(f"table: expected images with a share of {rule}, got none")
    ordered = known.sort_values(share_column(rule), ascending=False, kind="stable")
    count = min(count, (len(ordered) + 1) // 2)
    chosen = pd.concat([ordered.head(count), ordered.tail(min(count, len(ordered) - count))])
    batch, _ = task.block([int(index) for index in chosen["index"]])
    assert batch is not None and batch.masks is not None
    rows = chosen.set_index("index").loc[batch.indices]
    explainer = method(task.forward_func)
    with torch.no_grad():
        maps = native_map(explainer, batch.inputs, rows["explained"].tolist())
    name = str(getattr(method, "title", None) or getattr(method, "__name__", "map"))
    said = [
        f"{row[verdict_column(rule)]}: share {row[share_column(rule)]:+.2f}".replace(
            "-0.", "\N{MINUS SIGN}0."
        )
        for _, row in rows.iterrows()
    ]
    titles = [
        f"{row['true_name']}"
        if row["true"] == row["predicted"]
        else f"{row['true_name']}, taken for {row['predicted_name']}"
        for _, row in rows.iterrows()
    ]
    return attribution_grid(
        batch.photos,
        {name: maps.float().cpu()},
        row_titles=titles,
        scores={"image": said},
        masks=[
            as_photo(mask.cpu(), (0, 0, *photo.size), (photo.height, photo.width))
            for mask, photo in zip(batch.masks, batch.photos, strict=True)
        ],
    )
