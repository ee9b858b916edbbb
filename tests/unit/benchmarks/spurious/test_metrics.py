"""Measures of the three public sets against plain loops, written from their definitions."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cci_captum.benchmarks.data.imagenet9 import VARIANTS
from cci_captum.benchmarks.data.waterbirds import GROUPS
from cci_captum.benchmarks.spurious import (
    ablation_drops,
    background_errors,
    background_gap,
    challenge,
    relative_foreground_sensitivity,
    worst_group,
)
from cci_captum.benchmarks.spurious._tables import COLUMNS, linearised
from cci_captum.benchmarks.spurious.foreground_sensitivity import rfs
from cci_captum.benchmarks.statistics import interval, paired_interval, rate_interval

UNREAD = {"predicted": -1, "status": "damaged", "variant": np.nan, "group": np.nan}


def table_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table.insert(0, "index", range(len(table)))
    table["image"] = [f"image {place}" for place in range(len(table))]
    table["status"] = ""
    return table.sample(frac=1, random_state=0, ignore_index=True)  # no order matters


def by_part(found: pd.DataFrame) -> dict[str, Any]:
    assert found.columns.tolist() == COLUMNS
    return {row.part: row for row in found.itertuples()}


def damaged(table: pd.DataFrame, rows: list[int]) -> pd.DataFrame:
    """The same, but some images could not be read: their facts are not known."""
    table = table.copy()
    for name, value in UNREAD.items():
        if name in table:
            table[name] = table[name].astype(object)
            table.loc[rows, name] = value
    return table


def is_interval(row: Any, expected: tuple[float, float]) -> None:
    assert (row.low, row.high) == pytest.approx(expected, nan_ok=True, abs=1e-12)


# ImageNet-9


@pytest.fixture
def variants() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rates = dict(zip(VARIANTS, (0.95, 0.85, 0.6, 0.55, 0.8, 0.5, 0.1, 0.2), strict=True))
    rows = []
    for number in range(45):
        true = number % 9
        for variant, rate in rates.items():
            wrong = 9 if rng.random() < 0.4 else (true + 1) % 9  # 9: of none of the nine
            guess = true if rng.random() < rate else wrong
            rows.append(
                {"source": f"{number}", "variant": variant, "true": true, "predicted": guess}
            )
    return table_of(rows)


@pytest.mark.parametrize("missing", [[], [3, 40, 41, 100, 333]])
def test_accuracy_of_variants_and_their_gap(variants: pd.DataFrame, missing: list[int]) -> None:
    table = damaged(variants, missing)
    right: dict[str, dict[str, bool]] = {name: {} for name in VARIANTS}
    for row in table.to_dict("records"):
        if row["status"] == "":
            right[row["variant"]][row["source"]] = row["predicted"] == row["true"]
    found = by_part(background_gap(table))
    assert list(found) == [*VARIANTS, "BG-Gap"]
    for name in VARIANTS:
        hits, count = sum(right[name].values()), len(right[name])
        assert found[name].value == pytest.approx(hits / count) and found[name].images == count
        is_interval(found[name], rate_interval(hits, count))
    same, other = right["mixed_same"], right["mixed_rand"]
    both = [source for source in same if source in other]
    gap = sum(same[source] - other[source] for source in both) / len(both)
    assert found["BG-Gap"].value == pytest.approx(gap) and found["BG-Gap"].images == len(both)
    pairs = [[float(own[source]) for source in both] for own in (same, other)]
    is_interval(found["BG-Gap"], paired_interval(*pairs))
    if not missing:  # as published: the difference of two accuracies
        assert gap == pytest.approx(found["mixed_same"].value - found["mixed_rand"].value)


def test_published_accuracies_give_the_published_gap() -> None:
    """ResNet-50: 86.2 % and 78.9 %, a gap of 7.3 %, to a tenth of a point."""
    rows = [
        {"source": f"{n}", "variant": v, "true": 0, "predicted": int(n >= right)}
        for v, right in (("mixed_same", 3491), ("mixed_rand", 3195))  # of 4050
        for n in range(4050)
    ]
    found = by_part(background_gap(table_of(rows)))
    assert round(100 * found["mixed_same"].value, 1) == 86.2
    assert round(100 * found["mixed_rand"].value, 1) == 78.9
    assert round(100 * found["BG-Gap"].value, 1) == 7.3


def test_no_gap_without_its_variants(variants: pd.DataFrame) -> None:
    some = variants[variants["variant"].isin(["original", "mixed_same"])]
    assert list(by_part(background_gap(some))) == ["original", "mixed_same"]
    apart = variants[
        ((variants["variant"] == "mixed_same") & (variants["source"].astype(int) < 20))
        | ((variants["variant"] == "mixed_rand") & (variants["source"].astype(int) >= 20))
    ]
    row = by_part(background_gap(apart))["BG-Gap"]
    assert row.images == 0 and math.isnan(row.value) and math.isnan(row.low)


def test_challenge() -> None:
    rng = np.random.default_rng(1)
    rows = []
    for number in range(30):
        true, fooled = number % 3, rng.random() < 0.5
        for tile in range(12):
            wrong = fooled and rng.random() < 0.3
            rows.append(
                {"source": f"{number}", "true": true, "predicted": 9 if wrong else true,
                 "background": f"{tile}"}
            )  # fmt: skip
    table = damaged(table_of(rows), [5, 50, 120])
    vulnerable: dict[str, bool] = {}
    classes: dict[str, int] = {}
    hits = count = 0
    for row in table.to_dict("records"):
        if row["status"] == "":
            wrong = row["predicted"] != row["true"]
            vulnerable[row["source"]] = vulnerable.get(row["source"], False) or wrong
            classes[row["source"]] = row["true"]
            hits, count = hits + (not wrong), count + 1
    found = by_part(challenge(table))
    passed = sum(not each for each in vulnerable.values())
    assert 0 < passed < 30
    assert found["challenge"].value == pytest.approx(passed / 30)
    assert found["challenge"].images == 30
    is_interval(found["challenge"], rate_interval(passed, 30))
    assert found["images"].value == pytest.approx(hits / count)
    for place, name in enumerate(("dog", "bird", "wheeled vehicle")):
        own = [not vulnerable[source] for source, true in classes.items() if true == place]
        assert found[name].value == pytest.approx(sum(own) / len(own))
        assert found[name].images == len(own) == 10
    assert len(found) == 5


# Waterbirds


@pytest.fixture
def birds() -> pd.DataFrame:
    rng = np.random.default_rng(2)
    rows = []
    for place, (group, count, rate) in enumerate(
        zip(GROUPS, (60, 50, 30, 20), (0.97, 0.7, 0.5, 0.9), strict=True)
    ):
        true = place // 2
        for number in range(count):
            guess = true if rng.random() < rate else 1 - true
            rows.append(
                {"source": f"{group} {number}", "group": group, "true": true, "predicted": guess}
            )
    return table_of(rows)


@pytest.mark.parametrize("missing", [[], [0, 7, 99]])
def test_groups(birds: pd.DataFrame, missing: list[int]) -> None:
    table = damaged(birds, missing)
    training = dict(zip(GROUPS, (3498, 184, 56, 1057), strict=True))
    hits, counts = dict.fromkeys(GROUPS, 0), dict.fromkeys(GROUPS, 0)
    for row in table.to_dict("records"):
        if row["status"] == "":
            counts[row["group"]] += 1
            hits[row["group"]] += row["predicted"] == row["true"]
    rates = {group: hits[group] / counts[group] for group in GROUPS}
    found = by_part(worst_group(table))
    assert list(found)[:4] == list(GROUPS)
    for group in GROUPS:
        assert found[group].value == pytest.approx(rates[group])
        is_interval(found[group], rate_interval(hits[group], counts[group]))
    worst = found["worst group"]
    assert worst.value == min(rates.values()) and worst.images == counts["waterbird on land"]
    joint = [rate_interval(hits[group], counts[group], 1 - 0.05 / 4) for group in GROUPS]
    is_interval(worst, (min(low for low, _ in joint), min(high for _, high in joint)))
    weighted = sum(training[group] * rates[group] for group in GROUPS) / 4795
    assert found["average, as in training"].value == pytest.approx(weighted)
    plain = sum(hits.values()) / sum(counts.values())
    assert found["average, as tested"].value == pytest.approx(plain)
    assert sum(training.values()) == 4795  # as published


def test_weights_of_the_data(birds: pd.DataFrame) -> None:
    weights = dict(zip(GROUPS, (1, 1, 0, 0), strict=True))
    found = by_part(worst_group(birds, weights))
    half = (found[GROUPS[0]].value + found[GROUPS[1]].value) / 2
    assert found["average, as in training"].value == pytest.approx(half)
    land = birds[birds["group"] != GROUPS[3]]
    without = by_part(worst_group(land, weights))
    assert without["average, as in training"].value == pytest.approx(half)
    assert math.isnan(without["worst group"].value) and without[GROUPS[3]].images == 0
    assert math.isnan(by_part(worst_group(land))["average, as in training"].value)


@pytest.mark.exhaustive
def test_the_worst_groups_interval_covers() -> None:
    """True rates known, several nearly equal: the least is in the interval in 95 % and more."""
    rng, rates, covered = np.random.default_rng(3), np.array([0.9, 0.5, 0.52, 0.55]), 0
    for _ in range(30):
        rows = [
            {"source": f"{g} {n}", "group": group, "true": 1, "predicted": int(rng.random() < rate)}
            for g, (group, rate) in enumerate(zip(GROUPS, rates, strict=True))
            for n in range(40)
        ]
        row = by_part(worst_group(table_of(rows)))["worst group"]
        covered += row.low <= rates.min() <= row.high
    assert covered >= 28


@pytest.mark.parametrize(
    ("weights", "group", "message"),
    [
        ({}, GROUPS[0], "training_groups: expected a count for each of"),
        (dict.fromkeys(GROUPS, 0), GROUPS[0], "training_groups: expected a count"),
        (dict.fromkeys(GROUPS, -1), GROUPS[0], "training_groups: expected a count"),
        (dict.fromkeys(GROUPS, 1), "seabird", "table: expected groups of"),
    ],
)
def test_groups_that_are_wrong(weights: dict[str, int], group: str, message: str) -> None:
    table = table_of([{"source": "1", "group": group, "true": 0, "predicted": 0}])
    with pytest.raises(ValueError, match=re.escape(message)):
        worst_group(table, weights)


# Hard ImageNet


@pytest.fixture
def noisy() -> pd.DataFrame:
    """Classes of different sizes and rates, so that balancing them matters."""
    rng = np.random.default_rng(4)
    rows = []
    for true, (count, on_object, behind) in enumerate(
        ((5, 0.2, 0.9), (20, 0.7, 0.5), (9, 0.4, 0.8))
    ):
        for number in range(count):
            source = f"{true}/{number}"
            for variant, rate in (("clean", 0.9), ("grey", 0.6), ("box", 0.5), ("tile", 0.3)):
                rows.append((source, variant, 1, true, rng.random() < rate))
            for trial in (1, 2, 3):
                rows.append((source, "noisy_fg", trial, true, rng.random() < on_object))
                rows.append((source, "noisy_bg", trial, true, rng.random() < behind))
    names = ("source", "variant", "trial", "true", "right")
    made = [dict(zip(names, row, strict=True)) for row in rows]
    return table_of([row | {"predicted": row["true"] if row.pop("right") else 99} for row in made])


def class_means(table: pd.DataFrame, variant: str) -> float:
    """As released: of each class the share that is right, all trials together; then the mean."""
    hits: dict[int, int] = {}
    counts: dict[int, int] = {}
    for row in table.to_dict("records"):
        if row["status"] == "" and row["variant"] == variant:
            counts[row["true"]] = counts.get(row["true"], 0) + 1
            hits[row["true"]] = hits.get(row["true"], 0) + (row["predicted"] == row["true"])
    return sum(hits[c] / counts[c] for c in counts) / len(counts)


def formula(on_object: float, behind: float) -> float:
    mean = (on_object + behind) / 2
    return 0.0 if mean in (0, 1) else (behind - on_object) / (2 * min(mean, 1 - mean))


def test_relative_foreground_sensitivity(noisy: pd.DataFrame) -> None:
    on_object, behind = class_means(noisy, "noisy_fg"), class_means(noisy, "noisy_bg")
    found = by_part(relative_foreground_sensitivity(noisy))
    assert list(found) == ["RFS", "noisy object", "noisy background"]
    assert found["noisy object"].value == pytest.approx(on_object)
    assert found["noisy background"].value == pytest.approx(behind)
    assert found["RFS"].value == pytest.approx(formula(on_object, behind))
    assert {row.images for row in found.values()} == {34}
    right = noisy["predicted"] == noisy["true"]
    unbalanced = right[noisy["variant"] == "noisy_bg"].mean()
    assert abs(unbalanced - behind) > 0.05  # so that balancing was tried


def test_photos_with_one_kind_of_noise_do_not_count(noisy: pd.DataFrame) -> None:
    gone = noisy.index[(noisy["source"] == "1/3") & (noisy["variant"] == "noisy_fg")]
    table = damaged(noisy, gone.tolist())
    found = relative_foreground_sensitivity(table)
    rest = relative_foreground_sensitivity(noisy[noisy["source"] != "1/3"])
    pd.testing.assert_frame_equal(found, rest, rtol=0, atol=1e-12)
    assert found["images"].tolist() == [33] * 3


@pytest.mark.parametrize(
    ("on_object", "behind", "expected"),
    [
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 0.0),
        (0.0, 1.0, 1.0),
        (1.0, 0.0, -1.0),
        (0.0, 0.4, 1.0),  # the most that is possible with a mean of 0.2
        (0.6, 1.0, 1.0),  # with a mean of 0.8
        (0.5, 0.7, 0.25),  # 0.2 / (2 * 0.4)
        (0.3, 0.3, 0.0),
    ],
)
def test_rfs_by_hand(on_object: float, behind: float, expected: float) -> None:
    assert rfs(on_object, behind)[0] == pytest.approx(expected) == formula(on_object, behind)


@pytest.mark.parametrize(("on_object", "behind"), [(0.2, 0.4), (0.8, 0.7), (0.1, 0.95), (0.9, 0.3)])
def test_slopes_of_rfs(on_object: float, behind: float) -> None:
    step, (_, by_object, by_behind) = 1e-6, rfs(on_object, behind)
    up, down = formula(on_object + step, behind), formula(on_object - step, behind)
    assert by_object == pytest.approx((up - down) / (2 * step), rel=1e-6)
    up, down = formula(on_object, behind + step), formula(on_object, behind - step)
    assert by_behind == pytest.approx((up - down) / (2 * step), rel=1e-6)


def weighted_rfs(noisy: pd.DataFrame, weights: dict[str, float]) -> float:
    """RFS where photos weigh differently within their class."""
    means = []
    for variant in ("noisy_fg", "noisy_bg"):
        own = noisy[noisy["variant"] == variant]
        classes = []
        for true in sorted(set(own["true"])):
            rows = own[own["true"] == true]
            weight = rows["source"].map(weights).to_numpy()
            right = (rows["predicted"] == rows["true"]).to_numpy()
            classes.append((weight * right).sum() / weight.sum())
        means.append(sum(classes) / len(classes))
    return formula(*means)


@pytest.mark.exhaustive
def test_interval_of_rfs(noisy: pd.DataFrame) -> None:
    """Each photo's influence by numbers: how RFS moves with its weight, all trials together."""
    sources = sorted(set(noisy["source"]))
    plain = dict.fromkeys(sources, 1.0)
    value, step = weighted_rfs(noisy, plain), 1e-5
    sizes = {true: sum(s.startswith(f"{true}/") for s in sources) for true in (0, 1, 2)}
    values = []
    for source in sources:
        up = weighted_rfs(noisy, plain | {source: 1 + step})
        down = weighted_rfs(noisy, plain | {source: 1 - step})
        count = sizes[int(source[0])]
        larger = math.sqrt(count / (count - 1))
        values.append(value + len(sources) * larger * (up - down) / (2 * step))
    row = by_part(relative_foreground_sensitivity(noisy))["RFS"]
    assert (row.low, row.high) == pytest.approx(interval(values), abs=1e-6)
    assert row.low < row.value < row.high


