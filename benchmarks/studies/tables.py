"""Methods of one comparison or several, pooled over conditions: means, paired differences, Holm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..comparison import MEASURES, Comparison
from ..comparison.randomization import rank_correlation
from ..comparison.summary import differences_from, means_of
from ..statistics import holm

AREAS = ("deletion_top1", "insertion_top1")
"""What methods are judged by: areas under the curves of top-1 accuracy."""

LOCATED = ("pointing_game", "energy", "average_precision")
"""Where maps lie."""


def joined(comparisons: Sequence[Comparison], check: str = "") -> pd.DataFrame:
    """The results of all comparisons with the facts of the images.

    Args:
        comparisons: Each by one model.
        check: The sanity check whose results are wanted; "" for methods as they are.

    Returns:
        A row an item, method and protocol; the columns of `Comparison.results`, and a column for
        each fact. "index" tells items of different models apart, "photo" does not: what two models
        see in one picture is not independent.
    """
    parts = []
    for number, comparison in enumerate(comparisons):
        results = comparison.results[comparison.results["check"] == check]
        known = ["index", *(name for name in comparison.samples if name not in results)]
        part = results.merge(comparison.samples[known], on="index", validate="many_to_one")
        source = part["source"] if "source" in part else part["image"]
        parts.append(part.assign(index=part["index"] + number * 10**9, photo=source))
    return pd.concat(parts, ignore_index=True)


def conditions_of(rows: pd.DataFrame, facts: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Rows of all conditions together, then of each value of each fact alone.

    Args:
        rows: As `joined` gives them.
        facts: Columns; those with one value alone set no conditions.

    Returns:
        "all", or "fact: value" -> its rows.
    """
    found = {"all": rows}
    for fact in facts:
        if fact in rows and rows[fact].nunique() > 1:
            found |= {f"{fact}: {value}": own for value, own in rows.groupby(fact, sort=False)}
    return found


def differences(
    rows: pd.DataFrame,
    reference: str,
    measures: Sequence[str] = AREAS,
    others: Sequence[str] | None = None,
) -> pd.DataFrame:
    """How a method differs from each of the others, item by item; see `adjusted`.

    Args:
        rows: As `joined` gives them.
        reference: The method that is compared with the others.
        measures: Columns of the results.
        others: Methods; None is all but the reference.

    Returns:
        A row a protocol (of what maps are, whatever the protocol, ""), measure and other method:
        "reference_mean" and "mean" over the items that both have; "difference", the reference less
        the other, with "low" and "high" of its 95 % interval; "gain", the same with a sign by which
        more is better; "p", how surprising it would be without a true one; "n" items of "photos"
        pictures.

    Raises:
        ValueError: If the reference or another method is not there.
    """
    known = list(rows["method"].unique())
    others = [name for name in known if name != reference] if others is None else list(others)
    for name in (reference, *others):
        if name not in known:
            raise ValueError(f"method: expected one of {', '.join(known)}, got {name!r}")
    found = []
    for where, wide, groups in _wide(rows, measures, [reference, *others]):
        measure, values = MEASURES[where["measure"]], wide.to_numpy()
        compared = differences_from(values, 0, groups, measure.bounds)[1:]
        for name, own, (difference, low, high, p) in zip(
            others, values.T[1:], compared, strict=True
        ):
            both = ~np.isnan(values[:, 0] + own)
            n = int(both.sum())
            found.append(
                {
                    **where,
                    "method": name,
                    "reference_mean": values[both, 0].mean() if n else math.nan,
                    "mean": own[both].mean() if n else math.nan,
                    "difference": 0.0 - difference,  # no -0
                    "low": 0.0 - high,
                    "high": 0.0 - low,
                    "gain": difference if measure.better == "lower" else 0.0 - difference,
                    "p": p,
                    "n": n,
                    "photos": len(set(groups[both])),
                }
            )
    return pd.DataFrame(found)


def areas_of(differences: pd.DataFrame) -> list[tuple[str, str]]:
    """Protocol and measure of each column that a table of differences fills, in order."""
    return list(differences[["protocol", "measure"]].drop_duplicates().itertuples(index=False))


