"""CCI on the embedded trained model: its maps lie on the objects that decide."""

from __future__ import annotations

import torch

from cci_captum import CCI, ClusterEffects, ZeroShotClassifier, load_clip
from cci_captum.benchmarks.localization import energy, pointing_game
from cci_captum.benchmarks.tiny_clip.scenes import Scene, SceneGenerator
from cci_captum.tiny import CLASS_NAMES, TEMPLATES


def explained(kind: str, seed: int) -> tuple[list[Scene], ClusterEffects]:
    """Forty fresh scenes of a kind, and what tiny's zero-shot logits owe to their clusters."""
    model, preprocess, tokenizer, _ = load_clip("tiny")
    classifier = ZeroShotClassifier(model, tokenizer, CLASS_NAMES, TEMPLATES)
    scenes = SceneGenerator(seed=seed).scenes(range(40), kind=kind)
    normalize = preprocess.transforms[-1]  # type: ignore[attr-defined]
    return scenes, CCI(classifier).effects(normalize(torch.stack([s.image for s in scenes])))


def test_maps_lie_on_the_object() -> None:
    """Chance is the object's share of the picture, under a quarter; CCI stands far above it."""
    scenes, effects = explained("one", seed=11)
    maps = effects.patch_map([scene.classes[0] for scene in scenes])
    area = sum(float(scene.foreground.double().mean()) for scene in scenes) / len(scenes)
    masks = torch.stack([scene.masks[0] for scene in scenes])
    assert area < 0.25
    assert energy(maps, masks).mean() > 0.5
    assert pointing_game(maps, masks).mean() > 0.7


def test_foils_point_elsewhere() -> None:
    """In scenes of two objects, each object's own map covers it better than the other's map."""
    scenes, effects = explained("two", seed=12)
    maps = [effects.patch_map([scene.classes[i] for scene in scenes]) for i in (0, 1)]
    masks = [torch.stack([scene.masks[j] for scene in scenes]) for j in (0, 1)]
    for own in (0, 1):
        own_share, other_share = (energy(maps[own], masks[j]).mean() for j in (own, 1 - own))
        assert own_share > 2 * other_share
