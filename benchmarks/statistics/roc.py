"""How well a number tells two kinds of images apart, and how sure that is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from ._forms import check_level

_NEAR = 1e-12


class AUC(NamedTuple):
    """The area under a ROC curve, and the ends of its confidence interval.

    Attributes:
        auc: The share of pairs, of a positive and a negative, in which the positive has the higher
            score; ties count half. NaN where there are no pairs.
        low: Lower end; NaN where there are no pairs.
        high: Upper end.
    """

    auc: float
    low: float
    high: float


def roc_auc(positives: ArrayLike, negatives: ArrayLike, level: float = 0.95) -> AUC:
    """The area under the ROC curve of scores, with Newcombe's score interval.

    Method 5 of Newcombe (2006, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic", part 2): the ends are the areas from which the one found is z standard
    errors away, by Hanley and McNeil's (1982) variance with both sample sizes replaced by their
    mean. Unlike a bootstrap it is no point where all pairs are in order.

    Args:
        positives: (n,) scores of what is to be found.
        negatives: (m,) scores of all else.
        level: How often the interval is to hold the true area, in (0, 1).

    Raises:
        ValueError: If a score is NaN, or the level is no such number.

    Example:
        >>> from cci_captum.benchmarks.statistics import roc_auc
        >>> auc, low, high = roc_auc([0.9, 0.8, 0.4], [0.1, 0.5, 0.3, 0.2])
        >>> round(auc, 3), round(low, 3), round(high, 3)
        (0.917, 0.457, 0.992)
    """
    check_level(level)
    ours, others = (
        np.asarray(values, dtype=np.float64).ravel() for values in (positives, negatives)
    )
    n, m = len(ours), len(others)
    if np.isnan(ours).any() or np.isnan(others).any():
        raise ValueError("positives and negatives: expected scores, got NaN")
    if not n or not m:
        return AUC(np.nan, np.nan, np.nan)
    # Imported here: they take a second, of every command that shows a mean.
    from scipy.optimize import brentq
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([ours, others]))
    auc = float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
    z = -ndtri((1 - level) / 2)

    def beyond(area: float) -> float:
        """Above 0 where the area found is more than z standard errors from this one."""
        mean = (n + m) / 2 - 1
        wide = 1 + mean * ((1 - area) / (2 - area) + area / (1 + area))
        return (auc - area) ** 2 - z**2 * area * (1 - area) * wide / (n * m)

    # At 0 and 1 the variance is 0: the end that is looked for is the other root.
    low = brentq(beyond, 0.0, min(auc, 1 - _NEAR)) if auc > 0 else 0.0
    high = brentq(beyond, max(auc, _NEAR), 1.0) if auc < 1 else 1.0
    return AUC(auc, float(low), float(high))