def adjusted(differences: pd.DataFrame) -> pd.DataFrame:
    """Differences that are looked at together, with what they say together.

    Args:
        differences: As the function of that name gives them, of one reference or several.

    Returns:
        The same with "p_holm", "p" adjusted by Holm over all rows, and "verdict", by p_holm below
        0.05 "better" or "worse", else "".
    """
    p_holm = holm(differences["p"])
    sure, gain = p_holm < 0.05, differences["gain"]
    verdict = np.select([sure & (gain > 0), sure & (gain < 0)], ["better", "worse"], "")
    return differences.assign(p_holm=p_holm, verdict=verdict)


def means(rows: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """Means with 95 % intervals: a row a protocol, measure and method, as `differences` has them.

    Args:
        rows: As `joined` gives them.
        measures: Columns of the results.
    """
    found = []
    for where, wide, groups in _wide(rows, measures, list(rows["method"].unique())):
        ends = means_of(wide.to_numpy(), groups, MEASURES[where["measure"]].bounds)
        counts = wide.notna().sum()
        for name, (mean, low, high) in zip(wide.columns, ends, strict=True):
            if counts[name]:
                own = {"mean": mean, "low": low, "high": high, "n": int(counts[name])}
                found.append({**where, "method": name, **own})
    return pd.DataFrame(found)


def _wide(
    rows: pd.DataFrame, measures: Sequence[str], methods: list[str]
) -> Iterator[tuple[dict[str, str], pd.DataFrame, NDArray[Any]]]:
    """Protocol and measure; a table of it, an item a row, a method a column; pictures by number."""
    for measure in measures:
        of_maps = MEASURES[measure].grain == "map"
        for protocol in list(rows["protocol"].unique())[: 1 if of_maps else None]:
            own = rows[rows["protocol"] == protocol]
            wide = own.pivot(index="index", columns="method", values=measure).astype(np.float64)
            photos = own.drop_duplicates("index").set_index("index")["photo"]
            where = {"protocol": "" if of_maps else protocol, "measure": measure}
            groups = pd.factorize(photos.reindex(wide.index))[0]
            yield where, wide.reindex(columns=methods), groups


def alike(comparisons: Sequence[Comparison], pairs: Sequence[tuple[str, str]]) -> pd.Series:
    """How alike the maps of two methods are: Spearman's rank correlation, mean over items.

    Args:
        comparisons: Each by one model.
        pairs: Methods, two each. Finer maps are averaged over the cells of the other's.

    Returns:
        By pairs; NaN where no item has maps of both that are not constant.
    """
    values: dict[tuple[str, str], list[float]] = {pair: [] for pair in pairs}
    for comparison in comparisons:
        plain = comparison.maps[comparison.maps["check"] == ""]
        maps = {name: _maps_of(own) for name, own in plain.groupby("method")}
        for first, second in pairs:
            ours, theirs = maps.get(first, {}), maps.get(second, {})
            both = [index for index in ours if index in theirs]
            if both:
                stacked = (torch.stack([of[index] for index in both]) for of in (ours, theirs))
                values[first, second] += rank_correlation(*_of_one_size(*stacked))
    known = {
        pair: [value for value in own if not math.isnan(value)] for pair, own in values.items()
    }
    return pd.Series(
        {pair: float(np.mean(own)) if own else math.nan for pair, own in known.items()}
    )


def _maps_of(rows: pd.DataFrame) -> dict[int, Tensor]:
    """Item -> map (h, w)."""
    return {
        row.index_: torch.tensor(row.map).view(row.map_height, row.map_width)
        for row in rows.rename(columns={"index": "index_"}).itertuples(index=False)
    }


def _of_one_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (B, h, w) each, the finer ones averaged over the cells of the coarser."""
    h, w = min(first.shape[1:], second.shape[1:])
    return F.adaptive_avg_pool2d(first, (h, w)), F.adaptive_avg_pool2d(second, (h, w))
