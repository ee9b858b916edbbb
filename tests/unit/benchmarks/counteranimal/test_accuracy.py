"""Accuracies, drops and the 20 names against plain loops over the files, in float64."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from animals import TEXTS, make_release, predictions
from PIL import Image, UnidentifiedImageError
from scipy import stats
from scipy.optimize import brentq

from cci_captum.benchmarks.counteranimal import (
    Candidates,
    accuracies,
    choose_candidates,
    class_accuracies,
)
from cci_captum.benchmarks.data import CounterAnimal

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
GROUPS = ("common", "counter")


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("release")) / "LAION-final"


@pytest.fixture(scope="module")
def table(top: Path) -> pd.DataFrame:
    return predictions(CounterAnimal(top))


@pytest.fixture(scope="module")
def by_hand(top: Path) -> dict[int, dict[str, list[list[float]]]]:
    """Class -> group -> the 1000 cosines of each photo that can be read, in float64."""
    found: dict[int, dict[str, list[list[float]]]] = {}
    for folder in sorted(path for path in top.iterdir() if path.name[0].isdigit()):
        if not folder.is_dir():
            continue
        own = found.setdefault(int(folder.name.split(" ")[0]), {"common": [], "counter": []})
        for group in folder.iterdir():
            if not group.is_dir():
                continue
            for file in sorted(group.iterdir()):
                try:
                    with Image.open(file) as image:
                        pixels = np.array(image.convert("RGB")).astype(np.float64).ravel() - 128
                except (OSError, UnidentifiedImageError):
                    continue
                cosines = (TEXTS * pixels).sum(axis=1) / math.sqrt((pixels * pixels).sum())
                own[group.name.split("-")[0]].append(cosines.tolist())
    return found


def share(rows: list[list[float]], index: int, among: list[int]) -> tuple[int, int]:
    """How many photos have their highest cosine at the class, and how many there are."""
    hits = 0
    for row in rows:
        best = max(among, key=lambda label: row[label])
        hits += best == index
    return hits, len(rows)


def twenty(groups: dict[str, list[list[float]]]) -> list[int]:
    sums = [
        math.fsum(row[label] for group in GROUPS for row in groups[group]) for label in range(1000)
    ]
    return sorted(range(1000), key=lambda label: (-sums[label], label))[:20]


def expected(by_hand: dict, few: bool) -> dict[int, dict[str, tuple[int, int]]]:
    return {
        index: {
            group: share(groups[group], index, twenty(groups) if few else list(range(1000)))
            for group in GROUPS
        }
        for index, groups in by_hand.items()
    }


def test_the_twenty_names_of_every_class(table: pd.DataFrame, by_hand: dict) -> None:
    found = choose_candidates(table, model="pixels", data="small")
    assert {index: list(labels) for index, labels in found.labels.items()} == {
        index: twenty(groups) for index, groups in by_hand.items()
    }
    assert found.photos == {index: len(g["common"] + g["counter"]) for index, g in by_hand.items()}
    assert (found.model, found.data) == ("pixels", "small")


@pytest.mark.parametrize("few", [False, True], ids=["1 vs 1000", "1 vs 20"])
def test_every_accuracy(table: pd.DataFrame, by_hand: dict, few: bool) -> None:
    candidates = choose_candidates(table) if few else None
    hits = expected(by_hand, few)
    classes = class_accuracies(table, candidates).set_index("index")
    assert list(classes.index) == sorted(hits)
    for index, groups in hits.items():
        rates = {group: 100 * right / count for group, (right, count) in groups.items()}
        for group in GROUPS:
            assert classes.loc[index, group] == pytest.approx(rates[group], abs=1e-9)
            assert classes.loc[index, f"{group}_photos"] == groups[group][1]
        drop = rates["common"] - rates["counter"]
        assert classes.loc[index, "drop"] == pytest.approx(drop, abs=1e-9)
    balanced = accuracies(table, candidates)
    pooled = accuracies(table, candidates, average="photos")
    for group in GROUPS:
        mean = math.fsum(100 * r / n for r, n in (own[group] for own in hits.values())) / 45
        right, count = (sum(own[group][i] for own in hits.values()) for i in (0, 1))
        assert balanced.loc[group, "accuracy"] == pytest.approx(mean, abs=1e-9)
        assert pooled.loc[group, "accuracy"] == pytest.approx(100 * right / count, abs=1e-9)
        assert balanced.loc[group, "photos"] == pooled.loc[group, "photos"] == count
        assert abs(mean - 100 * right / count) > 0.1  # the two averages are two
    for found in (balanced, pooled):
        drop = found.loc["common", "accuracy"] - found.loc["counter", "accuracy"]
        assert found.loc["drop", "accuracy"] == pytest.approx(drop, abs=1e-9)
        assert (found["low"] < found["accuracy"]).all() and (
            found["accuracy"] < found["high"]
        ).all()
    assert balanced.loc["drop", "accuracy"] > 5


def test_the_two_setups_are_two(table: pd.DataFrame) -> None:
    few = accuracies(table, choose_candidates(table))["accuracy"]
    assert (few - accuracies(table)["accuracy"])[list(GROUPS)].min() > 5


def test_the_damaged_photo_counts_nowhere(table: pd.DataFrame) -> None:
    (bad,) = table.index[table["status"] != ""]
    assert table.loc[bad, "true"] == 296
    pd.testing.assert_frame_equal(class_accuracies(table), class_accuracies(table.drop(index=bad)))
    assert choose_candidates(table) == choose_candidates(table.drop(index=bad))


# small tables by hand


def small(rows: list[tuple[Any, ...]], scores: list[list[float]] | None = None) -> pd.DataFrame:
    """Rows of true, predicted, group."""
    table = pd.DataFrame(rows, columns=["true", "predicted", "group"]).assign(status="")
    if scores is not None:
        table["scores"] = pd.Series([np.float32(row) for row in scores], dtype=object)
    return table


def test_class_with_one_group_counts_by_photo_alone() -> None:
    rows = [(9, 9, "common"), (9, 0, "common"), (9, 0, "counter")]
    rows += [(10, 10, "common"), (10, 10, "common"), (16, 16, "counter")]
    found = accuracies(small(rows))
    assert found["accuracy"].tolist() == [50.0, 0.0, 50.0]
    assert found["classes"].tolist() == [1, 1, 1] and found["photos"].tolist() == [2, 1, 3]
    assert math.isnan(found["low"].iloc[0])  # one class says nothing of others
    pooled = accuracies(small(rows), average="photos")
    assert pooled["accuracy"].tolist() == [75.0, 50.0, 25.0]
    assert pooled["photos"].tolist() == [4, 2, 6]


def test_a_true_class_that_is_no_candidate_is_never_right() -> None:
    table = small([(2, 2, "common"), (2, 2, "counter")], [[1, 2, 9], [1, 2, 9]])
    candidates = Candidates({2: (1, 0)}, "", "", {})
    assert accuracies(table)["accuracy"].tolist() == [100.0, 100.0, 0.0]
    assert accuracies(table, candidates)["accuracy"].tolist() == [0.0, 0.0, 0.0]


def test_candidates_take_the_true_class_only_where_it_ranks() -> None:
    """Mean of both groups: the class itself is third of its photos."""
    scores = [[5, 4, 0, 1], [5, 0, 3, 1], [0, 1, 2, 9]]
    table = small([(2, 0, "common"), (2, 0, "counter"), (3, 3, "common")], scores)
    assert choose_candidates(table, 2).labels == {2: (0, 1), 3: (3, 2)}


def test_ties() -> None:
    """Of names the lower index comes first; of photos a tie is not right, as everywhere here."""
    table = small([(1, -1, "common"), (1, -1, "counter")], [[7, 7, 7], [2, 2, 1]])
    assert choose_candidates(table, 3).labels == {1: (0, 1, 2)}
    found = accuracies(table, Candidates({1: (0, 1)}, "", "", {}))
    assert found.loc["common", "accuracy"] == 0.0
    found = accuracies(table, Candidates({1: (2, 1)}, "", "", {}))
    assert found.loc["counter", "accuracy"] == 100.0 and found.loc["common", "accuracy"] == 0.0


def test_many_photos_are_summed_in_float64() -> None:
    """A difference that float32 sums would lose."""
    count = 4000
    scores = np.full((count, 2), 1000.0, dtype=np.float32)
    scores[0] = (1000.0, np.nextafter(np.float32(1000), np.float32(2000)))
    table = small([(0, 0, "common")] * count, scores.tolist())
    assert choose_candidates(table, 1).labels == {0: (1,)}


# intervals


def clopper_pearson(hits: int, count: int) -> tuple[float, float]:
    """From its definition: the rates at which so many, or so few, have a chance of 2.5 %."""
    low = 0.0 if hits == 0 else brentq(lambda p: stats.binom.sf(hits - 1, count, p) - 0.025, 0, 1)
    high = 1.0 if hits == count else brentq(lambda p: stats.binom.cdf(hits, count, p) - 0.025, 0, 1)
    return 100 * low, 100 * high


def test_intervals_of_a_class() -> None:
    rows = [(9, 9 if n < 18 else 1, "common") for n in range(20)]
    rows += [(9, 9 if n < 3 else 1, "counter") for n in range(12)]
    row = class_accuracies(small(rows)).iloc[0]
    low, high = clopper_pearson(18, 20)
    least, most = clopper_pearson(3, 12)
    assert (row["common_low"], row["common_high"]) == pytest.approx((low, high), abs=1e-8)
    assert (row["counter_low"], row["counter_high"]) == pytest.approx((least, most), abs=1e-8)
    drop = 90.0 - 25.0
    assert row["drop_low"] == pytest.approx(drop - math.hypot(90 - low, most - 25), abs=1e-8)
    assert row["drop_high"] == pytest.approx(drop + math.hypot(high - 90, 25 - least), abs=1e-8)


def test_intervals_of_the_mean_of_classes() -> None:
    """Classes are the units and the drop is paired: at least as wide as Student's of 45 values."""
    rng = np.random.default_rng(3)
    rows = []
    for index in range(45):
        level = rng.uniform(0.3, 0.9)
        for group, rate in (("common", level), ("counter", level - 0.2)):
            rows += [(index, index if rng.random() < rate else 999, group) for _ in range(40)]
    table = small(rows)
    classes, found = class_accuracies(table), accuracies(table)
    for name in (*GROUPS, "drop"):
        values = classes[name].to_numpy()
        student = stats.t.interval(0.95, 44, values.mean(), stats.sem(values))
        low, high = found.loc[name, ["low", "high"]]
        assert low <= student[0] + 1e-9 and high >= student[1] - 1e-9
        assert high - low < 1.15 * (student[1] - student[0])
    apart = found.loc["drop", "high"] - found.loc["drop", "low"]
    assert apart < 0.6 * (found.loc["common", "high"] - found.loc["common", "low"])  # paired
    wider = accuracies(table, level=0.99)
    assert (wider["low"] < found["low"]).all() and (wider["high"] > found["high"]).all()


