"""How often a model is right on common and on counter backgrounds, and how much that drops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import torch

from cci_captum._checks import check_choice
from cci_captum.models.ranking import predicted

from ..data._counteranimal import GROUPS, animal_classes, imagenet_synonyms
from ..statistics import interval, paired_interval, rate_interval
from .candidates import Candidates
from .measured import grouped_rows, of_candidates_alone, scores_of

AVERAGES = ("classes", "photos")
"""The mean of the classes' accuracies, as the paper's main tables, or that of all photos."""

_PERCENT = 100.0


def class_accuracies(
    table: pd.DataFrame, candidates: Candidates | None = None, *, level: float = 0.95
) -> pd.DataFrame:
    """The accuracies of each class on its two backgrounds.

    Args:
        table: Of the predictions of one model, with a column "group".
        candidates: Of each class, for 1 vs 20; the table then needs "scores". None is 1 vs 1000, by
            "predicted".
        level: Of the intervals.

    Returns:
        A row each class of which an image was read, by index, in percent: "index", ImageNet's;
        "name", the first of its synonyms; "common_background" and "counter_background", as folders
        say it, else as the paper's table does; for "common" and "counter" the accuracy, with
        "_low" and "_high", Clopper and Pearson's interval, and "_photos"; and "drop", common minus
        counter, with "drop_low" and "drop_high". NaN where a group has no photo.

        The drop's interval is that of two independent rates, squared and added (Newcombe 1998,
        "Interval estimation for the difference between independent proportions", method 10) from
        Clopper and Pearson's ends.

    Raises:
        ValueError: If columns are missing, no image was read, or candidates are not those of the
            classes.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({
        ...     "true": [296] * 4, "predicted": [296, 296, 296, 9], "status": "",
        ...     "group": ["common", "common", "counter", "counter"],
        ... })
        >>> class_accuracies(table)[["name", "common", "counter", "drop"]].values.tolist()
        [['ice bear', 100.0, 50.0, 50.0]]
    """
    rows = grouped_rows(table)
    needed = rows.columns.intersection(["true", "group", "background"])
    rows = rows[needed].assign(_right=right(rows, candidates))
    paper = {each.index: each for each in animal_classes()}
    found = []
    for index, own in rows.groupby("true", sort=True):
        known = paper.get(int(index))
        name = known.name if known else _synonyms(int(index))
        row: dict[str, Any] = {"index": int(index), "name": name.split(",")[0]}
        parts = {group: own[own["group"] == group] for group in GROUPS}
        for group, part in parts.items():
            row[f"{group}_background"] = _background(part, getattr(known, group, ""))
        for group, part in parts.items():
            row |= _rate(group, part["_right"], level)
        found.append(row | _drop(row))
    return pd.DataFrame(found)


def accuracies(
    table: pd.DataFrame,
    candidates: Candidates | None = None,
    *,
    average: str = "classes",
    level: float = 0.95,
) -> pd.DataFrame:
    """The accuracies of a model on common and counter backgrounds, and the drop between them.

    Args:
        table: See `class_accuracies`.
        candidates: See `class_accuracies`.
        average: "classes": the mean of the classes' accuracies, of classes that have photos in both
            groups. Its interval takes classes as independent, and says how far the mean may be from
            that of all classes that could have been chosen so; that of the drop is paired. There is
            none of fewer than five classes, but where each is all right or all wrong.
            "photos": the share of all photos, with Clopper and Pearson's interval; the drop's is as
            in `class_accuracies`. It says how far other photos of these classes may be, as long as
            each class has as many.
        level: Of the intervals.

    Returns:
        Rows "common", "counter" and "drop": "accuracy" with "low" and "high", in percent; "classes"
        and "photos", of how many.

    Raises:
        ValueError: See `class_accuracies`; or if no class has photos in both groups.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({
        ...     "true": [296] * 4 + [9] * 2, "predicted": [296, 296, 296, 9, 9, 9], "status": "",
        ...     "group": ["common", "common", "counter", "counter", "common", "counter"],
        ... })
        >>> accuracies(table)["accuracy"].to_dict()
        {'common': 100.0, 'counter': 75.0, 'drop': 25.0}
        >>> accuracies(table, average="photos")["accuracy"].round(1).to_dict()
        {'common': 100.0, 'counter': 66.7, 'drop': 33.3}
    """
    check_choice("average", average, AVERAGES)
    classes = class_accuracies(table, candidates, level=level)
    if average == "photos":
        return _by_photo(classes, level)
    both = classes[classes["drop"].notna()]
    if both.empty:
        raise ValueError("table: expected classes with photos in both groups, got none")
    values = {group: both[group].to_numpy() for group in GROUPS}
    bounds = (0.0, _PERCENT)
    ends = {g: interval(values[g], bounds=bounds, level=level) for g in GROUPS}
    ends["drop"] = paired_interval(*values.values(), bounds=bounds, level=level)
    means = {name: float(both[name].mean()) for name in (*GROUPS, "drop")}
    counts = {group: int(both[f"{group}_photos"].sum()) for group in GROUPS}
    return _three(means, ends, len(both), counts)


def right(rows: pd.DataFrame, candidates: Candidates | None = None) -> np.ndarray:
    """Whether the true class alone scores highest.

    Args:
        rows: Of images that were read.
        candidates: Among which names; None is all, as the column "predicted" has it.

    Returns:
        (n,) bool. A true class that is no candidate is never right.

    Raises:
        ValueError: If scores are missing, or a class has no candidates; or without candidates, if
            the scores are those of candidates alone.
    """
    true = rows["true"].to_numpy()
    if candidates is None:
        if of_candidates_alone(rows):
            raise ValueError(
                "table: expected scores of all classes, got those of candidates alone; candidates="
                "... says which"
            )
        return (rows["predicted"] == rows["true"]).to_numpy(dtype=bool)
    found = np.zeros(len(rows), dtype=bool)
    for index in np.unique(true):
        labels, own = np.array(candidates.of(int(index))), true == index
        scores = scores_of(rows[own])
        if labels.max() >= scores.shape[1]:
            raise ValueError(
                f"candidates: expected classes below {scores.shape[1]}, as table has scores, got "
                f"{labels.max()}"
            )
        best = predicted(torch.from_numpy(scores[:, labels])).numpy()
        found[own] = (best >= 0) & (labels[best] == index)
    return found


def _by_photo(classes: pd.DataFrame, level: float) -> pd.DataFrame:
    counts = {group: int(classes[f"{group}_photos"].sum()) for group in GROUPS}
    row: dict[str, Any] = {}
    for group in GROUPS:
        hits = classes[group].fillna(0.0) / _PERCENT * classes[f"{group}_photos"]
        row |= _of_rate(group, round(float(hits.sum())), counts[group], level)
    row |= _drop(row)
    if math.isnan(row["drop"]):
        raise ValueError("table: expected photos in both groups, got none in one")
    names = (*GROUPS, "drop")
    ends = {name: (row[f"{name}_low"], row[f"{name}_high"]) for name in names}
    return _three({name: row[name] for name in names}, ends, len(classes), counts)


def _three(
    means: dict[str, float],
    ends: dict[str, tuple[float, float]],
    classes: int,
    photos: dict[str, int],
) -> pd.DataFrame:
    counts = {**photos, "drop": sum(photos.values())}
    rows = [(means[name], *ends[name], classes, counts[name]) for name in (*GROUPS, "drop")]
    names = ["accuracy", "low", "high", "classes", "photos"]
    return pd.DataFrame(rows, index=[*GROUPS, "drop"], columns=names)


def _synonyms(index: int) -> str:
    names = imagenet_synonyms()
    return names[index] if index < len(names) else f"class {index}"


def _background(part: pd.DataFrame, otherwise: str) -> str:
    if "background" not in part:
        return otherwise
    said = part["background"].dropna().unique()
    return ", ".join(sorted(map(str, said))) or otherwise


def _rate(group: str, hits: pd.Series, level: float) -> dict[str, Any]:
    return _of_rate(group, int(hits.sum()), len(hits), level)


def _of_rate(group: str, hits: int, photos: int, level: float) -> dict[str, Any]:
    """A group's accuracy with its interval, in percent."""
    ends = rate_interval(hits, photos, level) if photos else (np.nan, np.nan)
    return {
        group: _PERCENT * hits / photos if photos else np.nan,
        f"{group}_low": _PERCENT * ends[0],
        f"{group}_high": _PERCENT * ends[1],
        f"{group}_photos": photos,
    }


def _drop(row: dict[str, Any]) -> dict[str, Any]:
    """The difference of two independent rates, with its interval."""
    common, low, high = (row[f"common{end}"] for end in ("", "_low", "_high"))
    counter, least, most = (row[f"counter{end}"] for end in ("", "_low", "_high"))
    drop = common - counter
    below = math.hypot(common - low, most - counter)
    above = math.hypot(high - common, counter - least)
    return {"drop": drop, "drop_low": drop - below, "drop_high": drop + above}
