"""What every measure asks of a table of predictions, and the rows of what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..statistics import interval

COLUMNS = ["part", "images", "value", "low", "high"]
"""Of every table of measures: what was measured, how many images say so, and how sure it is."""

_ASKED = ("image", "source", "true", "predicted", "status")


class Found(NamedTuple):
    """A measured number with its 95 % interval; NaN where there is none."""

    part: str
    images: int
    value: float
    low: float = np.nan
    high: float = np.nan


def measured(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The rows of images that were measured, with "right": whether the prediction is.

    Args:
        table: Of predictions.
        columns: Facts that the measure needs.

    Raises:
        ValueError: If a column is missing, no image was measured, or a fact is missing there.
    """
    missing = [name for name in (*_ASKED, *columns) if name not in table]
    if missing:
        raise ValueError(
            f"table: expected predictions with the columns {', '.join((*_ASKED, *columns))}, "
            f"missing {', '.join(missing)}"
        )
    known = table[table["status"] == ""]
    if known.empty:
        raise ValueError("table: expected at least one image that was measured, got none")
    for name in columns:
        if known[name].isna().any():
            raise ValueError(f"table: expected {name} of every measured image, got NaN")
    return known.assign(right=(known["predicted"] == known["true"]).astype(float))


def accuracy(part: str, rows: pd.DataFrame) -> Found:
    """The share that is right; images of one photo are not independent."""
    right = rows["right"].to_numpy()
    if not len(right):
        return Found(part, 0, np.nan)
    return Found(part, len(right), float(right.mean()), *interval(right, groups_of(rows)))


def groups_of(rows: pd.DataFrame) -> Any:
    """The photos that rows come from; None where each has its own."""
    return None if rows["source"].is_unique else rows["source"].to_numpy()


def linearised(value: float, slopes: ArrayLike, strata: NDArray[Any], x: ArrayLike) -> NDArray[Any]:
    """Values (n,) whose mean is a function of strata's means, and which vary as it does.

    By the delta method: each is the function's value, and what the row's deviation from the mean
    of its stratum adds to it. Deviations are those of a sample: larger by sqrt(m / (m - 1)) in a
    stratum of m rows.

    Args:
        value: Of the function.
        slopes: Its derivative by the mean of each stratum.
        strata: (n,) ints, the stratum of each row.
        x: (n,) of what the means are.
    """
    values = np.asarray(x, dtype=np.float64)
    found = np.full(len(values), float(value))
    for stratum, slope in enumerate(np.asarray(slopes, dtype=np.float64)):
        own = strata == stratum
        count = int(own.sum())
        if count > 1:
            larger = len(values) / count * np.sqrt(count / (count - 1))
            found[own] += slope * larger * (values[own] - values[own].mean())
    return found


def ends(values: NDArray[Any], lowest: float, highest: float) -> tuple[float, float]:
    """The interval of the values' mean, cut off at what is possible.

    NaN where they do not vary; but where all are 0 or 1, and may be nothing beyond, a rate's.
    """
    share = (lowest, highest) == (0.0, 1.0)
    low, high = interval(values, bounds=None if share else (-np.inf, np.inf))
    return float(np.clip(low, lowest, highest)), float(np.clip(high, lowest, highest))


def as_table(found: Sequence[Found]) -> pd.DataFrame:
    """Rows as a table with `COLUMNS`."""
    return pd.DataFrame(found, columns=COLUMNS)
