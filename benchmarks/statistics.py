"""How sure a measured mean is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

_COUNTS_AT_ONCE = 2**22  # counts of drawn rows held in memory: 32 MB


@overload
def bootstrap_interval(
    values: Sequence[float], seed: int = 0, n_resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]: ...


@overload
def bootstrap_interval(
    values: Sequence[Sequence[float]], seed: int = 0, n_resamples: int = 2000, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


@overload
def bootstrap_interval(
    values: ArrayLike, seed: int = 0, n_resamples: int = 2000, level: float = 0.95
) -> tuple[Any, Any]: ...


def bootstrap_interval(
    values: ArrayLike, seed: int = 0, n_resamples: int = 2000, level: float = 0.95
) -> tuple[Any, Any]:
    """The percentile bootstrap interval of a mean (Efron and Tibshirani 1993, chapter 13).

    For the difference of two methods on the same images, hand over the differences: the
    interval is then a paired one. Several columns, such as methods or the points of a curve,
    are all resampled by the same rows, and each gets the interval that it would get alone, up
    to rounding.

    Args:
        values: (n,) independent values, one an image; or (n, m), a row an image; n and m at
            least 1.
        seed: Of the resampling; the same seed gives the same interval.
        n_resamples: How often n values (or rows) are drawn anew, with replacement.
        level: The share of the resampled means between the two ends, in (0, 1).

    Returns:
        The lower and the upper end: two floats for (n,), two (m,) float64 arrays for (n, m).

    Raises:
        ValueError: If values are not such a row or table of finite numbers, or an option is out
            of range.

    Example:
        >>> low, high = bootstrap_interval([0.0, 1.0] * 50)
        >>> round(low, 2), round(high, 2)
        (0.4, 0.6)
        >>> low, high = bootstrap_interval([[0.0, 7.0], [1.0, 7.0]] * 50)
        >>> low.round(2), high.round(2)
        (array([0.4, 7. ]), array([0.6, 7. ]))
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim not in (1, 2) or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(
            "values: expected a row (n,) or a table (n, m) of at least one number, all finite, "
            f"got shape {table.shape}{'' if np.isfinite(table).all() else ' with NaN or infinity'}"
        )
    if n_resamples < 1:
        raise ValueError(f"n_resamples: expected at least 1, got {n_resamples}")
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    ends = [(1 - level) / 2, (1 + level) / 2]
    rng = np.random.default_rng(seed)
    if table.ndim == 2:
        low, high = np.quantile(_resampled_means(table, rng, n_resamples), ends, axis=0)
        return low, high
    # One resample at a time: the memory stays that of the values.
    means = [table[rng.integers(table.size, size=table.size)].mean() for _ in range(n_resamples)]
    low, high = np.quantile(means, ends)
    return float(low), float(high)


def _resampled_means(
    table: NDArray[np.float64], rng: np.random.Generator, n_resamples: int
) -> NDArray[np.float64]:
    """The columns' means in each resample of the rows, (n_resamples, m).

    How often each row is drawn, times the rows: a product of matrices, some resamples at once.
    """
    n, m = table.shape
    means = np.empty((n_resamples, m))
    at_once = max(1, _COUNTS_AT_ONCE // n)
    for first in range(0, n_resamples, at_once):
        counts = np.empty((min(at_once, n_resamples - first), n))
        for count in counts:
            count[:] = np.bincount(rng.integers(n, size=n), minlength=n)
        means[first : first + len(counts)] = counts @ table / n
    return means
