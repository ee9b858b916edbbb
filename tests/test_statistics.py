"""The bootstrap interval, against what it must be where that is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cci_captum.benchmarks import statistics
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


@pytest.mark.parametrize("n", [1, 2, 7, 200])
def test_a_row_by_its_definition(n: int) -> None:
    """To the last bit: documents quote these intervals."""
    values = np.random.default_rng(n).normal(size=n)
    rng = np.random.default_rng(11)
    means = []
    for _ in range(300):
        drawn = rng.integers(n, size=n)
        means.append(np.mean(values[drawn]))
    low, high = bootstrap_interval(values, seed=11, n_resamples=300, level=0.9)
    assert type(low) is type(high) is float
    assert [low, high] == [*np.quantile(means, [(1 - 0.9) / 2, (1 + 0.9) / 2])]


@pytest.mark.parametrize(("n", "m"), [(1, 3), (2, 2), (60, 1), (60, 9), (300, 4)])
@pytest.mark.parametrize("at_once", [1, 1000, 2**22])
def test_columns_are_rows_of_their_own(
    n: int, m: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_COUNTS_AT_ONCE", at_once)
    values = np.random.default_rng(n + m).normal(1.0, 3.0, size=(n, m))
    values[:, 0] = values[:, 0] > 0.5  # hits
    low, high = bootstrap_interval(values, seed=3, n_resamples=250, level=0.8)
    assert low.shape == high.shape == (m,) and low.dtype == high.dtype == np.float64
    for j in range(m):
        alone = bootstrap_interval(values[:, j], seed=3, n_resamples=250, level=0.8)
        assert (low[j], high[j]) == pytest.approx(alone, abs=1e-12, rel=0)
        if j == 0:
            assert (low[0], high[0]) == alone


def test_columns_share_their_resamples() -> None:
    """A column and its double, shifted: the same resamples, so the same interval, moved."""
    column = np.random.default_rng(4).random(80)
    low, high = bootstrap_interval(np.stack([column, 2 * column + 5, -column], axis=1))
    assert low == pytest.approx([low[0], 2 * low[0] + 5, -high[0]])
    assert high == pytest.approx([high[0], 2 * high[0] + 5, -low[0]])


def test_tables_of_any_layout() -> None:
    table = np.random.default_rng(5).integers(9, size=(6, 4))
    expected = bootstrap_interval(table.astype(float), n_resamples=50)
    for same in (table, table.tolist(), np.asfortranarray(table), np.float32(table)):
        assert np.array_equal(bootstrap_interval(same, n_resamples=50), expected)


def test_values_stay_as_they_are() -> None:
    for values in (np.arange(6.0), np.arange(6.0).reshape(3, 2)):
        before = values.copy()
        bootstrap_interval(values, n_resamples=3)
        assert np.array_equal(values, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, r"values: .* got shape \(0,\)$"),
        ({"values": 1.0}, r"values: .* got shape \(\)$"),
        ({"values": [[[1.0, 2.0]]]}, r"values: .* got shape \(1, 1, 2\)$"),
        ({"values": [[], []]}, r"values: .* got shape \(2, 0\)$"),
        ({"values": np.ones((0, 2))}, r"values: .* got shape \(0, 2\)$"),
        ({"values": [[1.0, math.inf]]}, r"values: .* got shape \(1, 2\) with NaN or infinity"),
        ({"values": [1.0, math.nan]}, r"values: .* got shape \(2,\) with NaN or infinity"),
        ({"values": [1.0], "n_resamples": 0}, "n_resamples: expected at least 1, got 0"),
        ({"values": [1.0], "level": 1.0}, "level: expected .* got 1.0"),
    ],
)
def test_errors(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(**arguments)