def test_linearised_values_vary_as_the_mean_of_strata() -> None:
    """The variance of a weighted mean of strata's means, by the textbook: sum of w^2 s^2 / m."""
    rng = np.random.default_rng(5)
    strata, slopes = np.repeat([0, 1, 2], (4, 10, 7)), np.array([0.5, 0.2, 0.3])
    x = rng.random(21)
    values = linearised(3.0, slopes, strata, x)
    assert values.mean() == pytest.approx(3.0)
    textbook = sum(
        w**2 * x[strata == s].var(ddof=1) / (strata == s).sum() for s, w in enumerate(slopes)
    )
    assert (values**2 - 9).sum() - 2 * 3 * (values - 3).sum() == pytest.approx(21**2 * textbook)
    alone = linearised(1.0, [1.0, 1.0], np.array([0, 1, 1]), [0.3, 0.1, 0.5])
    assert alone[0] == 1.0  # a stratum of one says nothing of how it varies


def test_ablation_drops(noisy: pd.DataFrame) -> None:
    table = damaged(noisy, [2, 30, 31, 80])
    right: dict[str, dict[str, bool]] = {}
    for row in table.to_dict("records"):
        if row["status"] == "":
            own = right.setdefault(row["variant"], {})
            own[row["source"]] = row["predicted"] == row["true"]
    found = by_part(ablation_drops(table))
    assert list(found) == ["clean", "grey", "grey, drop", "box", "box, drop", "tile", "tile, drop"]
    for name in ("clean", "grey", "box", "tile"):
        hits, count = sum(right[name].values()), len(right[name])
        assert found[name].value == pytest.approx(hits / count)
        is_interval(found[name], rate_interval(hits, count))
        if name != "clean":
            both = [s for s in right["clean"] if s in right[name]]
            pairs = [[float(right[v][s]) for s in both] for v in ("clean", name)]
            row = found[f"{name}, drop"]
            assert row.value == pytest.approx(np.subtract(*pairs).mean())
            assert row.images == len(both)
            is_interval(row, paired_interval(*pairs))


