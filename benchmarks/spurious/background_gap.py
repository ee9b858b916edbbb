"""ImageNet-9: what another background costs, and whether any background does (Xiao et al. 2020)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..data.imagenet9 import FOLDERS, VARIANTS
from ..statistics import paired_interval, rate_interval
from ._tables import Found, accuracy, as_table, measured

GAP = "BG-Gap"
PASSED = "challenge"

SAME, RANDOM = "mixed_same", "mixed_rand"


def background_gap(table: pd.DataFrame) -> pd.DataFrame:
    """The accuracy in every variant, and BG-Gap: that in "mixed_same" less that in "mixed_rand".

    Args:
        table: Predictions on `cci_captum.benchmarks.data.ImageNet9`. A prediction that is none of
            the nine classes is wrong, as in the released code.

    Returns:
        Rows "part", "images", "value", "low", "high": a variant each, then "BG-Gap", if both of
        its variants are there. Its images are the photos measured in both; its interval is that of
        pairs (`cci_captum.benchmarks.statistics.paired_interval`).

    Raises:
        ValueError: If the table has no variants.

    Example:
        >>> rows = [(f"{i}", v, i < right) for v, right in [("mixed_same", 9), ("mixed_rand", 6)]
        ...         for i in range(10)]
        >>> table = pd.DataFrame(rows, columns=["source", "variant", "predicted"])
        >>> table = table.assign(image=table["source"], true=True, status="")
        >>> background_gap(table)["value"].round(3).tolist()
        [0.9, 0.6, 0.3]
    """
    known = measured(table, "variant")
    names = [name for name in VARIANTS if (known["variant"] == name).any()]
    found = [accuracy(name, known[known["variant"] == name]) for name in names]
    if SAME in names and RANDOM in names:
        found.append(difference(known, SAME, RANDOM, GAP))
    return as_table(found)


def difference(known: pd.DataFrame, variant: str, other: str, part: str) -> Found:
    """How much more often one variant is right than another, over the photos measured in both.

    Args:
        known: Measured rows, with "variant" and "right".
        variant: The one.
        other: What is subtracted.
        part: What the difference is called.
    """
    both = known[known["variant"].isin([variant, other])]
    wide = both.pivot_table(index="source", columns="variant", values="right", aggfunc="mean")
    wide = wide.reindex(columns=[variant, other]).dropna()
    if wide.empty:
        return Found(part, 0, np.nan)
    values, others = wide[variant].to_numpy(), wide[other].to_numpy()
    low, high = paired_interval(values, others, bounds=(0.0, 1.0))
    return Found(part, len(wide), float((values - others).mean()), low, high)


def challenge(table: pd.DataFrame) -> pd.DataFrame:
    """The Backgrounds Challenge: the share of objects that no background makes wrong.

    Args:
        table: Predictions on `cci_captum.benchmarks.data.ImageNet9Challenge`. An object of which
            some images were not measured counts by the others.

    Returns:
        Rows "part", "images", "value", "low", "high": "challenge", then "images", the share of all
        images that are right, then each class's share of objects. Images of the first and of
        classes are objects.

    Raises:
        ValueError: If no image was measured.

    Example:
        >>> table = pd.DataFrame({"source": ["a", "a", "b", "b"], "true": 0, "status": "",
        ...                       "predicted": [0, 0, 0, 3], "image": ["1", "2", "3", "4"]})
        >>> challenge(table)["value"].tolist()
        [0.5, 0.75, 0.5]
    """
    known = measured(table)
    objects = known.groupby("source", sort=False).agg(
        right=("right", "min"), true=("true", "first")
    )
    found = [_passed(PASSED, objects), accuracy("images", known)]
    for place, folder in enumerate(FOLDERS):
        own = objects[objects["true"] == place]
        if len(own):
            found.append(_passed(folder.partition("_")[2], own))
    return as_table(found)


def _passed(part: str, objects: pd.DataFrame) -> Found:
    hits, count = int(objects["right"].sum()), len(objects)
    return Found(part, count, hits / count, *rate_interval(hits, count))
