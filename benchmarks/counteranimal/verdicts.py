"""Whether it is the background that makes models worse: drops, with verdicts on each photo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cci_captum.diagnosis import Rule
from cci_captum.diagnosis.verdicts import verdict_column

from ..data._counteranimal import GROUPS
from ..statistics import interval, paired_interval, rate_interval
from .accuracy import class_accuracies
from .measured import grouped_rows

_PERCENT = 100.0
_PARTS = ("background", "object", "unjudged")


def drops_with_verdicts(table: pd.DataFrame, rule: str | Rule = "shapley-regions") -> pd.DataFrame:
    """The drop of each class, and how many of its errors are the background's by a rule's verdicts.

    The paper calls a drop reliance on the background, since only that differs. A verdict on each
    photo says whether the background drove the error (BG-Er) or the object did (FG-Er, Fine-Er).

    Args:
        table: Of the predictions of one model, 1 vs 1000, with the column of the rule's verdicts.
        rule: Whose.

    Returns:
        A row each class with photos in both groups, by index: "index", "name", "common_background",
        "counter_background" and "drop", as `class_accuracies` has them; for "common" and "counter"
        "_photos", "_errors", "_judged", how many of the errors have a verdict, "_background", how
        many are BG-Er, and "_share", these of those judged, with "_low" and "_high", Clopper and
        Pearson's 95 % interval (NaN where none is judged). The drop is the sum of three parts, in
        points: "drop_background", how much more of all photos are BG-Er in counter than in common,
        "drop_object", the same of the other verdicts, and "drop_unjudged", of errors without.

    Raises:
        ValueError: If there is no such column, or as `class_accuracies`.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({
        ...     "true": 296, "predicted": [296, 296, 9, 9], "status": "",
        ...     "group": ["common", "common", "counter", "counter"],
        ...     "energy_verdict": ["FG-Co", "BG-Co", "BG-Er", "FG-Er"],
        ... })
        >>> found = drops_with_verdicts(table, "energy")
        >>> found[["drop", "counter_errors", "counter_share", "drop_background"]].values.tolist()
        [[100.0, 2.0, 0.5, 50.0]]
    """
    column = verdict_column(rule)
    if column not in table:
        raise ValueError(f"table: expected a column {column!r}, got {', '.join(table.columns)}")
    classes = class_accuracies(table)
    rows = grouped_rows(table)
    kept = ["index", "name", "common_background", "counter_background", "drop"]
    found = []
    for known in classes[classes["drop"].notna()].to_dict("records"):
        own = rows[rows["true"] == known["index"]]
        row: dict[str, Any] = {name: known[name] for name in kept}
        rates = {}
        for group in GROUPS:
            part = own[own["group"] == group]
            counts = _errors(part, column)
            row |= {f"{group}_{name}": value for name, value in counts.items()}
            rates[group] = _rates(counts)
        row |= {
            f"drop_{part}": _PERCENT * (rates["counter"][part] - rates["common"][part])
            for part in _PARTS
        }
        found.append(row)
    return pd.DataFrame(found)


def mean_drops(drops: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """The mean drop over classes and its three parts.

    Args:
        drops: Of `drops_with_verdicts`.
        level: Of the intervals.

    Returns:
        Rows "drop", "background", "object" and "unjudged": "mean" with "low" and "high", in points.
        Classes are independent; there is no interval where these are too few or too much alike.
    """
    found = []
    for name in ("drop", *_PARTS):
        values = drops["drop" if name == "drop" else f"drop_{name}"].to_numpy()
        bounds = (-_PERCENT, _PERCENT)
        low, high = paired_interval(values, np.zeros(len(values)), bounds=bounds, level=level)
        found.append((float(values.mean()), low, high))
    return pd.DataFrame(found, index=["drop", *_PARTS], columns=["mean", "low", "high"])


def background_errors(table: pd.DataFrame, rule: str | Rule = "shapley-regions") -> pd.DataFrame:
    """Of the errors of each group, how many the background drove.

    Args:
        table: See `drops_with_verdicts`.
        rule: The same.

    Returns:
        Rows "common" and "counter": "errors", "judged", how many have a verdict, "background", how
        many of these are BG-Er, and "share" with "low" and "high", a 95 % interval that takes
        classes as independent, not photos of one class; NaN where there is none.

    Raises:
        ValueError: If there is no such column, or as `class_accuracies`.
    """
    column = verdict_column(rule)
    if column not in table:
        raise ValueError(f"table: expected a column {column!r}, got {', '.join(table.columns)}")
    rows = grouped_rows(table)
    found = []
    for group in GROUPS:
        wrong = rows[(rows["group"] == group) & (rows["true"] != rows["predicted"])]
        judged = wrong[wrong[column].notna()]
        hits = (judged[column] == "BG-Er").to_numpy(dtype=np.float64)
        ends = interval(hits, judged["true"].to_numpy()) if len(hits) else (np.nan, np.nan)
        share = float(hits.mean()) if len(hits) else np.nan
        found.append((len(wrong), len(judged), int(hits.sum()), share, *ends))
    names = ["errors", "judged", "background", "share", "low", "high"]
    return pd.DataFrame(found, index=list(GROUPS), columns=names)


def _errors(part: pd.DataFrame, column: str) -> dict[str, Any]:
    """Of the photos of a group of a class."""
    wrong = part[part["true"] != part["predicted"]]
    judged = int(wrong[column].notna().sum())
    hits = int((wrong[column] == "BG-Er").sum())
    low, high = rate_interval(hits, judged) if judged else (np.nan, np.nan)
    return {
        "photos": len(part),
        "errors": len(wrong),
        "judged": judged,
        "background": hits,
        "share": hits / judged if judged else np.nan,
        "low": low,
        "high": high,
    }


def _rates(counts: dict[str, Any]) -> dict[str, float]:
    """Of all photos: errors of the background, of the object, and without a verdict."""
    return {
        "background": counts["background"] / counts["photos"],
        "object": (counts["judged"] - counts["background"]) / counts["photos"],
        "unjudged": (counts["errors"] - counts["judged"]) / counts["photos"],
    }