def test_no_noise_is_no_rfs(noisy: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="expected photos with noise on the object and behind it"):
        relative_foreground_sensitivity(noisy[noisy["variant"] != "noisy_bg"])


# verdicts


def test_errors_that_the_background_drove(birds: pd.DataFrame) -> None:
    rng = np.random.default_rng(6)
    verdicts = []
    for row in birds.to_dict("records"):
        wrong = row["predicted"] != row["true"]
        said = ["FG-Er", "BG-Er", "Fine-Er", None] if wrong else ["FG-Co", "BG-Co", None]
        verdicts.append(said[rng.integers(len(said))])
    table = birds.assign(energy_verdict=pd.Series(verdicts, dtype=object), energy_share=0.5)
    table["shapley-regions_verdict"] = pd.Series([None] * len(table), dtype=object)
    table = damaged(table, [0, 1, 2])
    found = background_errors(table, "group")
    assert found["rule"].unique().tolist() == ["energy", "shapley-regions"]
    for row in found.itertuples():
        errors = judged = background = images = 0
        for other in table.to_dict("records"):
            if other["status"] or row.part not in ("all", other["group"]):
                continue
            images += 1
            if other["predicted"] != other["true"]:
                verdict = other[f"{row.rule}_verdict"]
                errors += 1
                judged += verdict is not None
                background += verdict == "BG-Er"
        counts = (row.images, row.errors, row.judged, row.background)
        assert counts == (images, errors, judged, background)
        if judged:
            assert row.value == pytest.approx(background / judged)
            assert (row.low, row.high) == rate_interval(background, judged)
        else:
            assert math.isnan(row.value) and math.isnan(row.low)
    assert set(found["part"]) == {*GROUPS, "all"}
    assert background_errors(birds, "group").empty


