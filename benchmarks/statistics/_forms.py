"""The closed forms behind intervals and p-values, of columns of values, and their checks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri, stdtr, stdtrit

Array = NDArray[Any]

FEWEST = 5  # independent values, where it is not a rate
ROUNDING = 1e-6  # of the range: values this close to a bound are at it
_FEWEST_DIFFERING = 4  # values other than the most frequent, where bounds are not known


def jackknife(columns: Array, groups: ArrayLike | None, size: Array) -> tuple[Array, Array]:
    """The columns' means (m,), and how each of G groups moves them, (G, m).

    Groups of one row, or no groups: the deviations of the rows from the mean. Else G - 1 times
    what the mean loses where the group is left out, which for groups of one size is the group's
    mean minus the mean. Either way the mean's variance is the sum of squares over G (G - 1).
    What is nothing beside the size (m,) of the values is rounding, and 0.
    """
    mean = columns.mean(axis=0)
    deviations = columns - mean
    if groups is not None:
        deviations = _of_groups(deviations, groups)
    return mean, np.where(np.abs(deviations) > 1e-12 * size, deviations, 0)


def _of_groups(deviations: Array, groups: ArrayLike) -> Array:
    """How each group moves the means, (G, m), from the deviations of the rows; see `jackknife`."""
    names = np.asarray(groups)
    rows = len(deviations)
    if names.shape != (rows,):
        raise ValueError(f"groups: expected one a row, ({rows},), got shape {names.shape}")
    _, places, sizes = np.unique(names, return_inverse=True, return_counts=True)
    if len(sizes) in (1, rows):
        return deviations[: len(sizes)]
    sums = np.stack([np.bincount(places, column) for column in deviations.T], axis=1)
    return sums * ((len(sizes) - 1) / (rows - sizes))[:, None]


def unbounded_ends(mean: Array, deviations: Array, level: float) -> Array:
    """Ends (2, m): Student's and Hall's together; NaN where there are none."""
    ends = _student_and_hall(mean, deviations, level)
    return np.where(_differing(deviations) < _FEWEST_DIFFERING, np.nan, ends)


def unbounded_p_value(mean: Array, deviations: Array) -> Array:
    """Return p-values (m,), the larger of Student's and Hall's; NaN where there is none."""
    count = len(deviations)
    if count < FEWEST:
        return np.full(len(mean), np.nan)
    spread, skew = _spread_and_skew(deviations)
    with np.errstate(divide="ignore", invalid="ignore"):
        student = mean / spread
        hall = ((1 + skew * student / 3) ** 3 - 1) / skew + skew / (6 * count)
        hall = np.where(np.abs(skew) < ROUNDING, student, hall)
        # Whether the end towards 0 reaches it. Where Hall's statistic has another sign than the
        # mean, his does at any level.
        away = -np.sign(mean) * np.sqrt(count)
        one, other = (2 * stdtr(count - 1, away * t) for t in (student, hall))
    found = np.maximum(one, np.minimum(other / _surer(count), 1))
    return np.where(_differing(deviations) < _FEWEST_DIFFERING, np.nan, found)


def bounded_ends(shares: Array, deviations: Array, level: float) -> Array:
    """Ends (2, m) of means in [0, 1]; NaN where there are none."""
    count = len(deviations)
    if count < FEWEST:
        return np.full((2, len(shares)), np.nan)
    at_end = np.minimum(shares, 1 - shares) < ROUNDING
    variance = (deviations**2).sum(axis=0) / count / (count - 1)
    upper_tail = (1 + level) / 2
    # Korn and Graubard's factor: the variance is estimated, by as many values.
    estimated = (ndtri(upper_tail) / stdtrit(count - 1, upper_tail)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        trials = np.where(at_end, count, shares * (1 - shares) / variance * estimated)
        low, high = clopper_pearson(shares.clip(0, 1) * trials, trials, level)
    lower, upper = _student_and_hall(shares, deviations, level)
    ends = np.stack([np.fmin(low, lower), np.fmax(high, upper)]).clip(0, 1)
    return np.where((_differing(deviations) == 0) & ~at_end, np.nan, ends)


def _student_and_hall(mean: Array, deviations: Array, level: float) -> Array:
    """Ends (2, m): the lower and the higher ones of two intervals."""
    count = len(deviations)
    if count < FEWEST:
        return np.full((2, len(mean)), np.nan)
    spread, skew = _spread_and_skew(deviations)
    student = stdtrit(count - 1, (1 + level) / 2) / np.sqrt(count)
    tail = (1 - level) * _surer(count) / 2
    quantile = stdtrit(count - 1, 1 - tail) / np.sqrt(count)
    ends = []
    for sign, outer in ((1, np.fmax), (-1, np.fmin)):
        with np.errstate(divide="ignore", invalid="ignore"):
            # Hall's statistic, solved for mean minus true mean in units of the spread.
            hall = 3 / skew * (np.cbrt(1 + skew * (sign * quantile - skew / (6 * count))) - 1)
        hall = np.where(np.abs(skew) < ROUNDING, sign * quantile, hall)
        ends.append(mean - spread * outer(hall, sign * student))
    return np.stack(ends)


def _surer(count: int) -> float:
    """What Hall's interval may miss, as a share of what it is to miss.

    The 8 is the least with which the means of 5 to 50 lognormal values (sigma 1, skewness 6.2) are
    covered in 93 % of samples.
    """
    return count / (count + 8)


def _spread_and_skew(deviations: Array) -> tuple[Array, Array]:
    """Standard deviation and skewness of the columns, without bias in normal values."""
    count = len(deviations)
    variance, third = (deviations**2).mean(axis=0), (deviations**3).mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = third / variance**1.5 * np.sqrt(count * (count - 1)) / (count - 2)
    return np.sqrt(variance * count / (count - 1)), np.nan_to_num(skew, posinf=0, neginf=0)


def clopper_pearson(hits: Array, trials: Any, level: float) -> tuple[Array, Array]:
    """Ends of rates; trials and hits may be no whole numbers."""
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(hits <= 0, 0, betaincinv(hits, trials - hits + 1, tail))
        high = np.where(hits >= trials, 1, betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


def _differing(deviations: Array) -> Array:
    """How many values of each column are not its most frequent one, up to rounding."""
    largest = np.abs(deviations).max(axis=0)
    ordered = np.sort(np.round(deviations / np.where(largest > 0, largest, 1), 9), axis=0)
    places = np.arange(len(ordered))[:, None]
    starts = np.zeros_like(ordered, dtype=np.intp)
    starts[1:] = np.where(ordered[1:] != ordered[:-1], places[1:], 0)
    return len(ordered) - 1 - (places - np.maximum.accumulate(starts)).max(axis=0)


def columns_of(argument: str, values: ArrayLike) -> tuple[Array, tuple[int, ...]]:
    """The values as a table (n, m), and the shape that they had."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim not in (1, 2) or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(
            f"{argument}: expected a row (n,) or a table (n, m) of at least one number, all "
            f"finite, got shape {table.shape}"
            f"{'' if np.isfinite(table).all() else ' with NaN or infinity'}"
        )
    return table.reshape(len(table), -1), table.shape


