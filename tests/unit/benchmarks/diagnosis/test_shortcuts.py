"""Pairs of class and group: means, Welch's intervals, and what is surest first."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cci_captum.benchmarks.diagnosis import shortcuts
from cci_captum.benchmarks.diagnosis.shortcuts import SHORTCUTS


def table(seed: int = 0, n: int = 400) -> pd.DataFrame:
    """Cows on grass have a larger share, all else is alike."""
    rng = np.random.default_rng(seed)
    names, grounds = rng.choice(["cow", "cat", "dog"], n), rng.choice(["grass", "sand", "sky"], n)
    shares = rng.normal(0.1, 0.1, n) + 0.4 * ((names == "cow") & (grounds == "grass"))
    return pd.DataFrame(
        {
            "image": [f"{place}.png" for place in range(n)],
            "true": rng.integers(0, 2, n),
            "predicted": 0,
            "predicted_name": names,
            "background": grounds,
            "energy_share": shares,
        }
    )


def test_every_number_of_a_pair() -> None:
    """By plain numpy, and Welch's interval by its formula."""
    given = table()
    found = shortcuts(given, "energy").set_index(["class", "group"])
    assert list(found.reset_index().columns) == list(SHORTCUTS)
    assert len(found) == 9
    for (name, ground), row in found.iterrows():
        own = given[given["predicted_name"] == name]
        here, away = own[own["background"] == ground], own[own["background"] != ground]
        a, b = here["energy_share"].to_numpy(), away["energy_share"].to_numpy()
        assert (row["images"], row["elsewhere"]) == (len(a), len(b))
        assert row["share"] == pytest.approx(a.mean(), abs=1e-12)
        assert row["difference"] == pytest.approx(a.mean() - b.mean(), abs=1e-12)
        va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
        freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
        reach = stats.t.ppf(0.975, freedom) * np.sqrt(va + vb)
        assert row["low"] == pytest.approx(row["difference"] - reach, abs=1e-9)
        assert row["high"] == pytest.approx(row["difference"] + reach, abs=1e-9)
        assert row["right"] == pytest.approx((here["true"] == 0).mean())
        assert row["right_elsewhere"] == pytest.approx((away["true"] == 0).mean())
        first = here.sort_values("energy_share", ascending=False)["image"].head(3).tolist()
        assert row["pictures"] == first


def test_what_is_planted_comes_first_and_is_sure() -> None:
    found = shortcuts(table(), "energy")
    assert found.loc[0, ["class", "group"]].tolist() == ["cow", "grass"]
    assert found["low"].is_monotonic_decreasing
    assert found["p"][0] < 1e-6
    raw = shortcuts(table(), "energy", level=0.5)
    assert raw["low"][0] > found["low"][0]


def test_holm_over_all_pairs() -> None:
    given = table()
    found = shortcuts(given, "energy")
    raw = []
    for _, row in found.iterrows():
        own = given[given["predicted_name"] == row["class"]]
        at = own["background"] == row["group"]
        shares = own["energy_share"]
        raw.append(stats.ttest_ind(shares[at], shares[~at], equal_var=False).pvalue)
    order = np.argsort(raw)
    stepped = np.maximum.accumulate([(9 - k) * raw[place] for k, place in enumerate(order)])
    expected = np.empty(9)
    expected[order] = np.minimum(stepped, 1)
    assert found["p"].to_numpy() == pytest.approx(expected, rel=1e-9)


def test_images_of_one_photo_count_once() -> None:
    """A photo many times over makes nothing surer."""
    given = table(n=60).assign(source=lambda frame: frame["image"])
    twice = pd.concat([given, given], ignore_index=True)
    once, again = (shortcuts(each, "energy") for each in (given, twice))
    for column in ("class", "group"):
        assert again[column].tolist() == once[column].tolist()
    for column in ("low", "high", "difference"):
        assert again[column].to_numpy() == pytest.approx(once[column], abs=1e-12, nan_ok=True)
    assert again["images"].tolist() == (2 * once["images"]).tolist()


def test_too_few_images_have_no_interval_and_come_last() -> None:
    given = table(n=40)
    lone = given.iloc[[0]].assign(predicted_name="bee", energy_share=1.0)
    found = shortcuts(pd.concat([given, lone], ignore_index=True), "energy")
    assert found["class"].iloc[-1] == "bee"
    assert found.iloc[-1][["low", "high", "p", "share_elsewhere"]].isna().all()
    assert found["p"].notna().sum() == len(found) - found["low"].isna().sum()


def test_images_without_a_share_or_a_group_are_left_out() -> None:
    given = table(n=60)
    given.loc[:9, "energy_share"] = np.nan
    given.loc[10:14, "background"] = None
    assert shortcuts(given, "energy")["images"].sum() == 45


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda t: t, {"by": "colour"}, "table: expected a column 'colour', got image, true"),
        (lambda t: t, {"rule": "paper-iou"}, "table: expected a column 'paper-iou_share'"),
        (lambda t: t.assign(energy_share=np.nan), {}, "table: expected images with a energy_share"),
        (lambda t: t, {"pictures": 0}, "pictures: "),
    ],
)
def test_what_cannot_be(change, options, said) -> None:
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        shortcuts(change(table(n=20)), **{"rule": "energy", **options})


def test_classes_of_one_name_are_two() -> None:
    """ "crane" is a bird and a machine in ImageNet."""
    bird, machine = table(1), table(2).assign(predicted=1)
    both = pd.concat([bird, machine], ignore_index=True)
    found = shortcuts(both, "energy")
    assert len(found) == 18
    own = shortcuts(bird, "energy").iloc[0]
    same = found[(found["class"] == own["class"]) & (found["group"] == own["group"])]
    assert own["images"] in same["images"].tolist() and own["low"] in same["low"].tolist()
