"""How much better a model is on counter backgrounds than its accuracy on common ones tells."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from .published import published_results

FAMILIES = ("clip", "imagenet")
_MAIN_TABLES = (3, 4)  # of the paper: 1 vs 1000, one prompt, the mean of classes
_PERCENT = 100.0


class Fit(NamedTuple):
    """A line through models, counter accuracy on common accuracy, both in probits.

    Attributes:
        slope: In probits a probit.
        intercept: In probits.
        r2: The share of the variance of counter accuracies, in probits, that it explains.
        models: Through how many.
    """

    slope: float
    intercept: float
    r2: float
    models: int

    def counter(self, common: float) -> float:
        """The counter accuracy, in percent, of a common accuracy in percent.

        Example:
            >>> Fit(1.0, 0.0, 1.0, 2).counter(80.0)
            80.0
        """
        return float(_PERCENT * ndtr(self.slope * ndtri(common / _PERCENT) + self.intercept))


def fit(common: ArrayLike, counter: ArrayLike) -> Fit:
    """The line of least squares through models, in probits, as Figure 2 of the paper draws it.

    A probit is the standard normal quantile of an accuracy: models that are trained alike lie near
    a line there (Taori et al. 2020, "Measuring Robustness to Natural Distribution Shifts in Image
    Classification"). The paper prints no coefficients.

    Args:
        common: (n,) accuracies in percent, of at least two models.
        counter: (n,) the same.

    Raises:
        ValueError: If there are fewer than two different models, or an accuracy is not between 0
            and 100, where probits end.

    Example:
        >>> line = fit([60.0, 70.0, 80.0], [40.0, 50.0, 60.0])
        >>> round(line.slope, 2), round(line.r2, 3)
        (0.86, 0.998)
    """
    rows = [np.asarray(values, dtype=np.float64) for values in (common, counter)]
    if rows[0].ndim != 1 or rows[0].shape != rows[1].shape:
        raise ValueError(
            f"counter: expected as many accuracies as common, ({rows[0].size},), got shape "
            f"{rows[1].shape}"
        )
    for name, values in zip(("common", "counter"), rows, strict=True):
        if not ((values > 0) & (values < _PERCENT)).all():
            raise ValueError(f"{name}: expected accuracies above 0 and below 100, got {values}")
    if len(np.unique(rows[0])) < 2:
        raise ValueError(f"common: expected at least two different models, got {rows[0]}")
    x, y = (ndtri(values / _PERCENT) for values in rows)
    slope, intercept = np.polyfit(x, y, 1)
    spread = ((y - y.mean()) ** 2).sum()
    r2 = 1 - ((y - slope * x - intercept) ** 2).sum() / spread if spread else np.nan
    return Fit(float(slope), float(intercept), float(r2), len(x))


@cache
def published_fit(family: str) -> Fit:
    """The line through the paper's models of a family, of Table 3 or 4.

    Args:
        family: "clip" or "imagenet".

    Raises:
        ValueError: If there is no such family.

    Example:
        >>> [round(value, 3) for value in published_fit("imagenet")[:3]]
        [1.214, -0.619, 0.991]
    """
    if family not in FAMILIES:
        raise ValueError(f"family: expected one of {', '.join(FAMILIES)}, got {family!r}")
    found = published_results()
    found = found[(found["family"] == family) & found["table"].isin(_MAIN_TABLES)]
    return fit(found["common"], found["counter"])


def effective_robustness(common: float, counter: float, line: Fit | None = None) -> float:
    """How far a model is above what ImageNet models of its common accuracy reach, in points.

    Args:
        common: Its accuracy in percent.
        counter: The same.
        line: Of which models; None is the paper's ImageNet models.

    Raises:
        ValueError: If an accuracy is not from 0 to 100.

    Example:
        >>> round(effective_robustness(67.13, 36.95), 1)  # ViT-B/32 of LAION-400M
        -9.9
    """
    for name, value in (("common", common), ("counter", counter)):
        if not 0 <= value <= _PERCENT:
            raise ValueError(f"{name}: expected an accuracy from 0 to 100, got {value}")
    line = published_fit("imagenet") if line is None else line
    return counter - line.counter(common)
