"""How often the intervals of `cci_captum.benchmarks.statistics` hold the true mean.

Draws samples whose true mean is known and prints a Markdown table for each size: how often 95 %
intervals hold it, in %, and how wide they are on average, beside Student's interval and the
percentile bootstrap of the rows; "none" is the share of samples, in %, that have no interval and
count nowhere else.

    python -m cci_captum.benchmarks.coverage --replications 4000 --seed 1
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cci_captum._extras import needed_by
from cci_captum._progress import tqdm

from .markdown import table
from .statistics import interval, paired_interval

with needed_by("coverage"):
    from scipy.special import stdtrit

Array = NDArray[Any]
Draw = Callable[[np.random.Generator, tuple[int, int]], Any]

SIZES = (5, 10, 20, 50, 250)
"""Numbers of values, pairs or source photos."""

_LEVEL = 0.95
_RESAMPLES = 1000  # of the percentile bootstrap
_HEAD = ["", "covered", "width", "none", "Student: covered", "width", "bootstrap: covered", "width"]
_MOST_ROWS = 7  # of one source photo


class Case(NamedTuple):
    """What is drawn, and what is known about it.

    Attributes:
        draw: From a generator and (n, m) to m independent samples of n values, a column each; or
            to two such tables, for pairs.
        mean: The true mean, or mean difference.
        bounds: As of `interval`.
        grouped: Whether each value is of a source photo that gives several rows, which vary
            around it.
    """

    draw: Draw
    mean: float
    bounds: tuple[float, float] | None = None
    grouped: bool = False


class Coverage(NamedTuple):
    """How good intervals are.

    Attributes:
        covered: The share that hold the true mean.
        width: Their mean width.
        none: The share of samples without one.
    """

    covered: float
    width: float
    none: float = 0.0


def _rate(rng: np.random.Generator, shape: tuple[int, int], p: float) -> Array:
    return (rng.random(shape) < p).astype(float)


def _area(rng: np.random.Generator, shape: tuple[int, int], wrong: float) -> Array:
    """Areas under accuracy curves of 20 steps; in some images wrong from the start."""
    right = rng.binomial(20, rng.beta(1.5, 3.0, shape)) / 20
    return np.where(rng.random(shape) < wrong, 0.0, right)


def _two_rates(
    rng: np.random.Generator, shape: tuple[int, int], more: float, fewer: float
) -> tuple[Array, Array]:
    """Pairs of which these shares differ, in one direction and in the other."""
    drawn, first = rng.random(shape), _rate(rng, shape, 0.7)
    differ = np.select([drawn < more, drawn < more + fewer], [1.0, -1.0], default=0.0)
    first = np.select([differ > 0, differ < 0], [1.0, 0.0], default=first)
    return first, first - differ


def _two_areas(rng: np.random.Generator, shape: tuple[int, int], tied: float) -> Any:
    """Areas of two methods on the same images, which tie in some."""
    first, second = _area(rng, shape, 0.2), _area(rng, shape, 0.3)
    return first, np.where(rng.random(shape) < tied, first, second)


def _differing_by(draw: Draw, rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    """Two values that share what the image gives to both."""
    other = rng.lognormal(size=shape)
    return other + draw(rng, shape), other


def _lognormal(sigma: float) -> Case:
    return Case(lambda rng, shape: rng.lognormal(0, sigma, shape), float(np.exp(sigma**2 / 2)))


def _exponential(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return rng.exponential(size=shape)


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    return rng.normal(size=shape)


CASES: dict[str, Case] = {
    "normal": Case(_normal, 0.0),
    "uniform": Case(lambda rng, shape: rng.random(shape), 0.5),
    "Student's t, 3 degrees": Case(lambda rng, shape: rng.standard_t(3, shape), 0.0),
    "exponential": Case(_exponential, 1.0),
    "gamma, shape 0.5": Case(lambda rng, shape: rng.gamma(0.5, size=shape), 0.5),
    **{f"lognormal, sigma {sigma}": _lognormal(sigma) for sigma in (0.5, 1.0, 1.5)},
    "beta(0.5, 0.5), bounds": Case(lambda rng, shape: rng.beta(0.5, 0.5, shape), 0.5, (0, 1)),
    "beta(0.5, 2), bounds": Case(lambda rng, shape: rng.beta(0.5, 2, shape), 0.2, (0, 1)),
    **{
        f"areas, {zero:.0%} zero, bounds": Case(partial(_area, wrong=zero), (1 - zero) / 3, (0, 1))
        for zero in (0.0, 0.5, 0.8, 0.95)
    },
    **{f"rate {p}": Case(partial(_rate, p=p), p) for p in (0.02, 0.05, 0.1, 0.5, 0.9, 0.95, 0.98)},
    "pairs, normal": Case(partial(_differing_by, _normal), 0.0),
    "pairs, exponential": Case(partial(_differing_by, _exponential), 1.0),
    "pairs, lognormal": Case(
        lambda rng, shape: (rng.lognormal(size=shape), 0.5 * rng.lognormal(size=shape)),
        float(np.exp(0.5) / 2),
    ),
    **{
        f"pairs of areas, {tied:.0%} tie": Case(
            partial(_two_areas, tied=tied), (1 - tied) * 0.1 / 3, (0, 1)
        )
        for tied in (0.0, 0.5, 0.9)
    },
    **{
        f"pairs of rates, {more:.0%} and {fewer:.0%} differ": Case(
            partial(_two_rates, more=more, fewer=fewer), more - fewer
        )
        for more, fewer in (
            (0.01, 0.01), (0.02, 0.0), (0.03, 0.01), (0.05, 0.05), (0.1, 0.02), (0.3, 0.1),
            (0.5, 0.45), (0.9, 0.02),
        )
    },
    "photos of 1 to 7 rows, normal": Case(_normal, 0.0, grouped=True),
    "photos of 1 to 7 rows, exponential": Case(_exponential, 1.0, grouped=True),
    "photos of 1 to 7 rows, rate 0.1": Case(partial(_rate, p=0.1), 0.1, (0, 1), grouped=True),
    "photos of 1 to 7 rows, rate 0.5": Case(partial(_rate, p=0.5), 0.5, (0, 1), grouped=True),
}  # fmt: skip
"""What is measured: name -> case."""


def coverage(
    case: Case, n: int, replications: int = 4000, seed: int = 0, kind: str = "ours"
) -> Coverage:
    """How often 95 % intervals of samples of n hold the true mean.

    Args:
        case: What is drawn.
        n: Values, pairs or source photos of a sample.
        replications: How many samples are drawn.
        seed: Of the samples.
        kind: Whose intervals: of `KINDS`.

    Example:
        >>> coverage(CASES["normal"], 5).covered > 0.93
        True
        >>> coverage(CASES["normal"], 5, kind="bootstrap").covered > 0.93
        False
    """
    rng = np.random.default_rng([seed, n])
    drawn, groups = case.draw(rng, (n, replications)), None
    if case.grouped:
        groups = np.repeat(np.arange(n), 1 + rng.integers(_MOST_ROWS, size=n))
        kept = rng.random((len(groups), replications)) < 0.7  # others vary around the photo
        drawn = np.where(kept, drawn[groups], case.draw(rng, (len(groups), replications)))
    low, high = KINDS[kind](drawn, groups, case.bounds)
    found = ~np.isnan(low)
    if not found.any():
        return Coverage(np.nan, np.nan, 1.0)
    hit = (low[found] <= case.mean + 1e-9) & (case.mean - 1e-9 <= high[found])
    return Coverage(float(hit.mean()), float((high - low)[found].mean()), float(1 - found.mean()))


def _ours(drawn: Any, groups: Array | None, bounds: tuple[float, float] | None) -> Any:
    if isinstance(drawn, tuple):
        values, others = drawn
        return paired_interval(values, others, groups, bounds=bounds, level=_LEVEL)
    return interval(drawn, groups, bounds=bounds, level=_LEVEL)


def _student(drawn: Any, *_: Any) -> tuple[Array, Array]:
    """Student's interval of the rows."""
    columns = _differences(drawn)
    n, mean = len(columns), columns.mean(axis=0)
    reach = stdtrit(n - 1, (1 + _LEVEL) / 2) * columns.std(axis=0, ddof=1) / np.sqrt(n)
    return mean - reach, mean + reach


