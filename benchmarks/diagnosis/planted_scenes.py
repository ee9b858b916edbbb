"""Scenes of which it is known what drives the models trained on them, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cci_captum._checks import check_choice
from cci_captum.tiny import BACKGROUND_NAMES, CLASS_NAMES, PLANTED_PAIRS

from ..scenes import Scene, SceneGenerator

MASKS = ("exact", "larger", "smaller", "half", "all")
"""Of the object: as it is; a patch of 8 pixels wider all around; narrower; its left half alone; or
of all objects of the scene."""

_PATCH = 8


class Planted(NamedTuple):
    """Scenes of one seed.

    Attributes:
        scenes: Of 96 x 96 pixels.
        conditions: Of each: "planted", a class of a pair on the pair's background; "off", on
            another; "unplanted", a class without a pair.
        kinds: Of each, "sufficient" or "conditional", that of the class's pair; "" without one.
        donors: Scenes of any class on any background, of another seed.
    """

    scenes: list[Scene]
    conditions: list[str]
    kinds: list[str]
    donors: list[Scene]


def planted(seed: int, n: int, *, artwork: str = "train", objects: str = "one") -> Planted:
    """Scenes to hold verdicts against: n of each pair, twice as many off it, 12 n of other classes.

    Args:
        seed: Of the scenes; those of different seeds have nothing in common.
        n: Scenes of each of the 12 planted pairs.
        artwork: "train" or "held-out".
        objects: "one" or "two"; the second is of another class, and no class of a pair.

    Example:
        >>> found = planted(1, 1)
        >>> {name: found.conditions.count(name) for name in dict.fromkeys(found.conditions)}
        {'planted': 12, 'off': 24, 'unplanted': 12}
    """
    check_choice("objects", objects, ("one", "two"))
    of_pairs = [pair.class_name for pair in PLANTED_PAIRS]
    others = [name for name in CLASS_NAMES if name not in of_pairs]
    names, behind, conditions, kinds = [], [], [], []
    for pair in PLANTED_PAIRS:
        elsewhere = [name for name in BACKGROUND_NAMES if name != pair.background_name]
        names += [pair.class_name] * (3 * n)
        behind += [pair.background_name] * n
        behind += [elsewhere[place % len(elsewhere)] for place in range(2 * n)]
        conditions += ["planted"] * n + ["off"] * (2 * n)
        kinds += [pair.kind] * (3 * n)
    for place in range(12 * n):
        names.append(others[place % len(others)])
        behind.append(BACKGROUND_NAMES[place // len(others) % len(BACKGROUND_NAMES)])
    conditions += ["unplanted"] * (12 * n)
    kinds += [""] * (12 * n)
    generator = SceneGenerator(96, artwork, seed, planted=PLANTED_PAIRS)
    scenes = generator.scenes(range(len(names)), class_name=names, background=behind, kind=objects)
    donors = SceneGenerator(96, artwork, seed + 500_000).scenes(range(64), kind="one")
    return Planted(scenes, conditions, kinds, donors)


def masks_of(scenes: Sequence[Scene], masks: str = "exact") -> Tensor:
    """(B, 96, 96) bool, the first object's pixels, as `MASKS` says."""
    check_choice("masks", masks, MASKS)
    if masks == "all":
        return torch.stack([scene.masks.any(dim=0) for scene in scenes])
    exact = torch.stack([scene.masks[0] for scene in scenes])
    if masks == "half":
        columns = torch.arange(exact.shape[2])
        weights = exact.sum(dim=1).double()
        middle = (weights * columns).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return exact & (columns <= middle[:, None])[:, None]
    if masks == "larger":
        return _grown(exact)
    if masks == "smaller":
        inner = ~_grown(~exact)
        return torch.where(inner.flatten(1).any(dim=1)[:, None, None], inner, exact)
    return exact


def _grown(masks: Tensor) -> Tensor:
    """Wider by a patch all around."""
    wide = F.max_pool2d(masks[:, None].float(), 2 * _PATCH + 1, stride=1, padding=_PATCH)
    return wide[:, 0] > 0
