"""The bootstrap interval, against what it must be where that is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cci_captum.benchmarks.statistics import bootstrap_interval


def test_normal_data_give_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    low, high = bootstrap_interval(values, n_resamples=20_000)
    half = 1.96 * values.std() / math.sqrt(len(values))  # the resampled means' own spread
    assert low == pytest.approx(values.mean() - half, abs=0.03 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.03 * half)


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_hits_give_binomial_quantiles(level: float) -> None:
    """The mean of n draws from k hits among n is Binomial(n, k / n) / n, exactly."""
    n, k = 30, 9
    masses = [math.comb(n, i) * (k / n) ** i * (1 - k / n) ** (n - i) for i in range(n + 1)]
    cumulated = np.cumsum(masses)
    expected = [np.searchsorted(cumulated, q) / n for q in ((1 - level) / 2, (1 + level) / 2)]
    found = bootstrap_interval([1.0] * k + [0.0] * (n - k), n_resamples=20_000, level=level)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("values", [[0.25], [0.25] * 40])
def test_equal_values_leave_no_doubt(values: list[float]) -> None:
    assert bootstrap_interval(values) == (0.25, 0.25)


def test_seeds_decide() -> None:
    values = np.random.default_rng(2).random(50)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, r"values: .* got shape \(0,\)$"),
        ({"values": [[1.0, 2.0]]}, r"values: .* got shape \(1, 2\)$"),
        ({"values": [1.0, math.nan]}, r"values: .* got shape \(2,\) with NaN or infinity"),
        ({"values": [1.0], "n_resamples": 0}, "n_resamples: expected at least 1, got 0"),
        ({"values": [1.0], "level": 1.0}, "level: expected .* got 1.0"),
    ],
)
def test_errors(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(**arguments)
