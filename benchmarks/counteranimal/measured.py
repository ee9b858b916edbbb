"""What a table of predictions says: rows that were measured, and their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..data._counteranimal import GROUPS

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


def of_candidates_alone(table: pd.DataFrame) -> bool:
    """Whether scores are those of some classes, and minus infinity for all others."""
    kept = table[SCORES].dropna() if SCORES in table else table.iloc[:0]
    return len(kept) > 0 and bool(np.isneginf(kept.iloc[0]).any())


def finite_scores(rows: pd.DataFrame) -> np.ndarray:
    """Scores (n, C) of all classes, as they were kept.

    Raises:
        ValueError: If there are none, or one is not finite.
    """
    scores = scores_of(rows)
    if not np.isfinite(scores).all():
        bad = rows.iloc[int(np.argmin(np.isfinite(scores).all(axis=1)))]
        raise ValueError(
            f"table: expected finite scores of all classes, got others of {bad.get('image')!r}"
        )
    return scores


def scores_of(rows: pd.DataFrame) -> np.ndarray:
    """Scores (n, C), as they were kept; ValueError if there are none of some rows."""
    _check_columns(rows, SCORES)
    kept: Any = rows[SCORES].to_list()
    if any(row is None or np.ndim(row) != 1 for row in kept):
        raise ValueError(f"table: expected {SCORES} of every image that was read, got none of some")
    return np.stack(kept)


def _check_columns(table: pd.DataFrame, *names: str) -> None:
    for name in names:
        if name not in table:
            raise ValueError(f"table: expected a column {name!r}, got {', '.join(table.columns)}")
