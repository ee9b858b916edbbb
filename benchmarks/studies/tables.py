"""Methods of one comparison or several, pooled over conditions: means, paired differences, Holm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ..comparison import MEASURES, Comparison
from ..comparison.randomization import rank_correlation
from ..statistics import holm, interval, paired_interval, paired_p_value

AREAS = ("deletion_top1", "insertion_top1")
"""What methods are judged by: areas under the curves of top-1 accuracy."""

LOCATED = ("pointing_game", "energy", "average_precision")
"""Where maps lie."""


def joined(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """The results of all comparisons, methods as they are, with the facts of the images.

    Args:
        comparisons: Each by one model.

    Returns:
        A row an item, method and protocol; the columns of `Comparison.results`, and a column for
        each fact. "index" tells items of different models apart, "photo" does not: what two models
        see in one picture is not independent.
    """
    parts = []
    for number, comparison in enumerate(comparisons):
        results = comparison.results[comparison.results["check"] == ""]
        known = ["index", *(set(comparison.samples) - set(results))]
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
    for measure in measures:
        of_maps = MEASURES[measure].grain == "map"
        for protocol in list(rows["protocol"].unique())[: 1 if of_maps else None]:
            own = rows[rows["protocol"] == protocol]
            wide = own.pivot(index="index", columns="method", values=measure)
            photos = own.drop_duplicates("index").set_index("index")["photo"].reindex(wide.index)
            for name in others:
                both = wide[[reference, name]].notna().all(axis=1)
                pair = _paired(wide[both], reference, name, photos[both], measure)
                where = {"protocol": "" if of_maps else protocol, "measure": measure}
                found.append({**where, "method": name, **pair})
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
    for measure in measures:
        of_maps = MEASURES[measure].grain == "map"
        for protocol in list(rows["protocol"].unique())[: 1 if of_maps else None]:
            own = rows[(rows["protocol"] == protocol) & rows[measure].notna()]
            for name, values in own.groupby("method", sort=False):
                groups = pd.factorize(values["photo"])[0]
                low, high = interval(
                    values[measure].to_numpy(), groups, bounds=MEASURES[measure].bounds
                )
                found.append(
                    {
                        "protocol": "" if of_maps else protocol,
                        "measure": measure,
                        "method": name,
                        "mean": float(values[measure].mean()),
                        "low": float(low),
                        "high": float(high),
                        "n": len(values),
                    }
                )
    return pd.DataFrame(found)


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


def _paired(
    wide: pd.DataFrame, reference: str, other: str, photos: pd.Series, measure: str
) -> dict[str, Any]:
    values, others = (wide[name].to_numpy(np.float64) for name in (reference, other))
    groups, bounds = pd.factorize(photos)[0], MEASURES[measure].bounds
    if not len(values):
        nothing = dict.fromkeys(
            ("reference_mean", "mean", "difference", "low", "high", "gain", "p"), math.nan
        )
        return {**nothing, "n": 0, "photos": 0}
    low, high = paired_interval(values, others, groups, bounds=bounds)
    difference = float((values - others).mean())
    return {
        "reference_mean": float(values.mean()),
        "mean": float(others.mean()),
        "difference": difference,
        "low": float(low),
        "high": float(high),
        "gain": -difference if MEASURES[measure].better == "lower" else difference,
        "p": float(paired_p_value(values, others, groups, bounds=bounds)),
        "n": len(values),
        "photos": len(set(groups)),
    }