# stored, and errors


def test_candidates_are_stored_for_all_models(table: pd.DataFrame, tmp_path: Path) -> None:
    chosen = choose_candidates(table, model="ViT-B-32,laion400m_e31", data="CounterAnimal")
    chosen.save(tmp_path / "candidates.json")
    assert Candidates.load(tmp_path / "candidates.json") == chosen
    stored = json.loads((tmp_path / "candidates.json").read_text())
    assert len(stored["labels"]) == 45 and stored["model"] == "ViT-B-32,laion400m_e31"
    rng = np.random.default_rng(4)  # another model
    scores = [None if row is None else row + 20 * rng.normal(size=1000) for row in table["scores"]]
    other = table.assign(scores=[None if row is None else np.float32(row) for row in scores])
    hits = [
        max(stored["labels"][str(true)], key=lambda label: row[label]) == true
        for true, row in zip(other["true"], other["scores"], strict=True)
        if row is not None
    ]
    rows = other[other["status"] == ""].assign(hit=hits)
    means = rows.groupby(["group", "true"])["hit"].mean().groupby("group").mean()
    found = accuracies(other, Candidates.load(tmp_path / "candidates.json"))["accuracy"]
    assert found[list(GROUPS)].tolist() == pytest.approx((100 * means[list(GROUPS)]).tolist())
    assert choose_candidates(other) != chosen


