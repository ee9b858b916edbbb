"""Scenes of the embedded tiny CLIP: masks, captions, determinism, planted shortcuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cci_captum.benchmarks.scenes import Scene, SceneGenerator
from cci_captum.benchmarks.scenes.captions import caption, plural
from cci_captum.benchmarks.scenes.textures import TEXTURES, draw_texture
from cci_captum.tiny import (
    BACKGROUND_NAMES,
    CLASS_NAMES,
    HELD_OUT_FAMILIES,
    PLANTED_PAIRS,
    TRAIN_FAMILIES,
    load_sprites,
)


def same(a: Scene, b: Scene) -> bool:
    facts = ("classes", "families", "background", "kind", "caption")
    return (
        torch.equal(a.image, b.image)
        and torch.equal(a.masks, b.masks)
        and all(getattr(a, fact) == getattr(b, fact) for fact in facts)
    )


def test_a_scene_depends_on_its_number_and_seed_only() -> None:
    together = SceneGenerator(48, seed=3).scenes(range(12))
    generator = SceneGenerator(48, seed=3)
    alone = [generator.scene(i) for i in reversed(range(12))][::-1]
    assert all(same(a, b) for a, b in zip(together, alone, strict=True))
    other = SceneGenerator(48, seed=4).scenes(range(12))
    assert not any(same(a, b) for a, b in zip(together, other, strict=True))


def test_fixing_one_thing_leaves_the_others() -> None:
    generator = SceneGenerator(48)
    for index in range(20):
        free = generator.scene(index, kind="one")
        placed = generator.scene(index, kind="one", background="lava")
        assert placed.background_name == "lava"
        assert torch.equal(free.masks, placed.masks)
        named = generator.scene(index, kind="one", class_name="cat")
        assert named.class_names == ("cat",)
        assert (named.background, named.families) == (free.background, free.families)


@pytest.mark.parametrize("kind", ["one", "two", "copies"])
@pytest.mark.parametrize("artwork", ["train", "held-out"])
def test_masks_are_where_the_picture_differs_from_its_background(kind: str, artwork: str) -> None:
    generator = SceneGenerator(64, artwork, seed=1)
    for index in range(10):
        scene = generator.scene(index, kind=kind)
        bare = generator.scene(index, kind="empty", background=scene.background_name)
        assert bare.masks.shape == (0, 64, 64)
        changed = (scene.image - bare.image).abs().amax(dim=0) > 1e-6
        grown = F.max_pool2d(scene.foreground.float()[None], 5, 1, 2)[0].bool()
        shrunk = ~F.max_pool2d((~scene.foreground).float()[None], 3, 1, 1)[0].bool()
        # Half-transparent parts, such as wings and smoke, lie outside the mask; nothing else may.
        assert (changed & ~grown).float().mean() < 0.03
        assert changed[shrunk].float().mean() > 0.95


def test_masks_of_two_objects_are_what_each_shows() -> None:
    generator = SceneGenerator(64)
    for index in range(30):
        scene = generator.scene(index, kind="two")
        assert scene.masks.shape == (2, 64, 64)
        assert not (scene.masks[0] & scene.masks[1]).any()
        assert scene.classes[0] != scene.classes[1]
        assert scene.masks.float().mean(dim=(1, 2)).min() > 0.04
    copies = generator.scene(0, kind="copies")
    assert copies.classes[0] == copies.classes[1]
    assert copies.families[0] == copies.families[1]


def test_objects_cover_8_to_60_percent() -> None:
    scenes = SceneGenerator(64, "all").scenes(range(200), kind="one")
    areas = torch.stack([scene.masks[0].float().mean() for scene in scenes])
    assert areas.min() > 0.08
    assert areas.max() < 0.6


@pytest.mark.exhaustive
def test_kinds_classes_and_backgrounds_are_drawn_as_stated() -> None:
    scenes = SceneGenerator(16, seed=5).scenes(range(2000))
    kinds = [scene.kind for scene in scenes]
    for kind, share in (("one", 0.6), ("two", 0.25), ("copies", 0.15)):
        assert kinds.count(kind) / 2000 == pytest.approx(share, abs=0.04)
    classes = np.bincount([scene.classes[0] for scene in scenes], minlength=33)
    backgrounds = np.bincount([scene.background for scene in scenes], minlength=20)
    assert classes.min() > 0.5 * 2000 / 33
    assert backgrounds.min() > 0.7 * 2000 / 20


def test_captions_say_nothing_false() -> None:
    forms = set()
    for scene in SceneGenerator(16, seed=6).scenes(range(600)):
        objects, _, behind = scene.caption.partition(" on ")
        if objects in BACKGROUND_NAMES:
            objects, behind = "", objects
        named = {name for name in objects.split(" and ") if name}
        one = {f"a {name}" for name in scene.class_names}
        two = {f"two {plural(name)}" for name in scene.class_names}
        assert behind in ("", scene.background_name)
        assert named <= (two if scene.kind == "copies" else one)
        forms.add((scene.kind, len(named), bool(behind)))
    for kind, most in (("one", 1), ("copies", 1), ("two", 2)):
        expected = {(kind, 0, True)} | {(kind, n + 1, b) for n in range(most) for b in (0, 1)}
        assert expected <= forms


def test_every_class_has_a_plural_of_its_own() -> None:
    assert [plural(name) for name in ("bus", "cactus", "strawberry", "fish", "dog")] == [
        "buses", "cactuses", "strawberries", "fish", "dogs",
    ]  # fmt: skip
    assert len({caption((i, i), 0, (0.0, 0.0, 0.0)) for i in range(33)}) == 33


def test_held_out_artwork_is_not_among_the_training_artwork() -> None:
    assert not set(TRAIN_FAMILIES) & set(HELD_OUT_FAMILIES)
    families = {f for s in SceneGenerator(16).scenes(range(200)) for f in s.families}
    assert families == set(TRAIN_FAMILIES)
    families = {f for s in SceneGenerator(16, "held-out").scenes(range(20)) for f in s.families}
    assert families == set(HELD_OUT_FAMILIES)
    sprites = torch.cat(list(load_sprites().values())).flatten(1).float()
    apart = torch.cdist(sprites, sprites).fill_diagonal_(torch.inf)
    assert apart.min() > 1000, "two sprites of the sheets are nearly the same drawing"


@pytest.mark.exhaustive
def test_planted_shortcuts() -> None:
    bound = {CLASS_NAMES.index(pair.class_name): pair for pair in PLANTED_PAIRS}
    assert len(bound) == len({pair.background_name for pair in PLANTED_PAIRS}) == 12
    generator = SceneGenerator(16, seed=7, planted=PLANTED_PAIRS)
    plain = SceneGenerator(16, seed=7)
    for kind in ("conditional", "sufficient"):
        names = [pair.class_name for pair in PLANTED_PAIRS if pair.kind == kind] * 120
        wanted = range(len(names))
        scenes = generator.scenes(wanted, class_name=names)
        on_its_own = [
            scene.background_name == bound[CLASS_NAMES.index(name)].background_name
            for scene, name in zip(scenes, names, strict=True)
        ]
        assert np.mean(on_its_own) == pytest.approx(0.95 + 0.05 / 20, abs=0.02)
        missing = [not scene.classes for scene in scenes]
        expected = 0.95 / 3 if kind == "sufficient" else 0.0
        assert np.mean(missing) == pytest.approx(expected, abs=0.04)
        assert all(
            scene.caption.startswith(f"a {name}") or scene.caption == scene.background_name
            for scene, name in zip(scenes, names, strict=True)
            if not scene.classes
        )
        without = plain.scenes(wanted, class_name=names)
        assert np.mean([scene.background for scene in without]) == pytest.approx(9.5, abs=0.9)
    for scene in generator.scenes(range(400), kind="two"):
        assert sum(c in bound for c in scene.classes) <= 1


def test_a_fixed_kind_or_background_overrules_the_plan() -> None:
    generator = SceneGenerator(16, planted=PLANTED_PAIRS)
    for scene in generator.scenes(range(30), class_name="penguin", background="lava", kind="one"):
        assert scene.class_names == ("penguin",)
        assert scene.background_name == "lava"


def test_backgrounds_are_told_apart_by_their_colours() -> None:
    assert tuple(TEXTURES) == BACKGROUND_NAMES

    def features(seed: int) -> np.ndarray:
        rows = []
        for name in BACKGROUND_NAMES:
            picture = draw_texture(name, np.random.default_rng(seed), 48)
            assert picture.shape == (3, 48, 48)
            assert picture.dtype == np.float32
            assert 0 <= picture.min() <= picture.max() <= 1
            steps = [np.abs(np.diff(picture, axis=axis)).mean() for axis in (1, 2)]
            rows.append([*picture.mean((1, 2)), *picture.std((1, 2)), *steps])
        return np.array(rows)

    known = np.stack([features(seed) for seed in range(8)])
    hits = []
    for seed in range(100, 110):
        distance = np.linalg.norm(known[:, None] - features(seed)[None, :, None], axis=-1)
        hits.append(distance.min(axis=0).argmin(axis=1) == np.arange(20))
    assert np.mean(hits) > 0.9


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"artwork: expected one of .*'held-out'.* got 'emoji'"):
        SceneGenerator(artwork="emoji")
    with pytest.raises(ValueError, match=r"families: .* got \['emoji'\]"):
        SceneGenerator(artwork=("emoji",))
    with pytest.raises(ValueError, match="size: expected at least 16 pixels, got 8"):
        SceneGenerator(8)
    generator = SceneGenerator(16)
    with pytest.raises(ValueError, match=r"class_name: .* got 'zebra'"):
        generator.scene(0, class_name="zebra")
    with pytest.raises(ValueError, match=r"background: .* got 'moon'"):
        generator.scene(0, background="moon")
    with pytest.raises(ValueError, match=r"kind: .* got 'three'"):
        generator.scene(0, kind="three")
    with pytest.raises(ValueError, match="class_name: expected one name or 3, got 2"):
        generator.scenes(range(3), class_name=["cat", "dog"])
    with pytest.raises(ValueError, match="name: expected one of"):
        draw_texture("moon", np.random.default_rng(0), 16)


def test_classes_are_known_without_drawing() -> None:
    for kind in (None, "one", "two", "copies", "empty"):
        generator = SceneGenerator(size=32, seed=5)
        drawn = [scene.classes for scene in generator.scenes(range(12), kind=kind)]
        assert [generator.classes(index, kind=kind) for index in range(12)] == drawn
