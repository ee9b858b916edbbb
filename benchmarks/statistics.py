"""How sure a measured mean is: intervals that cover, paired tests, and where there are none.

All are closed forms: no seed, and rows in another order change nothing but rounding. How often
they cover is measured by `cci_captum.benchmarks.coverage`; docs/faithfulness.md has the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri, stdtr, stdtrit

Array = NDArray[Any]

_FEWEST = 5  # independent values, where it is not a rate
_FEWEST_DIFFERING = 4  # values other than the most frequent, where bounds are not known
_ROUNDING = 1e-6  # of the range: values this close to a bound are at it


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
    columns, shape = _columns("values", values)
    lowest, highest = _checked_bounds(bounds)
    _check_level(level)
    _check_within("values", columns, lowest, highest)
    start, width = (0.0, 1.0) if bounds is None else (lowest, highest - lowest)
    ends_only = _at_bounds(columns, start, width)
    bounded = ends_only if bounds is None else np.full(len(ends_only), np.isfinite(width))
    mean, deviations = _jackknife(columns, groups, np.abs(columns).max(axis=0))
    rate = bounded & ends_only & (len(deviations) == len(columns))
    within, free = bounded & ~rate, ~bounded
    ends = np.full((2, len(mean)), np.nan)
    hits = (columns[:, rate] > start + width / 2).sum(axis=0)
    ends[:, rate] = np.stack(_clopper_pearson(hits, len(columns), level)) * width + start
    shares, spread = (mean[within] - start) / width, deviations[:, within] / width
    ends[:, within] = _bounded(shares, spread, level) * width + start
    ends[:, free] = _unbounded(mean[free], deviations[:, free], level)
    return _as_given(ends.clip(lowest, highest), shape)


def paired_interval(
    values: ArrayLike,
    others: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    bounds: tuple[float, float] | None = None,
    level: float = 0.95,
) -> tuple[Any, Any]:
    """The confidence interval of the mean difference of pairs; NaN where they support none.

    - Differences of two rates have Bonett and Price's (2012): one pair that differs is added in
      each direction. With Student's quantile, since the normal one is too small below 20 pairs.
    - Others have that of the differences, as `interval` has it without bounds: differences are
      seldom near the ends of their range.

    There is none where fewer than 5 pairs are independent; nor, but for rates, where fewer than 4
    differences differ from the most frequent one, as where two methods nearly always tie.

    Args:
        values: (n,), or (n, m), whose columns are each compared alone.
        others: Of the same shape, what is subtracted.
        groups: As for `interval`.
        bounds: Of values and others, as for `interval`.
        level: How often the interval is to hold the true mean difference, in (0, 1).

    Returns:
        As `interval`.

    Raises:
        ValueError: As `interval`; or if shapes differ.

    Example:
        >>> low, high = paired_interval([1, 1, 1, 0, 1] * 10, [1, 1, 0, 0, 1] * 10)
        >>> round(low, 3), round(high, 3)
        (0.07, 0.315)
    """
    _check_level(level)
    pairs = _Pairs(values, others, groups, bounds)
    ends = np.full((2, len(pairs.rates)), np.nan)
    centre, error, count = pairs.bonett_price()
    reach = error * stdtrit(count - 1, (1 + level) / 2)
    ends[:, pairs.rates] = centre - reach, centre + reach
    ends[:, ~pairs.rates] = _unbounded(*pairs.differences(), level)
    return _as_given(ends.clip(-pairs.furthest, pairs.furthest), pairs.shape)


def paired_p_value(
    values: ArrayLike,
    others: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    bounds: tuple[float, float] | None = None,
) -> Any:
    """How surprising the mean difference of pairs would be if the true one were 0.

    Two-sided: 1 minus the level at which `paired_interval` begins to hold 0.

    Args:
        values: As for `paired_interval`, as are others, groups and bounds.
        others: What is subtracted.
        groups: What each row comes from.
        bounds: Of values and others.

    Returns:
        A float for (n,), (m,) float64 for (n, m); NaN where there is no interval.

    Raises:
        ValueError: As `paired_interval`.

    Example:
        >>> round(paired_p_value([1, 1, 1, 0, 1] * 10, [1, 1, 0, 0, 1] * 10), 4)
        0.0028
    """
    pairs = _Pairs(values, others, groups, bounds)
    found = np.full(len(pairs.rates), np.nan)
    centre, error, count = pairs.bonett_price()
    found[pairs.rates] = 2 * stdtr(count - 1, -np.abs(centre) / error)
    found[~pairs.rates] = _unbounded_p_value(*pairs.differences())
    return float(found[0]) if len(pairs.shape) == 1 else found


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
    _check_level(level)
    hits, trials = np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if not ((trials >= 1) & (hits >= 0) & (hits <= trials)).all():
        raise ValueError(f"hits: expected 0 to trials, at least 1, got {hits} and {trials}")
    low, high = _clopper_pearson(hits, trials, level)
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


def holm(p_values: ArrayLike) -> Array:
    """Return p-values of several comparisons, adjusted so that all hold together (Holm 1979).

    Where those below 0.05 are called different, the chance that any is not is at most 5 %.

    Args:
        p_values: (n,) in [0, 1], or NaN for comparisons that were not made and do not count.

    Returns:
        (n,) float64, none smaller than it was.

    Raises:
        ValueError: If they are no such row.

    Example:
        >>> holm([0.01, 0.04, 0.03, float("nan")])
        array([0.03, 0.06, 0.06,  nan])
    """
    found = np.array(p_values, dtype=np.float64)
    if found.ndim != 1 or ((found < 0) | (found > 1)).any():
        raise ValueError(f"p_values: expected a row (n,) of numbers from 0 to 1, got {p_values!r}")
    order = np.argsort(found)[: np.isfinite(found).sum()]  # NaN is sorted last
    factors = np.arange(len(order), 0, -1)
    found[order] = np.maximum.accumulate(found[order] * factors).clip(max=1)
    return found


class _Pairs:
    """Columns of pairs, checked, and what differences say about them."""

    def __init__(
        self,
        values: ArrayLike,
        others: ArrayLike,
        groups: ArrayLike | None,
        bounds: tuple[float, float] | None,
    ) -> None:
        columns, self.shape = _columns("values", values)
        subtracted, shape = _columns("others", others)
        if shape != self.shape:
            raise ValueError(f"others: expected shape {self.shape}, as values, got {shape}")
        lowest, highest = _checked_bounds(bounds)
        _check_within("values", columns, lowest, highest)
        _check_within("others", subtracted, lowest, highest)
        start, width = (0.0, 1.0) if bounds is None else (lowest, highest - lowest)
        self._differences = columns - subtracted
        size = np.maximum(np.abs(columns), np.abs(subtracted)).max(axis=0)
        self._mean, self._deviations = _jackknife(self._differences, groups, size)
        self._width = width
        independent = len(self._deviations) == len(columns)
        both = _at_bounds(columns, start, width) & _at_bounds(subtracted, start, width)
        self.furthest = np.where(both, width, highest - lowest)
        self.rates = both & independent & (len(columns) >= _FEWEST)

    def bonett_price(self) -> tuple[Array, Array, int]:
        """Centre and standard error of the columns of rates, and how many pairs they have."""
        signs = np.round(self._differences[:, self.rates] / self._width)
        more, fewer = ((signs == sign).sum(axis=0) + 1 for sign in (1, -1))
        count = len(signs)
        centre = (more - fewer) / (count + 2)
        error = np.sqrt(((more + fewer) / (count + 2) - centre**2) / (count + 2))
        return centre * self._width, error * self._width, count

    def differences(self) -> tuple[Array, Array]:
        """Mean and deviations of the other columns."""
        return self._mean[~self.rates], self._deviations[:, ~self.rates]


def _jackknife(columns: Array, groups: ArrayLike | None, size: Array) -> tuple[Array, Array]:
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
    """How each group moves the means, (G, m), from the deviations of the rows; see `_jackknife`."""
    names = np.asarray(groups)
    rows = len(deviations)
    if names.shape != (rows,):
        raise ValueError(f"groups: expected one a row, ({rows},), got shape {names.shape}")
    _, places, sizes = np.unique(names, return_inverse=True, return_counts=True)
    if len(sizes) in (1, rows):
        return deviations[: len(sizes)]
    sums = np.stack([np.bincount(places, column) for column in deviations.T], axis=1)
    return sums * ((len(sizes) - 1) / (rows - sizes))[:, None]


def _unbounded(mean: Array, deviations: Array, level: float) -> Array:
    """Ends (2, m): Student's and Hall's together; NaN where there are none."""
    ends = _student_and_hall(mean, deviations, level)
    return np.where(_differing(deviations) < _FEWEST_DIFFERING, np.nan, ends)


def _unbounded_p_value(mean: Array, deviations: Array) -> Array:
    """Return p-values (m,), the larger of Student's and Hall's; NaN where there is none."""
    count = len(deviations)
    if count < _FEWEST:
        return np.full(len(mean), np.nan)
    spread, skew = _spread_and_skew(deviations)
    with np.errstate(divide="ignore", invalid="ignore"):
        student = mean / spread
        hall = ((1 + skew * student / 3) ** 3 - 1) / skew + skew / (6 * count)
        hall = np.where(np.abs(skew) < _ROUNDING, student, hall)
        # Whether the end towards 0 reaches it. Where Hall's statistic has another sign than the
        # mean, his does at any level.
        away = -np.sign(mean) * np.sqrt(count)
        one, other = (2 * stdtr(count - 1, away * t) for t in (student, hall))
    found = np.maximum(one, np.minimum(other / _surer(count), 1))
    return np.where(_differing(deviations) < _FEWEST_DIFFERING, np.nan, found)


def _bounded(shares: Array, deviations: Array, level: float) -> Array:
    """Ends (2, m) of means in [0, 1]; NaN where there are none."""
    count = len(deviations)
    if count < _FEWEST:
        return np.full((2, len(shares)), np.nan)
    at_end = np.minimum(shares, 1 - shares) < _ROUNDING
    variance = (deviations**2).sum(axis=0) / count / (count - 1)
    upper_tail = (1 + level) / 2
    # Korn and Graubard's factor: the variance is estimated, by as many values.
    estimated = (ndtri(upper_tail) / stdtrit(count - 1, upper_tail)) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        trials = np.where(at_end, count, shares * (1 - shares) / variance * estimated)
        low, high = _clopper_pearson(shares.clip(0, 1) * trials, trials, level)
    lower, upper = _student_and_hall(shares, deviations, level)
    ends = np.stack([np.fmin(low, lower), np.fmax(high, upper)]).clip(0, 1)
    return np.where((_differing(deviations) == 0) & ~at_end, np.nan, ends)


def _student_and_hall(mean: Array, deviations: Array, level: float) -> Array:
    """Ends (2, m): the lower and the higher ones of two intervals."""
    count = len(deviations)
    if count < _FEWEST:
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
        hall = np.where(np.abs(skew) < _ROUNDING, sign * quantile, hall)
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


def _clopper_pearson(hits: Array, trials: Any, level: float) -> tuple[Array, Array]:
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


def _columns(argument: str, values: ArrayLike) -> tuple[Array, tuple[int, ...]]:
    """The values as a table (n, m), and the shape that they had."""
    table = np.asarray(values, dtype=np.float64)
    if table.ndim not in (1, 2) or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(
            f"{argument}: expected a row (n,) or a table (n, m) of at least one number, all "
            f"finite, got shape {table.shape}"
            f"{'' if np.isfinite(table).all() else ' with NaN or infinity'}"
        )
    return table.reshape(len(table), -1), table.shape


def _as_given(ends: Array, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The ends (2, m) as floats where the values were a row."""
    return (float(ends[0, 0]), float(ends[1, 0])) if len(shape) == 1 else (ends[0], ends[1])


def _at_bounds(columns: Array, start: float, width: float) -> Array:
    """Which columns (m,) hold nothing but the two bounds."""
    if not np.isfinite([start, width]).all():
        return np.zeros(columns.shape[1], dtype=bool)
    shares = (columns - start) / width
    return np.all(np.minimum(np.abs(shares), np.abs(shares - 1)) < _ROUNDING, axis=0)


def _checked_bounds(bounds: tuple[float, float] | None) -> tuple[float, float]:
    lowest, highest = (-np.inf, np.inf) if bounds is None else map(float, bounds)
    if not lowest < highest:
        raise ValueError(f"bounds: expected the lower one first, got {bounds}")
    return lowest, highest


def _check_within(argument: str, columns: Array, lowest: float, highest: float) -> None:
    slack = _ROUNDING * (highest - lowest) if np.isfinite(highest - lowest) else 0.0
    if columns.min() < lowest - slack or columns.max() > highest + slack:
        raise ValueError(
            f"{argument}: expected {lowest:g} to {highest:g}, by bounds, got "
            f"{columns.min():g} to {columns.max():g}"
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