# tables


MEASURES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "background_gap": background_gap,
    "challenge": challenge,
    "worst_group": worst_group,
    "relative_foreground_sensitivity": relative_foreground_sensitivity,
    "ablation_drops": ablation_drops,
    "background_errors": lambda table: background_errors(table, "variant"),
}


@pytest.mark.parametrize("name", MEASURES)
def test_tables_that_are_none(name: str) -> None:
    measure = MEASURES[name]
    row = {"source": "1", "variant": "original", "group": GROUPS[0], "true": 0, "predicted": 0}
    table = table_of([row])
    with pytest.raises(ValueError, match=r"table: expected predictions .* missing source$"):
        measure(table.drop(columns="source"))
    with pytest.raises(ValueError, match="at least one image that was measured, got none"):
        measure(table.assign(status="damaged"))
    if name != "challenge":
        gone = table.assign(variant=None, group=None)
        with pytest.raises(ValueError, match=r"table: expected (group|variant) of every measured"):
            measure(gone)


@pytest.mark.parametrize("right", [False, True])
def test_rfs_at_the_ends_has_no_interval(right: bool) -> None:
    """All wrong or all right, RFS is 0 and may be anything; accuracies are rates of photos."""
    rows = [
        {"source": f"{n}", "variant": v, "true": 1, "predicted": int(right)}
        for n in range(30)
        for v in ("noisy_fg", "noisy_bg")
    ]
    found = relative_foreground_sensitivity(table_of(rows)).set_index("part")
    assert found.loc["RFS", "value"] == 0 and found.loc["RFS", ["low", "high"]].isna().all()
    ends = rate_interval(30 * right, 30)
    assert tuple(found.loc["noisy object", ["low", "high"]]) == pytest.approx(ends)


