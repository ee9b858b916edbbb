"""Rules: shares by plain loops, Otsu's cut by brute force, texts that read back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu

from cci_captum.diagnosis import Energy, PaperIoU, ShapleyRegions, find_rule
from cci_captum.diagnosis.rules import RULES, THRESHOLDS, find_rules


def evidence(maps: Any, inside: Any, seen: Any = None) -> Any:
    maps, inside = torch.as_tensor(maps), torch.as_tensor(inside, dtype=torch.float64)
    seen = torch.ones_like(inside) if seen is None else torch.as_tensor(seen)
    return SimpleNamespace(maps=maps, object_shares=inside, seen_shares=seen)


@pytest.fixture
def drawn() -> Any:
    """Maps with both signs and ties, objects that cover parts of cells, cells half in the image."""
    rng = np.random.default_rng(0)
    maps = np.round(rng.normal(size=(6, 5, 4)), 1)
    seen = np.ones((6, 5, 4))
    seen[:, -1] = 0.5
    return maps, rng.random((6, 5, 4)).round(2) * seen, seen


def test_energy_is_the_background_share_of_what_is_positive(drawn: Any) -> None:
    maps, inside, seen = drawn
    found = Energy().shares(evidence(maps, inside, seen)).numpy()
    for image in range(6):
        object_ = background = 0.0
        for value, own, whole in zip(
            maps[image].ravel(), inside[image].ravel(), seen[image].ravel(), strict=True
        ):
            object_ += max(value, 0) * own
            background += max(value, 0) * (whole - own)
        assert found[image] == pytest.approx(background / (object_ + background), abs=1e-12)


@pytest.mark.parametrize("cut", ["half", "otsu"])
def test_iou_of_the_binary_map_with_both_masks(drawn: Any, cut: Any) -> None:
    maps, inside, seen = drawn
    found = PaperIoU(cut=cut).shares(evidence(maps, inside, seen)).numpy()
    for image in range(6):
        positive = np.maximum(maps[image], 0)
        level = positive.max() / 2 if cut == "half" else by_brute_force(positive.ravel())
        taken = (positive >= level) & (positive > 0)
        ious = []
        for part in (inside[image], seen[image] - inside[image]):
            common = part[taken].sum()
            ious.append(common / (seen[image][taken].sum() + part.sum() - common))
        assert found[image] == pytest.approx(ious[1] / (ious[0] + ious[1]), abs=1e-12)


def by_brute_force(values: np.ndarray) -> float:
    """The least value of the upper class, of all cuts between distinct values."""
    best, level = -1.0, 0.0
    for cut in np.unique(values)[1:]:
        low, high = values[values < cut], values[values >= cut]
        between = len(low) * len(high) * (low.mean() - high.mean()) ** 2
        if between > best + 1e-12:
            best, level = between, cut
    return float(level)


def test_otsu_is_that_of_scikit_image() -> None:
    """Which says below what: its classes are the same, of values that are all bins."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = rng.integers(0, 256, 60).astype(float) * (rng.random(60) < 0.7)
        theirs = values > threshold_otsu(values.astype(np.uint8))
        inside = rng.random(60)
        found = PaperIoU(cut="otsu").shares(evidence(values[None, None], inside[None, None]))
        ious = [
            part[theirs].sum() / (theirs.sum() + part.sum() - part[theirs].sum())
            for part in (inside, 1 - inside)
        ]
        assert float(found) == pytest.approx(ious[1] / sum(ious), abs=1e-9)


def test_a_map_without_positive_values_says_nothing() -> None:
    given = evidence([[[-1.0, 0.0]]], [[[1.0, 0.0]]])
    for rule in (Energy(), PaperIoU(), PaperIoU(cut="otsu")):
        assert bool(rule.shares(given).isnan().all())


def test_a_map_on_one_side_alone_has_a_share_of_0_or_1() -> None:
    for maps, share in (([[[2.0, 0.0]]], 0.0), ([[[0.0, 3.0]]], 1.0)):
        for rule in (Energy(), PaperIoU(), PaperIoU(cut="otsu")):
            assert float(rule.shares(evidence(maps, [[[1.0, 0.0]]]))) == share


def test_shapley_shares() -> None:
    values = torch.tensor([[[3.0, 1.0]], [[3.0, -1.0]], [[-1.0, 1.0]], [[0.0, 0.0]], [[0.0, 2.0]]])

    def shapley_values(targets: Any, by: str, score: str) -> torch.Tensor:
        assert (targets, by, score) == ([0, 1, 2, 3, 4], "hidden", "margin")
        return values

    given: Any = SimpleNamespace(
        effects=SimpleNamespace(shapley_values=shapley_values), targets=[0, 1, 2, 3, 4]
    )
    found = ShapleyRegions(score="margin", by="hidden").shares(given)
    assert found[:3].tolist() == [0.25, -0.25, 0.5]
    assert bool(found[3].isnan()) and float(found[4]) == 1


@pytest.mark.parametrize(
    "text",
    [
        *RULES,
        "shapley-regions(score=margin,by=hidden)",
        "shapley-regions(threshold=0.4)",
        "paper-iou(cut=otsu)",
        "energy(threshold=0.25)",
    ],
)
def test_texts_read_back(text: str) -> None:
    rule = find_rule(text)
    assert str(rule) == text and find_rule(str(rule)) == rule and find_rule(rule) is rule
    assert find_rule(text.replace(",", " , ").replace("=", " = ")) == rule
    assert rule.measured.measured == rule.measured
    assert "threshold" not in str(rule.measured)


def test_limits_and_costs() -> None:
    assert set(THRESHOLDS) == {
        (by, score)
        for by in ("hidden", "replaced", "both")
        for score in ("centred", "margin", "log-probability", "logit")
    }
    assert find_rule("shapley-regions(threshold=0.4)").limit == 0.4
    assert find_rule("shapley-regions").limit == THRESHOLDS["both", "centred"] == 0.25
    assert [find_rule(f"shapley-regions(by={by})").cost(3) for by in ("hidden", "replaced")] == [
        "3",
        "7",
    ]
    assert find_rule("shapley-regions").cost(3) == "9"
    assert find_rule("paper-iou").limit == 0.5
    assert not find_rule("shapley-regions(by=hidden)").needs_donors


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("iou", "rule: expected one of shapley-regions, energy, paper-iou, got 'iou'"),
        ("energy(cut=otsu)", r"rule: expected an option of energy \(threshold\), got 'cut'"),
        ("paper-iou(cut=mean)", "cut of paper-iou: expected one of half, otsu, got 'mean'"),
        ("shapley-regions(by=both,by=hidden)", "rule: expected each option once"),
        ("shapley-regions(threshold=2)", "threshold of shapley-regions: expected a share from -1"),
        ("energy(threshold=none)", "threshold of energy: expected a share from -1 to 1"),
        ("energy(", "rule: expected an option at character 8"),
    ],
)
def test_texts_that_are_none(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        find_rule(text)


def test_rules_are_several_and_each_once() -> None:
    with pytest.raises(TypeError, match="rules: expected a sequence of them, got 'energy' alone"):
        find_rules("energy")
    with pytest.raises(ValueError, match="rules: expected at least one, each once"):
        find_rules(["energy", Energy()])
    with pytest.raises(TypeError, match="rules: expected names or rules, got int"):
        find_rules([3])  # type: ignore[list-item]
