"""How sure a mean or a rate is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._forms import (
    as_given,
    at_bounds,
    bounded_ends,
    check_level,
    check_within,
    checked_bounds,
    clopper_pearson,
    columns_of,
    jackknife,
    unbounded_ends,
)


def interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
) -> tuple[Any, Any]:
    """The confidence interval of a mean; NaN where the values support none.

    - Rates, columns of nothing but the two bounds, have that of Clopper and Pearson, see
      `rate_interval`.
    - Others have Student's, made wider by Hall's (1992, "On the removal of skewness by
      transformation"), which reaches further on the side of the long tail. Hall's is taken at the
      level 1 - (1 - level) n / (n + 8), since few values say little about skewness.
    - Within bounds, that is made wider by Clopper and Pearson's for as many trials as would vary
      as the mean does (Korn and Graubard 1998): many equal values at one bound say little about
      those that are not.

    There is none where fewer than 5 values are independent or all are equal; and, without bounds,
    where fewer than 4 differ from the most frequent one. Rates of independent rows always have one.

    Args:
        values: (n,) values; or (n, m), whose columns each get the interval that they would get
            alone.
        groups: (n,) what each row comes from, such as its source photo, where rows of one are
            alike; None says that rows are independent. The mean stays that of all rows; how sure
            it is follows from leaving out one group after another (the jackknife), and n above
            is the number of groups.
        bounds: The least and the greatest possible value, infinite where there is none. None is
            (0, 1) for columns of nothing but 0 and 1, and infinite for others.
        level: How often the interval is to hold the true mean, in (0, 1).

    Returns:
        The lower and the upper end: two floats for (n,), two (m,) float64 arrays for (n, m).

    Raises:
        ValueError: If values are not such a row or table of finite numbers within the bounds,
            there is not a group a row, or an option is out of range.

    Example:
        >>> low, high = interval([1.0, 2.0, 3.0, 4.0, 5.0, 9.0])
        >>> round(low, 1), round(high, 1)
        (1.0, 17.3)
        >>> low, high = interval([1] * 49 + [0])
        >>> round(low, 3), round(high, 3)
        (0.894, 0.999)
        >>> interval([0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
        (nan, nan)
    """
    columns, shape = columns_of("values", values)
    lowest, highest = checked_bounds(bounds)
    check_level(level)
    check_within("values", columns, lowest, highest)
    start, width = (0.0, 1.0) if bounds is None else (lowest, highest - lowest)
    ends_only = at_bounds(columns, start, width)
    bounded = ends_only if bounds is None else np.full(len(ends_only), np.isfinite(width))
    mean, deviations = jackknife(columns, groups, np.abs(columns).max(axis=0))
    rate = bounded & ends_only & (len(deviations) == len(columns))
    within, free = bounded & ~rate, ~bounded
    ends = np.full((2, len(mean)), np.nan)
    hits = (columns[:, rate] > start + width / 2).sum(axis=0)
    ends[:, rate] = np.stack(clopper_pearson(hits, len(columns), level)) * width + start
    shares, spread = (mean[within] - start) / width, deviations[:, within] / width
    ends[:, within] = bounded_ends(shares, spread, level) * width + start
    ends[:, free] = unbounded_ends(mean[free], deviations[:, free], level)
    return as_given(ends.clip(lowest, highest), shape)


def rate_interval(hits: ArrayLike, trials: ArrayLike, level: float = 0.95) -> tuple[Any, Any]:
    """The interval of Clopper and Pearson (1934): it never covers less often than its level.

    Wilson's (1927) is 4 to 12 % narrower and covers 90 % to 92 % at some rates from 20 to 50
    trials, such as 92.2 % of a rate of 0.02 or 0.98 in 50.

    Args:
        hits: How many trials hit, 0 to trials; a number or an array.
        trials: How many trials there were, at least 1; the same.
        level: See above, in (0, 1).

    Returns:
        The lower and the upper end, floats or float64 arrays.

    Raises:
        ValueError: If there are not that many, or the level is out of range.

    Example:
        >>> low, high = rate_interval(9, 10)
        >>> round(low, 3), round(high, 3)
        (0.555, 0.997)
    """
    check_level(level)
    hits, trials = np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if not ((trials >= 1) & (hits >= 0) & (hits <= trials)).all():
        raise ValueError(f"hits: expected 0 to trials, at least 1, got {hits} and {trials}")
    low, high = clopper_pearson(hits, trials, level)
    return (float(low), float(high)) if low.ndim == 0 else (low, high)