def _bootstrap(drawn: Any, *_: Any) -> tuple[Array, Array]:
    """The percentile bootstrap of the rows, which all columns are resampled by alike."""
    columns = _differences(drawn)
    means = _counts(len(columns)) @ columns / len(columns)
    low, high = np.quantile(means, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
    return low, high


def _differences(drawn: Any) -> Array:
    return drawn[0] - drawn[1] if isinstance(drawn, tuple) else drawn


@cache
def _counts(n: int) -> Array:
    """How often each of n rows is in each resample."""
    rng = np.random.default_rng(0)
    drawn = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(_RESAMPLES)]
    return np.array(drawn, dtype=np.float64)


KINDS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "ours": _ours,
    "Student": _student,
    "bootstrap": _bootstrap,
}
"""Kinds of intervals that are measured."""


def _cells(found: Coverage) -> list[str]:
    """Coverage in % and width; "-" where there are no intervals."""
    if found.none == 1:
        return ["-", "-"]
    return [f"{100 * found.covered:.1f}", f"{found.width:.3g}"]


def report(sizes: Sequence[int], replications: int, seed: int) -> str:
    """The tables, a size each, as Markdown."""
    parts = []
    with tqdm(total=len(sizes) * len(CASES), unit="case", leave=False) as progress:
        for n in sizes:
            rows = []
            for name, case in CASES.items():
                ours, *others = (coverage(case, n, replications, seed, kind) for kind in KINDS)
                none = f"{100 * ours.none:.0f}" if ours.none else ""
                cells = [cell for found in others for cell in _cells(found)]
                rows.append([name, *_cells(ours), none, *cells])
                progress.update()
            parts.append(f"n = {n}\n\n{table(_HEAD, rows)}")
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replications", type=int, default=4000, help="samples (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the samples (%(default)s)")
    parser.add_argument("--n", type=int, action="append", help=f"may be repeated {SIZES}")
    args = parser.parse_args(argv)
    if args.replications < 1 or min(args.n or SIZES) < 2:
        parser.error("--replications: expected at least 1, and --n at least 2")
    print(report(args.n or SIZES, args.replications, args.seed))


if __name__ == "__main__":
    main()
