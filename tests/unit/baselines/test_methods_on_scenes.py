"""Methods on the embedded trained model: their maps lie on the objects that decide."""

from __future__ import annotations

import pytest
import torch

from cci_captum import CCI, ClusterEffects, ZeroShotClassifier, load_clip
from cci_captum.baselines import METHODS, Random
from cci_captum.benchmarks.localization import energy, pointing_game
from cci_captum.benchmarks.maps import raw_map
from cci_captum.benchmarks.scenes import Scene, SceneGenerator
from cci_captum.tiny import CLASS_NAMES, TEMPLATES

OPTIONS = {
    "cluster-lime": {"n_samples": 30},
    "cluster-kernelshap": {"n_samples": 30},
    "rise": {"n_masks": 50},
    "shapley-cci": {"n_samples": 44},
    "m2ib": {"n_samples": 3},
    "gated-cci": {"clusters": (6,)},
}
SCENES = 20
FEWER = {"atman": 6, "rise": 12}  # of those whose passes are many
BASELINES = [name for name in METHODS if name not in ("cci", "random", "ground-truth")]


def drawn(
    kind: str, seed: int, count: int = 40
) -> tuple[ZeroShotClassifier, list[Scene], torch.Tensor]:
    """Tiny's zero-shot classifier, fresh scenes of a kind, and its inputs for them."""
    model, preprocess, tokenizer, _ = load_clip("tiny")
    classifier = ZeroShotClassifier(model, tokenizer, CLASS_NAMES, TEMPLATES)
    scenes = SceneGenerator(seed=seed).scenes(range(count), kind=kind)
    normalize = preprocess.transforms[-1]  # type: ignore[attr-defined]
    return classifier, scenes, normalize(torch.stack([scene.image for scene in scenes]))


def explained(kind: str, seed: int) -> tuple[list[Scene], ClusterEffects]:
    """Twenty fresh scenes of a kind, and what tiny's zero-shot logits owe to their clusters."""
    classifier, scenes, inputs = drawn(kind, seed, count=20)
    return scenes, CCI(classifier).effects(inputs)


@pytest.fixture(scope="module")
def one_object() -> tuple[ZeroShotClassifier, list[Scene], torch.Tensor]:
    return drawn("one", seed=13, count=SCENES)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", BASELINES)
def test_baselines_beat_random(
    name: str, one_object: tuple[ZeroShotClassifier, list[Scene], torch.Tensor]
) -> None:
    """On average over scenes; RISE by its maximum alone, since its maps have no zero."""
    classifier, scenes, inputs = one_object
    count = FEWER.get(name, SCENES)
    scenes, inputs = scenes[:count], inputs[:count]
    masks = torch.stack([scene.masks[0] for scene in scenes])
    target = [scene.classes[0] for scene in scenes]
    method = METHODS[name]
    maps = raw_map(method(classifier, **OPTIONS.get(name, {})), inputs, target)
    chance = [Random(classifier, seed=seed).patch_map(inputs) for seed in range(10)]
    measures = [pointing_game] if name == "rise" else [pointing_game, energy]
    for measure in measures:
        expected = torch.stack([measure(random, masks) for random in chance]).mean()
        assert measure(maps, masks).mean() > expected


@pytest.mark.exhaustive
def test_maps_lie_on_the_object() -> None:
    """Chance is the object's share of the picture, under a quarter; CCI stands far above it."""
    scenes, effects = explained("one", seed=11)
    maps = effects.patch_map([scene.classes[0] for scene in scenes])
    area = sum(float(scene.foreground.double().mean()) for scene in scenes) / len(scenes)
    masks = torch.stack([scene.masks[0] for scene in scenes])
    assert area < 0.25
    assert energy(maps, masks).mean() > 0.5
    assert pointing_game(maps, masks).mean() > 0.7


@pytest.mark.exhaustive
def test_foils_point_elsewhere() -> None:
    """In scenes of two objects, each object's own map covers it better than the other's map."""
    scenes, effects = explained("two", seed=12)
    maps = [effects.patch_map([scene.classes[i] for scene in scenes]) for i in (0, 1)]
    masks = [torch.stack([scene.masks[j] for scene in scenes]) for j in (0, 1)]
    for own in (0, 1):
        own_share, other_share = (energy(maps[own], masks[j]).mean() for j in (own, 1 - own))
        assert own_share > 2 * other_share