@pytest.mark.parametrize(
    "text",
    [
        "[]", "{}", "nonsense", '{"labels": {"a": [1]}, "photos": {}, "model": "", "data": ""}',
        '{"labels": {"1": ["2"]}, "photos": {}, "model": "", "data": ""}',
        '{"labels": {"1": [-2]}, "photos": {}, "model": "", "data": ""}',
        '{"labels": {"1": [1]}, "model": "", "data": ""}',
    ],
)  # fmt: skip
def test_a_file_of_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=r"c\.json: expected a JSON object with labels, model"):
        Candidates.load(tmp_path / "c.json")


GOOD = small([(2, 2, "common"), (2, 2, "counter")], [[1, 2, 9], [1, 2, 9]])


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (GOOD.drop(columns="group"), {}, "table: expected a column 'group'"),
        (GOOD.drop(columns="status"), {}, "table: expected a column 'status'"),
        (GOOD.assign(status="gone"), {}, "table: expected images that were read, got none of 2"),
        (GOOD.assign(group="easy"), {}, "table: expected groups common and counter, got 'easy'"),
        (GOOD.assign(group="common"), {}, "table: expected classes with photos in both groups"),
        (GOOD.assign(group="common"), {"average": "photos"}, "table: expected photos in both gro"),
        (GOOD, {"average": "both"}, "average: expected one of classes, photos, got 'both'"),
        (GOOD, {"candidates": Candidates({1: (1,)}, "m", "d", {})},
         "candidates: expected those of class 2, got some for 1 other classes, chosen by m on d"),
        (GOOD, {"candidates": Candidates({2: (7,)}, "", "", {})},
         "candidates: expected classes below 3, as table has scores, got 7"),
        (GOOD.drop(columns="scores"), {"candidates": Candidates({2: (1,)}, "", "", {})},
         "table: expected a column 'scores'"),
        (GOOD.assign(scores=None), {"candidates": Candidates({2: (1,)}, "", "", {})},
         "table: expected scores of every image that was read, got none of some"),
        (GOOD.assign(scores=[np.float32([-np.inf, 1, 2])] * 2), {},
         "table: expected scores of all classes, got those of candidates alone"),
    ],
)  # fmt: skip
def test_errors(table: pd.DataFrame, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        accuracies(table, **options)


@pytest.mark.parametrize(
    ("table", "count", "message"),
    [
        (GOOD, 4, "count: expected at most the 3 classes of scores, got 4"),
        (GOOD, 0, "count: expected a positive int, got 0"),
        (GOOD.assign(scores=[np.float32([1, np.nan, 1])] * 2, image="a.png"), 2,
         "table: expected finite scores of all classes, got others of 'a.png'"),
        (GOOD.drop(columns="scores"), 2, "table: expected a column 'scores'"),
    ],
)  # fmt: skip
def test_errors_of_choosing(table: pd.DataFrame, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        choose_candidates(table, count)