def test_verdicts_of_one_photo_are_not_independent() -> None:
    rng = np.random.default_rng(8)
    driven = rng.random(40) < 0.5
    rows = [
        {"source": f"{n}", "variant": f"{k}", "true": 0, "predicted": 1}
        | {"energy_verdict": "BG-Er" if driven[n] else "FG-Er"}
        for n in range(40)
        for k in range(4)
    ]
    found = background_errors(table_of(rows), "variant").set_index("part")
    low, high = rate_interval(int(driven.sum()), 40)
    assert tuple(found.loc["0", ["low", "high"]]) == (low, high)
    whole = found.loc["all"]
    assert whole["judged"] == 160 and whole["value"] == pytest.approx(driven.mean())
    assert whole["high"] - whole["low"] > 0.9 * (high - low)


def test_images_of_one_photo_are_not_independent() -> None:
    """Three trials that agree are one photo: the interval is that of photos, not of images."""
    rng = np.random.default_rng(7)
    right = rng.random(30) < 0.6
    rows = [
        {"source": f"{n}", "variant": "original", "true": 1, "predicted": int(right[n])}
        for n in range(30)
        for _ in range(3)
    ]
    (row,) = background_gap(table_of(rows)).itertuples()
    low, high = rate_interval(int(right.sum()), 30)
    assert row.images == 90 and row.value == pytest.approx(right.mean())
    assert row.high - row.low > 0.9 * (high - low)
    exact = stats.binomtest(int(3 * right.sum()), 90).proportion_ci()
    assert row.high - row.low > 1.4 * (exact.high - exact.low)
