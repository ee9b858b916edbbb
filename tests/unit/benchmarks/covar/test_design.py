"""What a design holds, at full size, before an image is made."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from cci_captum.benchmarks.covar import (
    CONTROLS,
    FACTORS,
    TRANSFORMATIONS,
    Design,
    dry_run,
    transformations,
)
from cci_captum.benchmarks.covar.design import folder_of

CLASSES = [f"class {number}" for number in range(33)]
BACKGROUNDS = [f"scene {number}" for number in range(20)]
PER_FACTOR = {  # FACTS: four scales, two viewpoints, one of each other
    "original": 1,
    "scale": 4,
    "viewpoint": 2,
    "horizontal flip": 1,
    "vertical flip": 1,
    "translation": 1,
    "crop": 1,
    "rotation": 1,
}


@pytest.fixture(scope="module")
def full() -> Design:
    return Design.of(CLASSES, 50, BACKGROUNDS)


def test_a_dry_run_at_full_size(full: Design) -> None:
    found = dry_run(full)
    photos = 33 * 50
    assert found.photos == photos
    made = {name: 33_000 * count for name, count in PER_FACTOR.items()}
    assert sum(made.values()) == 396_000
    assert found.by_factor == {"photo": photos, **made}
    assert found.images == 396_000 + photos * 5
    assert found.by_control == {"": 396_000 + photos, **dict.fromkeys(CONTROLS, photos)}
    assert found.by_class == dict.fromkeys(CLASSES, 50 * (20 * 12 + 5))
    assert found.by_background == {"own": photos, **dict.fromkeys(BACKGROUNDS, photos * 12)}
    assert set(found.by_level.values()) == {photos, 33_000} and len(found.by_level) == 13
    assert found.bytes == 404_250 * (2 * 224 * 224 + 600)
    assert "404,250 images" in found.text()


def test_counts_are_those_of_the_images_one_by_one() -> None:
    design = Design.of("abc", [2, 1, 3], {name: [f"{name}1", "x"] for name in "abc"})
    items = list(design.items())
    assert [item.number for item in items] == list(range(len(design)))
    for by, value in (
        ("factor", lambda item: item.factor),
        ("level", lambda item: f"{item.factor} {item.level}".strip()),
        ("background", lambda item: item.background),
    ):
        assert design.counts(by) == Counter(value(item) for item in items if not item.control)
    assert design.counts("control") == Counter(item.control for item in items)
    assert design.counts("class") == Counter(design.classes[item.class_] for item in items)
    made = [item for item in items if not item.control and item.factor != "photo"]
    photos = [("a", 0), ("a", 1), ("b", 0), *product("c", range(3))]
    assert {(design.classes[i.class_], i.photo, i.background, i.transformation) for i in made} == {
        (name, photo, background, change)
        for name, photo in photos
        for background in (f"{name}1", "x")
        for change in TRANSFORMATIONS
    }
    names = [(item.class_, item.name) for item in items]
    assert len(set(names)) == len(names)
    assert not any("." in item.name or "/" in item.name for item in items)
    assert len(design.as_table()) == len(design)


def test_blocks_are_photos(full: Design) -> None:
    assert full.block_of(51) == range(51 * 245, 52 * 245)
    items = [full.item(number) for number in full.block_of(51)]
    assert {(item.class_, item.photo) for item in items} == {(1, 1)}
    assert items[0].factor == "photo" and items[0].background == "own"


def test_eleven_transformations() -> None:
    assert Counter(change.factor for change in TRANSFORMATIONS) == PER_FACTOR
    assert tuple(PER_FACTOR) == FACTORS
    moved = {change.factor: change.moves for change in TRANSFORMATIONS}
    assert {name for name, what in moved.items() if what == "object"} == {
        "original",
        "scale",
        "viewpoint",
    }
    changed = transformations({"viewpoint": "picture", "rotation": "object"})
    assert [c.matrix for c in changed] == [c.matrix for c in TRANSFORMATIONS]
    assert {c.factor for c in changed if c.moves == "object"} == {"original", "scale", "rotation"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ["a b", "a_b"]}, "classes: expected names that differ in letters and digits"),
        ({"classes": []}, "classes: expected at least one"),
        ({"photos": 0}, "photos: expected a positive int"),
        ({"photos": [1, 2, 3]}, "photos: expected numbers and backgrounds of 1 classes"),
        ({"backgrounds": ["x", "x"]}, "backgrounds: expected names that differ"),
        ({"backgrounds": ["own"]}, "backgrounds: expected other names than"),
        ({"backgrounds": ["Blurred"]}, ""),
        ({"controls": ("same", "grey")}, "controls: expected some of same, mean"),
        ({"transformations": TRANSFORMATIONS[1:]}, "transformations: expected the original first"),
        ({"size": 0}, "size: expected a positive int"),
        ({"seed": -1}, "seed: expected an int"),
    ],
)
def test_designs_that_are_none(change: dict, said: str) -> None:
    asked = {"classes": ["a"], "photos": 1, "backgrounds": ["x"], **change}
    if not said:
        assert len(Design.of(**asked)) == 17
        return
    with pytest.raises(ValueError, match=f"^{said}"):
        Design.of(**asked)


def test_backgrounds_of_each_class_are_as_many() -> None:
    with pytest.raises(ValueError, match=r"^backgrounds: expected as many for every class"):
        Design.of("ab", 1, {"a": ["x"], "b": ["x", "y"]})
    with pytest.raises(ValueError, match=r"^moves: expected some of scale"):
        transformations({"zoom": "object"})
    with pytest.raises(ValueError, match=r"^moves: expected object or picture for crop"):
        transformations({"crop": "camera"})  # type: ignore[dict-item]
    assert folder_of("a/b c") == "a_b_c"
