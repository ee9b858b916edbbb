"""How sure the mean difference of pairs is, and what several comparisons say together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit

from ._forms import (
    FEWEST,
    Array,
    as_given,
    at_bounds,
    check_level,
    check_within,
    checked_bounds,
    columns_of,
    jackknife,
    unbounded_ends,
    unbounded_p_value,
)


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
    check_level(level)
    pairs = _Pairs(values, others, groups, bounds)
    ends = np.full((2, len(pairs.rates)), np.nan)
    centre, error, count = pairs.bonett_price()
    reach = error * stdtrit(count - 1, (1 + level) / 2)
    ends[:, pairs.rates] = centre - reach, centre + reach
    ends[:, ~pairs.rates] = unbounded_ends(*pairs.differences(), level)
    return as_given(ends.clip(-pairs.furthest, pairs.furthest), pairs.shape)


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
    found[~pairs.rates] = unbounded_p_value(*pairs.differences())
    return float(found[0]) if len(pairs.shape) == 1 else found


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
        columns, self.shape = columns_of("values", values)
        subtracted, shape = columns_of("others", others)
        if shape != self.shape:
            raise ValueError(f"others: expected shape {self.shape}, as values, got {shape}")
        lowest, highest = checked_bounds(bounds)
        check_within("values", columns, lowest, highest)
        check_within("others", subtracted, lowest, highest)
        start, width = (0.0, 1.0) if bounds is None else (lowest, highest - lowest)
        self._differences = columns - subtracted
        size = np.maximum(np.abs(columns), np.abs(subtracted)).max(axis=0)
        self._mean, self._deviations = jackknife(self._differences, groups, size)
        self._width = width
        independent = len(self._deviations) == len(columns)
        both = at_bounds(columns, start, width) & at_bounds(subtracted, start, width)
        self.furthest = np.where(both, width, highest - lowest)
        self.rates = both & independent & (len(columns) >= FEWEST)

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
