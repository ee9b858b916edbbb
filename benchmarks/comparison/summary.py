"""The statistics behind `Comparison.summary`: ranks, means, intervals and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cci_captum.baselines.registry import REFERENCES

from ..faithfulness.curves import DIRECTIONS
from ..statistics import holm, interval, paired_interval, paired_p_value
from ..tasks import Kind
from .measures import MEASURES, RANKS


def gain_of(results: pd.DataFrame, kind: Kind, value: str) -> pd.Series:
    """Insertion minus deletion area, of one of the values of a kind of task."""
    deletion, insertion = kind.areas(value)
    return results[insertion] - results[deletion]


def add_ranks(results: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """The table with "deletion_rank" and "insertion_rank"; see `Comparison`."""
    ranked = results[is_method(results)]
    for rank, area in zip(RANKS, kind.areas(kind.ranked), strict=True):
        if area in results:
            groups = ranked.groupby(["index", "protocol"])[area]
            ranks = groups.rank(ascending=MEASURES[area].better == "lower")
            results = results.assign(**{rank: ranks})
    return results


def is_method(results: pd.DataFrame) -> pd.Series:
    """Rows of methods as they are: neither references nor checks."""
    return ~results["method"].isin(REFERENCES) & (results["check"] == "")


def photos_of(rows: pd.DataFrame) -> pd.Series | None:
    """What is independent: a number for the source photo of each image, by the image's place.

    None where no two images come from one photo, or where nothing is known about that.
    """
    if "source" not in rows:
        return None
    sources = rows.drop_duplicates("index").set_index("index")["source"]
    return None if sources.is_unique else pd.Series(pd.factorize(sources)[0], sources.index)


def _bounds(measure: str, rows: pd.DataFrame) -> tuple[float, float]:
    """The least and the greatest value that a measure can have."""
    if measure in RANKS:
        return 1, max(2, rows.loc[is_method(rows), "method"].nunique())
    return MEASURES[measure].bounds


def summarised(rows: pd.DataFrame, measure: str, reference: str) -> pd.DataFrame:
    """Means, intervals and differences of one measure under one protocol."""
    keys = list(zip(rows["check"], rows["method"], strict=True))
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    images, indices = pd.factorize(rows["index"], sort=True)
    wide = np.full((len(indices), len(places)), np.nan)  # an image a row, a key a column
    wide[images, [places[key] for key in keys]] = rows[measure].to_numpy(np.float64)
    photos, bounds = photos_of(rows), _bounds(measure, rows)
    groups = None if photos is None else photos[indices].to_numpy()
    found = np.full((len(places), 7), np.nan)
    found[:, :3] = means_of(wide, groups, bounds)
    own = places.get(("", reference))
    if own is not None:
        found[:, 3:] = differences_from(wide, own, groups, bounds)
    summary = pd.DataFrame(list(places), columns=["check", "method"])
    names = ["mean", "low", "high", "difference", "difference_low", "difference_high", "p_holm"]
    summary[names] = found
    summary["p_holm"] = summary.groupby("check")["p_holm"].transform(holm)
    summary["n"] = (~np.isnan(wide)).sum(axis=0)
    return summary[summary["n"] > 0].assign(measure=measure)


def means_of(
    wide: NDArray[Any], groups: NDArray[Any] | None, bounds: tuple[float, float]
) -> NDArray[Any]:
    """Mean and ends of the 95 % interval of each column, (M, 3); NaN where there is nothing.

    Args:
        wide: (n, M), an item a row, NaN where it has no value.
        groups: (n,), items of one are not independent; None where all are.
        bounds: The least and the greatest value that there can be.
    """
    found = np.full((wide.shape[1], 3), np.nan)
    for columns, known in _tables(wide):
        values = wide[np.ix_(known, columns)]
        ends = interval(values, None if groups is None else groups[known], bounds=bounds)
        found[columns] = np.stack([values.mean(axis=0), *ends], axis=1)
    return found


def differences_from(
    wide: NDArray[Any],
    own: int,
    groups: NDArray[Any] | None,
    bounds: tuple[float, float],
) -> NDArray[Any]:
    """Of each column less one of them, paired: mean, ends of the 95 % interval and p, (M, 4).

    Args:
        wide: See `means_of`.
        own: Which column is taken from the others; its own row is NaN.
        groups: See `means_of`.
        bounds: See `means_of`.
    """
    found = np.full((wide.shape[1], 4), np.nan)
    differences = wide - wide[:, [own]]
    differences[:, own] = np.nan
    for columns, known in _tables(differences):
        values = wide[np.ix_(known, columns)]
        others = np.broadcast_to(wide[known][:, [own]], values.shape)
        pairs = (values, others, None if groups is None else groups[known])
        ends = paired_interval(*pairs, bounds=bounds)
        p_values = paired_p_value(*pairs, bounds=bounds)
        mean = differences[np.ix_(known, columns)].mean(axis=0)
        found[columns] = np.stack([mean, *ends, p_values], axis=1)
    return found


def _tables(wide: NDArray[Any]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Columns without a missing value together, others alone, with the rows that they have."""
    missing = np.isnan(wide)
    whole = ~missing.any(axis=0)
    if whole.any():
        yield whole.nonzero()[0], np.arange(len(wide))
    for column in (~whole & ~missing.all(axis=0)).nonzero()[0]:
        yield np.array([column]), (~missing[:, column]).nonzero()[0]


def long_form(
    curves: pd.DataFrame, fractions_of: Mapping[str, Mapping[str, Sequence[float]]]
) -> pd.DataFrame:
    """See `Comparison.points`.

    Args:
        curves: `Comparison.curves`.
        fractions_of: Protocol -> direction -> where its points are.
    """
    arrays = [name for name in MEASURES if name in curves]
    keys = curves.columns.drop(arrays)
    parts = []
    for direction in DIRECTIONS if arrays else ():
        own = [name for name in arrays if name.startswith(direction)]
        fractions = [np.array(fractions_of[protocol][direction]) for protocol in curves["protocol"]]
        wide = curves[[*keys, *own]].assign(direction=direction, fraction=fractions)
        wide = wide.rename(columns=lambda name: name.removeprefix(f"{direction}_"))  # noqa: B023
        listed = [name.removeprefix(f"{direction}_") for name in own]
        parts.append(wide.explode(["fraction", *listed], ignore_index=True))
    if not parts:
        return curves.head(0)
    long = pd.concat(parts, ignore_index=True)
    numbers = long.columns.drop([*keys, "direction"])
    return long.astype(dict.fromkeys(numbers, np.float64))[
        [*keys, "direction", *(["fraction", *numbers.drop("fraction")])]
    ]
