"""What a table of predictions says: rows that were measured, their scores, and which are right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from cci_captum.models.ranking import predicted

from ..data._counteranimal import GROUPS

if TYPE_CHECKING:
    from .candidates import Candidates

SCORES = "scores"


def measured_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of images that were read.

    Raises:
        ValueError: If there are none, or no such columns.
    """
    _check_columns(table, "true", "status")
    rows = table[table["status"] == ""]
    if rows.empty:
        raise ValueError(f"table: expected images that were read, got none of {len(table)}")
    return rows


def grouped_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of images that were read, each of the group "common" or "counter".

    Raises:
        ValueError: If there are none, or one is of another group.
    """
    _check_columns(table, "group")
    rows = measured_rows(table)
    other = rows.loc[~rows["group"].isin(GROUPS), "group"]
    if len(other):
        raise ValueError(f"table: expected groups common and counter, got {other.iloc[0]!r}")
    return rows


def finite_scores(rows: pd.DataFrame) -> np.ndarray:
    """Scores (n, C) of all classes, as they were kept.

    Raises:
        ValueError: If there are none, or one is not finite.
    """
    scores = _scores(rows)
    if not np.isfinite(scores).all():
        bad = rows.iloc[int(np.argmin(np.isfinite(scores).all(axis=1)))]
        raise ValueError(
            f"table: expected finite scores of all classes, got others of {bad.get('image')!r}"
        )
    return scores


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
        if SCORES in rows and np.isneginf(_scores(rows.head(1))).any():
            raise ValueError(
                "table: expected scores of all classes, got those of candidates alone; candidates="
                "... says which"
            )
        return (rows["predicted"] == rows["true"]).to_numpy(dtype=bool)
    found = np.zeros(len(rows), dtype=bool)
    for index in np.unique(true):
        labels, own = np.array(candidates.of(int(index))), true == index
        scores = _scores(rows[own])
        if labels.max() >= scores.shape[1]:
            raise ValueError(
                f"candidates: expected classes below {scores.shape[1]}, as table has scores, got "
                f"{labels.max()}"
            )
        best = predicted(torch.from_numpy(scores[:, labels])).numpy()
        found[own] = (best >= 0) & (labels[best] == index)
    return found


def _scores(rows: pd.DataFrame) -> np.ndarray:
    _check_columns(rows, SCORES)
    kept: Any = rows[SCORES].to_list()
    if any(row is None or np.ndim(row) != 1 for row in kept):
        raise ValueError(f"table: expected {SCORES} of every image that was read, got none of some")
    return np.stack(kept)


def _check_columns(table: pd.DataFrame, *names: str) -> None:
    for name in names:
        if name not in table:
            raise ValueError(f"table: expected a column {name!r}, got {', '.join(table.columns)}")
