"""The shortcuts of a model at a glance: classes that lean on a background more than elsewhere."""

from __future__ import annotations

import numpy as np
import pandas as pd

from cci_captum._checks import check_positive_int
from cci_captum.diagnosis import Rule, find_rule
from cci_captum.diagnosis.verdicts import share_column

from ..statistics import holm

_FEWEST = 2  # values that a variance needs
SHORTCUTS = (
    "class", "group", "images", "elsewhere", "share", "share_elsewhere", "difference", "low",
    "high", "p", "right", "right_elsewhere", "pictures",
)  # fmt: skip
"""Columns of `shortcuts`."""


def shortcuts(
    table: pd.DataFrame,
    rule: str | Rule = "shapley-regions",
    by: str = "background",
    *,
    pictures: int = 3,
    level: float = 0.95,
) -> pd.DataFrame:
    """For each predicted class and group of images, how much more the background counts there.

    Args:
        table: Of `diagnose` or `DiagnosisRun`, with a column of groups.
        rule: Whose shares.
        by: The column: what the data know of each image, such as "background" or "group".
        pictures: How many images to name, those with the largest share first.
        level: Of the intervals.

    Returns:
        A row each class that was predicted and group in which it was: "class", "group", "images"
        and "elsewhere", how many there are of the class in this group and in all others; "share"
        and "share_elsewhere", the mean share of the background; their "difference" with "low" and
        "high", Welch's interval (NaN where a side has fewer than two photos, or all are equal), and
        "p", Welch's test, Holm-corrected over all rows; "right" and "right_elsewhere", how often
        the prediction is true; "pictures", names. Sorted by "low", what is surest and largest
        first. Images of one source photo count as one, with their mean share.

    Raises:
        ValueError: If there is no such column, or no share at all.

    Example:
        >>> import pandas as pd
        >>> from cci_captum.benchmarks.diagnosis import shortcuts
        >>> table = pd.DataFrame({
        ...     "image": list("abcdef"), "true": 0, "predicted": 0, "predicted_name": "cow",
        ...     "background": ["grass"] * 3 + ["sand"] * 3,
        ...     "energy_share": [0.9, 0.8, 0.85, 0.2, 0.1, 0.15],
        ... })
        >>> found = shortcuts(table, "energy")
        >>> found[["class", "group", "difference"]].round(2).values.tolist()
        [['cow', 'grass', 0.7], ['cow', 'sand', -0.7]]
    """
    check_positive_int("pictures", pictures)
    column = share_column(find_rule(rule))
    for name in (by, column):
        if name not in table:
            raise ValueError(f"table: expected a column {name!r}, got {', '.join(table.columns)}")
    known = table[table[column].notna() & table[by].notna()]
    if known.empty:
        raise ValueError(f"table: expected images with a {column}, got none")
    known = known.assign(_right=known["true"] == known["predicted"])
    rows = []
    # By its index, too: two classes may have the same name, as "crane" in ImageNet.
    for (name, index, group), here in known.groupby(["predicted_name", "predicted", by], sort=True):
        elsewhere = known[
            (known["predicted_name"] == name) & (known["predicted"] == index) & (known[by] != group)
        ]
        ours, others = (_of_photos(part, column) for part in (here, elsewhere))
        low, high, p = _welch(ours, others, level)
        first = here.sort_values(column, ascending=False, kind="stable")["image"]
        rows.append(
            (
                name, group, len(here), len(elsewhere), ours.mean(), _mean(others),
                ours.mean() - _mean(others), low, high, p, here["_right"].mean(),
                elsewhere["_right"].mean(), first.head(pictures).tolist(),
            )
        )  # fmt: skip
    found = pd.DataFrame(rows, columns=list(SHORTCUTS))
    tested = found["p"].notna()
    if tested.any():
        found.loc[tested, "p"] = holm(found.loc[tested, "p"].to_numpy())
    order = found.sort_values(
        ["low", "difference"], ascending=False, na_position="last", kind="stable"
    )
    return order.reset_index(drop=True)


def _of_photos(part: pd.DataFrame, column: str) -> np.ndarray:
    """Shares, one a source photo."""
    if "source" in part:
        return part.groupby("source", sort=False)[column].mean().to_numpy()
    return part[column].to_numpy()


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _welch(ours: np.ndarray, others: np.ndarray, level: float) -> tuple[float, float, float]:
    """Ends of the interval of a difference of means, and the p value; NaN where there is none."""
    if min(len(ours), len(others)) < _FEWEST or np.ptp(ours) + np.ptp(others) == 0:
        return np.nan, np.nan, np.nan
    from scipy.stats import ttest_ind  # takes a second, of every command that diagnoses

    test = ttest_ind(ours, others, equal_var=False)
    ends = test.confidence_interval(level)
    return float(ends.low), float(ends.high), float(test.pvalue)
