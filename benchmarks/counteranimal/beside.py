"""How far a model's accuracies are from the published ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..data._counteranimal import GROUPS
from .published import TOLERANCES, published_row


def beside_published(model: str, measured: pd.DataFrame, setup: str) -> dict[str, object] | None:
    """How far a model's accuracies are from the published ones.

    Args:
        model: As `--model` takes it.
        measured: Of `accuracies`.
        setup: One of `SETUPS`.

    Returns:
        "model", as the paper calls it; "common" and "counter", printed; "common_difference" and
        "counter_difference", measured minus printed in points; "within", whether both are within
        `TOLERANCES`, None where there is none for the setup; "reproduced", accuracies that another
        evaluation found where those are far from the paper's, and "within_reproduced"; and "note".
        None where the paper has no such row.

    Example:
        >>> import pandas as pd
        >>> measured = pd.DataFrame({"accuracy": [70.1, 41.3]}, index=["common", "counter"])
        >>> found = beside_published("ViT-B-32,laion400m_e31", measured, "1 vs 1000")
        >>> found["within"], found["reproduced"], found["within_reproduced"]
        (False, (70.12, 41.29), True)
    """
    row = published_row(model, setup)
    if row is None:
        return None
    values = [float(measured.loc[group, "accuracy"]) for group in GROUPS]
    printed = [float(row[group]) for group in GROUPS]
    other = tuple(float(row[f"reproduced_{group}"]) for group in GROUPS)
    tolerance = TOLERANCES.get(setup)
    known = not np.isnan(other).any()
    return {
        "model": str(row["model"]),
        "common": printed[0],
        "counter": printed[1],
        "common_difference": values[0] - printed[0],
        "counter_difference": values[1] - printed[1],
        "within": _within(values, printed, tolerance),
        "reproduced": other if known else None,
        "within_reproduced": _within(values, other, tolerance) if known else None,
        "note": str(row["note"]),
    }


def _within(
    values: Sequence[float], others: Sequence[float], tolerance: float | None
) -> bool | None:
    if tolerance is None:
        return None
    return all(abs(a - b) <= tolerance + 1e-9 for a, b in zip(values, others, strict=True))
