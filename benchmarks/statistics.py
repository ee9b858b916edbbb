"""How sure a measured mean is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def bootstrap_interval(
    values: ArrayLike, seed: int = 0, n_resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of a mean (Efron and Tibshirani 1993, chapter 13).

    For the difference of two methods on the same images, hand over the differences: the
    interval is then a paired one.

    Args:
        values: (n,) independent values, one an image; n at least 1.
        seed: Of the resampling; the same seed gives the same interval.
        n_resamples: How often n values are drawn anew, with replacement.
        level: The share of the resampled means between the two ends, in (0, 1).

    Returns:
        The lower and the upper end.

    Raises:
        ValueError: If values are not a row of finite numbers, or an option is out of range.

    Example:
        >>> low, high = bootstrap_interval([0.0, 1.0] * 50)
        >>> round(low, 2), round(high, 2)
        (0.4, 0.6)
    """
    row = np.asarray(values, dtype=np.float64)
    if row.ndim != 1 or row.size == 0 or not np.isfinite(row).all():
        raise ValueError(
            "values: expected a row of at least one number, all finite, got shape "
            f"{row.shape}{'' if np.isfinite(row).all() else ' with NaN or infinity'}"
        )
    if n_resamples < 1:
        raise ValueError(f"n_resamples: expected at least 1, got {n_resamples}")
    if not 0 < level < 1:
        raise ValueError(f"level: expected a number between 0 and 1, got {level}")
    rng = np.random.default_rng(seed)
    # One resample at a time: the memory stays that of the values.
    means = [row[rng.integers(row.size, size=row.size)].mean() for _ in range(n_resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
