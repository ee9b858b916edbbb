"""Pooled tables against plain loops, and on planted truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from cci_captum.benchmarks.comparison import Comparison
from cci_captum.benchmarks.comparison.titles import title
from cci_captum.benchmarks.statistics import holm, paired_interval, paired_p_value
from cci_captum.benchmarks.studies.choices import AS_IT_IS, Level, levels
from cci_captum.benchmarks.studies.report import against_all, changes, choices_page, leading_page
from cci_captum.benchmarks.studies.tables import (
    adjusted,
    alike,
    conditions_of,
    differences,
    joined,
    means,
)

METHODS = ("leader", "worse", "same", "random", "ground-truth")
FACTS = ("model", "objects")


def comparison(model: str, n: int = 40, seed: int = 0) -> Comparison:
    """ "worse" deletes 0.3 later and inserts 0.3 later than "leader"; "same" by chance alone."""
    rng = np.random.default_rng(seed)
    rows, maps = [], []
    for index in range(n):
        base = rng.uniform(0.3, 0.6)
        for method in METHODS:
            later = 0.3 if method in ("worse", "random") else 0.0
            noise = rng.normal(0, 0.02, 2)
            row = {"model": model, "index": index, "image": f"scene {index}", "method": method}
            row |= {"check": "", "protocol": "tokens", "forward_passes": 1, "seconds": 0.5}
            row |= {"deletion_top1": min(base + later + noise[0], 1), "energy": 0.5 + noise[1]}
            rows.append(row | {"insertion_top1": max(base - later + noise[1], 0)})
            values = np.arange(6.0) * (-1 if method == "worse" else 1)
            of_map = {"map": values, "map_height": 2, "map_width": 3}
            maps.append({"model": model, "index": index, "method": method, "check": "", **of_map})
    samples = pd.DataFrame({"index": range(n), "objects": ["one", "two"] * (n // 2)})
    results = pd.DataFrame(rows)
    errors = pd.DataFrame(columns=["index", "reason", "error"])
    return Comparison(
        results, results.head(0), errors, {}, maps=pd.DataFrame(maps), samples=samples
    )


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    return [comparison("a", seed=1), comparison("b", seed=2)]


@pytest.fixture(scope="module")
def rows(comparisons: list[Comparison]) -> pd.DataFrame:
    return joined(comparisons)


def test_joined_keeps_items_apart_and_pictures_together(rows: pd.DataFrame) -> None:
    assert rows["index"].nunique() == 80 and rows["photo"].nunique() == 40
    assert set(rows["objects"]) == {"one", "two"}
    found = conditions_of(rows, (*FACTS, "artwork"))
    assert list(found) == ["all", "model: a", "model: b", "objects: one", "objects: two"]
    assert [own["index"].nunique() for own in found.values()] == [80, 40, 40, 40, 40]


def test_differences_are_those_of_plain_loops(rows: pd.DataFrame) -> None:
    found = differences(rows, "leader").set_index(["measure", "method"])
    for measure, sign in (("deletion_top1", -1), ("insertion_top1", 1)):
        for other in METHODS[1:]:
            pairs = [
                (
                    float(own.loc[own["method"] == "leader", measure].iloc[0]),
                    float(own.loc[own["method"] == other, measure].iloc[0]),
                    own["photo"].iloc[0],
                )
                for _, own in rows.groupby("index")
            ]
            first, second, photos = zip(*pairs, strict=True)
            row = found.loc[(measure, other)]
            difference = sum(a - b for a, b, _ in pairs) / len(pairs)
            assert row["difference"] == pytest.approx(difference)
            assert row["gain"] == pytest.approx(sign * difference)
            low, high = paired_interval(first, second, photos, bounds=(0, 1))
            assert (row["low"], row["high"]) == pytest.approx((low, high))
            assert row["p"] == pytest.approx(paired_p_value(first, second, photos, bounds=(0, 1)))
            assert (row["n"], row["photos"]) == (80, 40)


def test_an_item_without_a_map_is_no_pair(rows: pd.DataFrame) -> None:
    without = rows[(rows["method"] != "worse") | (rows["index"] >= 10)]
    found = differences(without, "leader", others=["worse", "same"]).set_index("method")
    assert found.loc["worse", "n"].tolist() == [70, 70]
    assert found.loc["same", "n"].tolist() == [80, 80]


def test_planted_differences_are_found_and_others_are_not(rows: pd.DataFrame) -> None:
    found = adjusted(differences(rows, "leader"))
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p"]).tolist())
    verdicts = found.groupby("method")["verdict"].agg(set).to_dict()
    assert verdicts == {
        "worse": {"better"}, "random": {"better"}, "same": {""}, "ground-truth": {""},
    }  # fmt: skip
    behind = adjusted(differences(rows, "worse", others=["leader"]))
    assert set(behind["verdict"]) == {"worse"}


def test_means(rows: pd.DataFrame) -> None:
    found = means(rows, ["deletion_top1", "energy"]).set_index(["measure", "method"])
    for measure in ("deletion_top1", "energy"):
        values = rows.loc[rows["method"] == "same", measure]
        row = found.loc[(measure, "same")]
        assert row["mean"] == pytest.approx(values.mean()) and row["low"] < row["mean"]
        assert row["protocol"] == ("" if measure == "energy" else "tokens") and row["n"] == 80


def test_alike(comparisons: list[Comparison]) -> None:
    found = alike(comparisons, [("leader", "worse"), ("leader", "same")])
    assert found.tolist() == pytest.approx([-1, 1])


def test_finer_maps_are_compared_on_the_coarser_grid() -> None:
    """Each cell of the coarse map is four of the fine one; another has no map of an item."""
    coarse, rng = comparison("a", n=4), np.random.default_rng(0)
    maps = coarse.maps.copy()
    for place in maps.index[maps["method"] == "same"]:
        noise = rng.normal(0, 1, (2, 2, 3, 2))
        fine = np.arange(6.0).reshape(2, 1, 3, 1) + noise - noise.mean((1, 3), keepdims=True)
        maps.at[place, "map"] = fine.reshape(-1)
        maps.loc[place, ["map_height", "map_width"]] = 4, 6
    maps = maps[(maps["method"] != "worse") | (maps["index"] > 1)]
    fine = Comparison(coarse.results, coarse.curves, coarse.errors, {}, maps=maps)
    found = alike([fine], [("leader", "same"), ("same", "worse"), ("leader", "nothing")])
    assert found.tolist() == pytest.approx([1, -1, float("nan")], nan_ok=True)


def test_unknown_methods(rows: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"method: expected one of leader, .*, got 'best'"):
        differences(rows, "best")


def test_a_page_says_who_leads(comparisons, rows: pd.DataFrame) -> None:
    conditions = conditions_of(rows, FACTS)
    found = against_all(conditions, ["leader"])
    assert set(found["leader"]["all"]["method"]) == {"worse", "same", "ground-truth"}
    page = leading_page(rows, conditions, found, comparisons, about="`cci-captum study`")
    assert "| all | 80 | 40 | 2 |" in page
    assert "| all | 2 of 4 | 0 of 2 |" in page  # worse on both areas, of worse and same; the mask
    assert "| tokens, insertion top-1 \u2191 | same, Ground truth |" in page
    head = page.index("| areas ahead of | all | model: ")
    ahead = " | ".join(["2 of 2"] * len(conditions))
    assert f"| worse | {ahead} |" in page[head:]
    assert f"| same | {ahead.replace('2 of', '0 of')} |" in page[head:]
    row = next(line for line in page.splitlines() if line.startswith("| worse | **"))
    assert row.count("**") == 4


def test_a_page_says_what_is_missing(comparisons) -> None:
    """A leader without maps by one model, a rival with maps of some images, an image unread."""
    first, second = comparisons
    second = replace(second, results=second.results[second.results["method"] != "leader"])
    some = (first.results["method"] != "worse") | (first.results["index"] < 10)
    why = pd.DataFrame([(40, "no image", "no image: a.png")], columns=["index", "reason", "error"])
    columns = ["index", "image", "method", "check", "error"]
    failed = [(i, f"{i}", "leader", "", "TypeError: no patches") for i in range(40)]
    both = [
        replace(first, results=first.results[some], errors=why),
        replace(second, failures=pd.DataFrame(failed, columns=columns)),
    ]
    rows = joined(both)
    conditions = conditions_of(rows, FACTS)
    found = against_all(conditions, ["leader"])
    assert found["leader"]["model: b"].empty
    keyed = found["leader"]["all"].set_index(["method", "measure"])
    assert keyed.loc[("worse", "deletion_top1"), "n"] == 10
    page = leading_page(rows, conditions, found, both, about="a run")
    assert "| leader (40 of 80 items) | 1 | 0.500 |" in page
    assert "| worse (50 of 80 items) |" in page and "| model: b |  |  |" in page
    assert "| a | no image | 1 | a.png |" in page
    assert "| b | leader |  | 40 | TypeError: no patches |" in page
    alone = {name: own[own["method"] == "leader"] for name, own in conditions.items()}
    assert against_all(alone, ["leader"])["leader"]["all"].empty


def test_columns_are_in_the_order_of_the_facts(comparisons, rows: pd.DataFrame) -> None:
    samples = comparisons[0].samples.assign(z=1, a=2, m=3)
    found = joined([replace(comparisons[0], samples=samples)])
    assert [name for name in found if name in samples and name != "index"] == [*samples][1:]


def test_a_page_says_what_a_choice_changes(comparisons, rows: pd.DataFrame) -> None:
    renamed = rows.assign(method=rows["method"].replace({"leader": AS_IT_IS, "worse": "x: y"}))
    chosen = [Level("x", "y", lambda f: f)]
    changed = changes(renamed, chosen)
    keyed = changed.set_index("measure")
    assert keyed.loc["deletion_top1", "difference"] == pytest.approx(0.3, abs=0.03)
    assert keyed.loc["deletion_top1", "low"] < 0.3 < keyed.loc["deletion_top1", "high"]
    assert keyed["gain"].lt(0).all() and keyed["verdict"].eq("worse").all()
    similar = pd.Series({(AS_IT_IS, "x: y"): -1.0})
    page = choices_page(
        renamed, conditions_of(renamed, FACTS), changed, similar, chosen, comparisons, about="run"
    )
    line = next(line for line in page.splitlines() if line.startswith("| x | y |"))
    assert line.count("**") == 4 and line.endswith("| -1.00 |")


def test_every_level_is_named_once_and_can_be_made() -> None:
    found = levels(12, (0.5,) * 3, (0.25,) * 3)
    names = [(level.base, level.name) for level in found]
    assert len(set(names)) == len(names)
    assert not {level.name for level in found} & {level.base for level in found}
    assert sum(level.choice == "tokens clustered" for level in found) == 13
    assert all(callable(level.method) for level in found)


def test_sanity_checks_are_of_all_models(comparisons: list[Comparison]) -> None:
    """Items of two models have the same numbers."""
    checked = []
    for each, similarity in zip(comparisons, (0.75, 0.25), strict=True):
        own = each.results.assign(check="random-label", similarity=similarity)
        own.loc[own.index[::2], "similarity"] += 0.125 * np.resize([1, -1], len(own.index[::2]))
        checked.append(replace(each, results=pd.concat([each.results, own], ignore_index=True)))
    pooled = joined(checked, "random-label")
    assert pooled["index"].nunique() == 80 and len(joined(checked)) == len(pooled)
    conditions = conditions_of(joined(checked), ())
    found = against_all(conditions, ["leader"])
    page = leading_page(joined(checked), conditions, found, checked, about="")
    section = page[page.index("## Sanity checks") :]
    for method in METHODS:
        expected = pooled.loc[pooled["method"] == method, "similarity"].mean()
        (line,) = [line for line in section.splitlines() if line.startswith(f"| {title(method)} |")]
        assert line.split(" | ")[1].startswith(f"{expected:.3f} (") and "80 items" in line
    assert "## Sanity checks" not in leading_page(
        joined(comparisons), conditions, found, comparisons, about=""
    )
