"""Verdicts against the table of all cases, agreement against scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from cci_captum.diagnosis.rules import find_rules
from cci_captum.diagnosis.verdicts import agreement, with_verdicts

RULES = find_rules(["energy", "paper-iou"])


def table_of(energy: list[float], iou: list[float], guesses: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "true": [0] * len(guesses),
            "predicted": guesses,
            "true_name": ["fox"] * len(guesses),
            "predicted_name": [["fox", "wolf", "jar", None][guess] for guess in guesses],
            "energy_share": energy,
            "paper-iou_share": iou,
        }
    )


def test_every_case() -> None:
    asked = []

    def judge(guess: str, true: str) -> bool:
        asked.append((guess, true))
        return guess == "wolf"

    low, high, nan = 0.5, 0.51, float("nan")  # the threshold itself is not above it
    energy = [low, high, low, high, low, high, nan, low, low]
    iou = [low, low, high, nan, low, high, nan, low, low]
    found = with_verdicts(table_of(energy, iou, [0, 0, 1, 1, 2, 2, 2, -1, 1]), RULES, judge)
    assert found["energy_verdict"].tolist() == [
        "FG-Co", "BG-Co", "Fine-Er", "BG-Er", "FG-Er", "BG-Er", None, None, "Fine-Er",
    ]  # fmt: skip
    assert found["agree"].tolist() == [True, False, False, None, True, True, None, None, True]
    assert sorted(asked) == [("jar", "fox"), ("wolf", "fox")]


def test_no_judge_no_fine_error() -> None:
    found = with_verdicts(table_of([0.1], [0.9], [1]), RULES)
    assert found["energy_verdict"].tolist() == ["FG-Er"]


def test_agreement() -> None:
    shares = np.random.default_rng(0).random((2, 40))
    shares[0, :3] = np.nan
    found = agreement(with_verdicts(table_of(*shares.tolist(), [0, 1] * 20), RULES), RULES)
    a, b = shares[:, 3:] > 0.5
    row = found.iloc[0]
    assert (row["rule"], row["other"], row["images"]) == ("energy", "paper-iou", 37)
    assert row["same"] == pytest.approx((a == b).mean())
    assert row["kappa"] == pytest.approx(cohen_kappa_score(a, b))
