"""How many of a model's errors its background explains, where a diagnosis was made."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cci_captum.diagnosis.verdicts import rules_of, verdict_column

from ..statistics import interval
from ._tables import groups_of, measured


def background_errors(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Of the errors in each variant or group, those that a rule says the background drove.

    Args:
        table: Predictions with verdicts, "energy_verdict".
        by: The fact by which images are counted, such as "variant" or "group".

    Returns:
        A row each rule and value of `by`, then all images: "rule", "part", "images", "errors",
        "judged", errors with a verdict, "background", those of them that are "BG-Er", "value",
        their share of the judged ones, "low" and "high", its 95 % interval, for which images of one
        photo are not independent; NaN where there is none. No rows where the table has no verdicts.

    Raises:
        ValueError: If the table has no such fact.

    Example:
        >>> table = pd.DataFrame({"image": ["1", "2", "3"], "source": ["1", "2", "3"], "true": 0,
        ...     "predicted": [0, 1, 1], "status": "", "variant": "original",
        ...     "energy_verdict": ["FG-Co", "BG-Er", "FG-Er"]})
        >>> background_errors(table, "variant")[["part", "errors", "value"]].values.tolist()
        [['original', 2, 0.5], ['all', 2, 0.5]]
    """
    known = measured(table, by)
    parts = [(str(name), known[known[by] == name]) for name in dict.fromkeys(known[by])]
    rows = []
    for rule in rules_of(table):
        for part, own in [*parts, ("all", known)]:
            wrong = own[own["right"] == 0]
            said = wrong[wrong[verdict_column(rule)].notna()]
            hits = (said[verdict_column(rule)] == "BG-Er").to_numpy(dtype=np.float64)
            counts = (len(own), len(wrong), len(said), int(hits.sum()))
            value = float(hits.mean()) if len(hits) else np.nan
            low, high = interval(hits, groups_of(said)) if len(hits) else (np.nan, np.nan)
            rows.append((rule, part, *counts, value, low, high))
    names = ["rule", "part", "images", "errors", "judged", "background", "value", "low", "high"]
    return pd.DataFrame(rows, columns=names)