def as_given(ends: Array, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The ends (2, m) as floats where the values were a row."""
    return (float(ends[0, 0]), float(ends[1, 0])) if len(shape) == 1 else (ends[0], ends[1])


def at_bounds(columns: Array, start: float, width: float) -> Array:
    """Which columns (m,) hold nothing but the two bounds."""
    if not np.isfinite([start, width]).all():
        return np.zeros(columns.shape[1], dtype=bool)
    shares = (columns - start) / width
    return np.all(np.minimum(np.abs(shares), np.abs(shares - 1)) < ROUNDING, axis=0)


def checked_bounds(bounds: tuple[float, float] | None) -> tuple[float, float]:
    """The bounds, infinite for None; ValueError unless the lower one comes first."""
    lowest, highest = (-np.inf, np.inf) if bounds is None else map(float, bounds)
    if not lowest < highest:
        raise ValueError(f"bounds: expected the lower one first, got {bounds}")
    return lowest, highest


def check_within(argument: str, columns: Array, lowest: float, highest: float) -> None:
    """Raise ValueError, naming `argument`, unless all values are within, up to rounding."""
    slack = ROUNDING * (highest - lowest) if np.isfinite(highest - lowest) else 0.0
    if columns.min() < lowest - slack or columns.max() > highest + slack:
        raise ValueError(
            f"{argument}: expected {lowest:g} to {highest:g}, by bounds, got "
            f"{columns.min():g} to {columns.max():g}"
        )


def check_level(level: float) -> None:
    """Raise ValueError unless the level is in (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
