"""ROC areas against scikit-learn, their intervals against the equation that defines them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from cci_captum.benchmarks.statistics import roc_auc


def on_grid(auc: float, n: int, m: int, level: float) -> tuple[float, float]:
    """The least and largest area, of a fine grid, within z standard errors of the one found."""
    area = np.linspace(0, 1, 400_001)[1:-1]
    size = (n + m) / 2
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    between = (size - 1) * (q1 - area**2) + (size - 1) * (q2 - area**2)
    variance = (area * (1 - area) + between) / (n * m)
    near = area[np.abs(auc - area) <= norm.ppf((1 + level) / 2) * np.sqrt(variance)]
    return near[0], near[-1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_area_and_interval(seed: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    positives, negatives = rng.integers(2, 9, 7 + seed), rng.integers(0, 7, 30)  # with ties
    found = roc_auc(positives, negatives, level)
    truth = roc_auc_score([1] * len(positives) + [0] * 30, [*positives, *negatives])
    assert found.auc == pytest.approx(truth, abs=1e-12)
    low, high = on_grid(found.auc, len(positives), 30, level)
    assert found.low == pytest.approx(low, abs=6e-6)
    assert found.high == pytest.approx(high, abs=6e-6)


def test_ends_are_no_points() -> None:
    found = roc_auc([2, 3, 4], [0, 1])
    assert found.auc == found.high == 1
    assert found.low == pytest.approx(on_grid(1, 3, 2, 0.95)[0], abs=6e-6)
    mirrored = roc_auc([0, 1], [2, 3, 4])
    assert mirrored.auc == mirrored.low == 0
    assert mirrored.high == pytest.approx(1 - found.low, abs=1e-9)


def test_no_pairs_and_nan() -> None:
    assert np.isnan(roc_auc([], [1.0])).all()
    with pytest.raises(ValueError, match="positives and negatives: expected scores, got NaN"):
        roc_auc([np.nan], [1.0])
