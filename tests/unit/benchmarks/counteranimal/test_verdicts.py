"""Drops with verdicts, by plain loops; and 1 vs 20 by any function that scores texts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from animals import make_release, predictions
from animals import scores_of as cosines
from PIL import Image
from scipy import stats

from cci_captum.benchmarks.counteranimal import (
    Candidates,
    accuracies,
    background_errors,
    choose_candidates,
    class_accuracies,
    drops_with_verdicts,
    mean_drops,
    score_candidates,
)
from cci_captum.benchmarks.data import CounterAnimal, ImageData, Scenes, imagenet_synonyms

VERDICT = "shapley-regions_verdict"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def judged_table(seed: int = 0) -> pd.DataFrame:
    """As many classes as there are; errors in counter are the background's more often."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for index in range(45):
        for group in ("common", "counter"):
            for _ in range(int(rng.integers(8, 20))):
                wrong = bool(rng.random() < (0.2 if group == "common" else 0.5))
                behind = rng.random() < (0.3 if group == "common" else 0.7)
                said = {True: "BG-", False: str(rng.choice(["FG-", "Fine-"]))}[bool(behind)]
                said = f"{said}Er" if wrong else f"{said.replace('Fine', 'FG')}Co"
                verdict = None if rng.random() < 0.1 else said
                rows.append(
                    {
                        "true": index, "predicted": 999 if wrong else index, "group": group,
                        "status": "", VERDICT: verdict,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows).astype({VERDICT: object})


@pytest.mark.exhaustive
def test_every_number_of_a_class() -> None:
    table = judged_table()
    found = drops_with_verdicts(table).set_index("index")
    accuracy = class_accuracies(table).set_index("index")
    assert list(found.index) == [*range(45)]
    for index, row in found.iterrows():
        rates: dict[str, tuple[float, float, float]] = {}
        for group in ("common", "counter"):
            photos = errors = judged = behind = 0
            for each in table.to_dict("records"):
                if each["true"] == index and each["group"] == group:
                    photos += 1
                    errors += each["predicted"] != index
                    judged += each["predicted"] != index and isinstance(each[VERDICT], str)
                    behind += each[VERDICT] == "BG-Er"
            got = [row[f"{group}_{name}"] for name in ("photos", "errors", "judged", "background")]
            assert got == [photos, errors, judged, behind]
            if judged:
                assert row[f"{group}_share"] == pytest.approx(behind / judged)
                test = stats.binomtest(behind, judged).proportion_ci(0.95, "exact")
                assert (row[f"{group}_low"], row[f"{group}_high"]) == pytest.approx(
                    (test.low, test.high), abs=1e-9
                )
            rates[group] = (behind / photos, (judged - behind) / photos, (errors - judged) / photos)
        parts = [100 * (b - a) for a, b in zip(rates["common"], rates["counter"], strict=True)]
        got = [row[f"drop_{name}"] for name in ("background", "object", "unjudged")]
        assert got == pytest.approx(parts, abs=1e-9)
        assert math.fsum(parts) == pytest.approx(row["drop"], abs=1e-9)
        assert row["drop"] == accuracy.loc[index, "drop"]


def test_of_the_mean_drop() -> None:
    table = judged_table()
    drops = drops_with_verdicts(table)
    found = mean_drops(drops)
    assert found.loc["drop"].tolist() == pytest.approx(
        accuracies(table).loc["drop", ["accuracy", "low", "high"]].tolist(), abs=1e-9
    )
    parts = found.loc[["background", "object", "unjudged"], "mean"]
    assert parts.sum() == pytest.approx(found.loc["drop", "mean"], abs=1e-9)
    assert parts["background"] == pytest.approx(np.mean(drops["drop_background"]), abs=1e-12)
    assert found.loc["background", "low"] > 0 > found.loc["unjudged", "low"] - 100


def test_errors_of_the_background() -> None:
    """The planted 70 % against 30 %, and no photo of a class counted as independent."""
    table = judged_table()
    found = background_errors(table)
    for group in ("common", "counter"):
        own = table[(table["group"] == group) & (table["predicted"] == 999)]
        said = own[VERDICT].dropna()
        assert found.loc[group, ["errors", "judged", "background"]].tolist() == [
            len(own), len(said), int((said == "BG-Er").sum()),
        ]  # fmt: skip
        assert found.loc[group, "share"] == pytest.approx((said == "BG-Er").mean())
        assert found.loc[group, "low"] < found.loc[group, "share"] < found.loc[group, "high"]
    assert found.loc["common", "high"] < 0.5 < found.loc["counter", "low"]


def test_classes_are_the_units() -> None:
    """Half of the classes always, half never: ten coins, however many photos."""
    rows = [(index, 999, "counter", "BG-Er" if index < 5 else "FG-Er") for index in range(10)] * 50
    rows += [(index, index, "common", "FG-Co") for index in range(10)]
    table = pd.DataFrame(rows, columns=["true", "predicted", "group", VERDICT]).assign(status="")
    found = background_errors(table)
    assert found.loc["counter", "high"] - found.loc["counter", "low"] > 0.5
    assert found.loc["common", "errors"] == 0 and math.isnan(found.loc["common", "share"])
    drops = drops_with_verdicts(table)
    assert drops["common_share"].isna().all() and drops["drop_background"].sum() == 500.0


def test_a_rule_without_verdicts() -> None:
    for function in (drops_with_verdicts, background_errors):
        with pytest.raises(ValueError, match=r"^table: expected a column 'energy_verdict', got tr"):
            function(judged_table(), "energy")


# any function that scores texts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    return CounterAnimal(make_release(tmp_path_factory.mktemp("release"), photos=1))


@pytest.fixture(scope="module")
def table(data: ImageData) -> pd.DataFrame:
    return predictions(data)


@pytest.mark.exhaustive
@pytest.mark.parametrize("batch_size", [3])
def test_a_scorer_is_a_model_among_candidates(
    data: ImageData, table: pd.DataFrame, batch_size: int
) -> None:
    """The same cosines by text: the same 1 vs 20 as from the scores of all names."""
    places = {f"An {name}!": index for index, name in enumerate(imagenet_synonyms())}
    asked: list[tuple[int, int]] = []

    def scorer(images: list[Image.Image], texts: list[str]) -> torch.Tensor:
        asked.append((len(images), len(texts)))
        rows = [cosines(image)[[places[text] for text in texts]] for image in images]
        return torch.from_numpy(np.stack(rows))

    chosen = choose_candidates(table)
    found = score_candidates(scorer, data, chosen, answer="An {}!", batch_size=batch_size)
    assert max(images for images, _ in asked) == batch_size
    assert {texts for _, texts in asked} == {20}
    assert found["index"].tolist() == [*range(len(data))]
    same = ["index", "true", "status", "image", "source", "group", "background"]
    pd.testing.assert_frame_equal(found[same], table[same], check_dtype=False)
    expected = accuracies(table, chosen)
    pd.testing.assert_frame_equal(accuracies(found, chosen), expected)
    pd.testing.assert_frame_equal(class_accuracies(found, chosen), class_accuracies(table, chosen))
    right = (found["predicted"] == found["true"]) & (found["status"] == "")
    assert 100 * right[found["group"] == "common"].sum() / (found["group"] == "common").sum() == (
        pytest.approx(accuracies(table, chosen, average="photos").loc["common", "accuracy"])
    )
    with pytest.raises(ValueError, match="got those of candidates alone"):
        accuracies(found)


def test_names_of_ones_own(data: ImageData, table: pd.DataFrame) -> None:
    first = [name.split(",")[0] for name in data.class_names]
    seen: set[str] = set()

    def scorer(images: list[Image.Image], texts: list[str]) -> list[list[float]]:
        seen.update(texts)
        return [[0.0] * len(texts) for _ in images]

    found = score_candidates(scorer, data, choose_candidates(table), names=first)
    assert "A ice bear" in seen and not any("," in text for text in seen)
    assert (found["predicted"] == -1).all()  # ties


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": "A name"}, r"answer: expected a text with \{\} for the name, got 'A name'"),
        ({"names": ["a"]}, "names: expected 1000, got 1"),
        ({"batch_size": 0}, "batch_size: expected a positive int, got 0"),
        (
            {"candidates": Candidates({9: (9,)}, "m", "d", {})},
            "candidates: expected those of class",
        ),
        ({"scorer": lambda images, texts: [[1.0]]}, r"scorer: expected scores \(\d, 20\), of each"),
    ],
)
def test_errors(data: ImageData, table: pd.DataFrame, options: dict, message: str) -> None:
    given = {"scorer": None, "candidates": choose_candidates(table), **options}
    with pytest.raises(ValueError, match=f"^{message}"):
        score_candidates(given.pop("scorer"), data, given.pop("candidates"), **given)


def test_a_file_system_that_is_away_is_no_damage() -> None:
    class Away(Scenes):
        def __getitem__(self, index: Any) -> Any:
            raise OSError(5, "Input/output error")

    scenes = Away(2)
    chosen = Candidates(dict.fromkeys(scenes.targets, (0, 1)), "", "", {})
    with pytest.raises(OSError, match="Input/output"):
        score_candidates(lambda images, texts: [[0, 1]], scenes, chosen)
