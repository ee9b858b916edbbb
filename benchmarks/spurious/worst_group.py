"""Waterbirds: the group that is recognised worst (Sagawa et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..data.waterbirds import GROUPS
from ..statistics import rate_interval
from ._tables import Found, accuracy, as_table, ends, linearised, measured

WORST = "worst group"
REWEIGHTED = "average, as in training"
PLAIN = "average, as tested"

TRAINING_GROUPS = dict(zip(GROUPS, (3498, 184, 56, 1057), strict=True))
"""Images of each group in the training split as released."""


def worst_group(
    table: pd.DataFrame, training_groups: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """The accuracy of every group, the worst of them, and two averages.

    The average that is reported weights groups as the training split has them, since validation and
    test have other shares; the plain one is of all images as they are.

    The worst group's interval is one of the smallest of the true accuracies, whichever group has
    it: its ends are the smallest of the groups' lower and upper ends, at a level that all four hold
    together (Bonferroni).

    Args:
        table: Predictions on `cci_captum.benchmarks.data.Waterbirds`.
        training_groups: How many images of each group were trained on, such as the data's own
            `training_groups`; None is `TRAINING_GROUPS`.

    Returns:
        Rows "part", "images", "value", "low", "high": the groups, "worst group", "average, as in
        training", "average, as tested". A group without images has NaN, and so have the worst one
        and the weighted average, if it has weight.

    Raises:
        ValueError: If the table has no groups or others, or weights are none of theirs.

    Example:
        >>> rows = [(group, n < right) for group, right in zip(GROUPS, (10, 8, 4, 9))
        ...         for n in range(10)]
        >>> table = pd.DataFrame(rows, columns=["group", "predicted"])
        >>> table = table.assign(image=table.index, source=table.index, true=True, status="")
        >>> found = worst_group(table).set_index("part")["value"].round(3)
        >>> found["worst group"], found["average, as tested"]
        (np.float64(0.4), np.float64(0.775))
    """
    weights = dict(TRAINING_GROUPS if training_groups is None else training_groups)
    if set(weights) != set(GROUPS) or min(weights.values()) < 0 or not sum(weights.values()):
        raise ValueError(f"training_groups: expected a count for each of {GROUPS}, got {weights}")
    known = measured(table, "group")
    odd = sorted(set(known["group"]) - set(GROUPS))
    if odd:
        raise ValueError(f"table: expected groups of {GROUPS}, got {odd[0]!r}")
    found = [accuracy(name, known[known["group"] == name]) for name in GROUPS]
    plain = accuracy(PLAIN, known)
    return as_table([*found, _worst(found), _reweighted(known, found, weights), plain])


def _worst(found: list[Found]) -> Found:
    """The least of the groups, with an interval of the least true accuracy."""
    if any(not group.images for group in found):
        return Found(WORST, 0, np.nan)
    least = min(found, key=lambda group: group.value)
    hits = [round(group.value * group.images) for group in found]
    level = 1 - 0.05 / len(found)
    low, high = rate_interval(hits, [group.images for group in found], level)
    return Found(WORST, least.images, least.value, float(low.min()), float(high.min()))


def _reweighted(known: pd.DataFrame, found: list[Found], weights: Mapping[str, int]) -> Found:
    shares = np.array([weights[name] for name in GROUPS]) / sum(weights.values())
    if any(share and not group.images for share, group in zip(shares, found, strict=True)):
        return Found(REWEIGHTED, 0, np.nan)
    pairs = zip(shares, found, strict=True)
    value = float(sum(share * group.value for share, group in pairs if share))
    strata = known["group"].map(GROUPS.index).to_numpy()
    values = linearised(value, shares.tolist(), strata, known["right"])
    return Found(REWEIGHTED, len(known), value, *ends(values, 0.0, 1.0))
