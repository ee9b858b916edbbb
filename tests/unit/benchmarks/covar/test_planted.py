"""Planted pairs among the predictions, counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cci_captum.benchmarks.covar.planted import planted_classes, planted_errors
from cci_captum.tiny import BACKGROUND_NAMES, CLASS_NAMES, PLANTED_PAIRS


def predictions(seed: int = 0) -> pd.DataFrame:
    """Every class on every background, often taken for the class that is bound to it."""
    rng = np.random.default_rng(seed)
    bound = {pair.background_name: pair.class_name for pair in PLANTED_PAIRS}
    rows: list[dict[str, Any]] = []
    for true, name in enumerate(CLASS_NAMES):
        photo = {"source": name, "true": true, "predicted": true, "status": "", "level": ""}
        rows.append(photo | {"factor": "photo", "background": "own", "control": ""})
        rows.append(photo | {"factor": "original", "background": "same", "control": "same"})
        for background in BACKGROUND_NAMES:
            guess = true if rng.random() < 0.5 else int(rng.integers(len(CLASS_NAMES)))
            if background in bound and rng.random() < 0.6:
                guess = CLASS_NAMES.index(bound[background])
            row = photo | {"factor": "original", "background": background, "control": ""}
            rows.append(row | {"predicted": guess})
    table = pd.DataFrame(rows)
    wrong = table["predicted"] != table["true"]
    drawn = rng.choice(["BG-Er", "FG-Er"], len(table))
    table["energy_verdict"] = np.where(wrong, drawn, None)
    return table


TABLE = predictions()
MADE = [row for row in TABLE.to_dict("records") if row["factor"] != "photo" and not row["control"]]


@pytest.mark.parametrize("kind", ["sufficient", "conditional"])
def test_errors_for_the_class_of_a_background(kind: str) -> None:
    pairs = [pair for pair in PLANTED_PAIRS if pair.kind == kind]
    errors, could = [], 0
    for row in MADE:
        for pair in pairs:
            bound = CLASS_NAMES.index(pair.class_name)
            if row["background"] == pair.background_name and row["true"] != bound:
                could += 1
                if row["predicted"] == bound:
                    errors.append(row["energy_verdict"])
    found = planted_errors(TABLE).set_index("group").loc[kind]
    assert found["errors"] == len(errors) > 50
    assert found["of_images"] == len(errors) / could
    assert found["bg_er"] == pytest.approx(errors.count("BG-Er") / len(errors))
    assert found["low"] < found["bg_er"] < found["high"]


def test_all_other_errors() -> None:
    found = planted_errors(TABLE).set_index("group")
    wrong = [row for row in MADE if row["predicted"] != row["true"]]
    assert found["errors"].sum() == len(wrong)
    assert found.loc["other", "of_images"] == found.loc["other", "errors"] / len(MADE)


def test_classes_of_pairs_on_their_background_and_elsewhere() -> None:
    own = {pair.class_name: pair.background_name for pair in PLANTED_PAIRS}
    found = planted_classes(TABLE).set_index("group")
    assert list(found.index) == ["on its own background", "on another background", "of no pair"]
    for group, row in found.iterrows():
        chosen = []
        for made in MADE:
            name = CLASS_NAMES[made["true"]]
            there = "on its own background" if made["background"] == own.get(name) else "on another"
            if group == "of no pair":
                there = "of no pair" if name not in own else ""
            elif name not in own:
                there = ""
            if there and str(group).startswith(there):
                chosen.append(made)
        assert row["images"] == len(chosen)
        assert row["accuracy"] == pytest.approx(
            np.mean([made["predicted"] == made["true"] for made in chosen])
        )
        assert row["bg_er"] == pytest.approx(
            np.mean([made["energy_verdict"] == "BG-Er" for made in chosen])
        )
    with pytest.raises(ValueError, match="table: expected verdicts of a rule"):
        planted_errors(TABLE.drop(columns="energy_verdict"))
