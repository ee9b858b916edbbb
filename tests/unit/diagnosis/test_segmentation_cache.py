"""What was found before is found again, bit for bit, without a model; what is damaged is not."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from grounded_sam_models import Box, detector, photo, segmenter
from helpers import forked
from PIL import Image
from selection import quick_first

from cci_captum.diagnosis.segmentation import GroundedSAM, Segmentation, _cache
from cci_captum.diagnosis.segmentation._cache import Found, MaskCache, digest_of

LEFT, RIGHT = Box((0.05, 0.1, 0.4, 0.9)), Box((0.55, 0.2, 0.9, 0.8), 0.8)
TOLD = {(40, "cat"): [LEFT, RIGHT], (40, "dog"): [], (90, "animal"): [RIGHT]}
PHOTOS = [photo(40), photo(40), photo(90)]
ASKED = (PHOTOS, ["cat", "dog", "cat"], list("abc"))


@pytest.fixture(scope="module")
def models() -> Any:
    return detector(TOLD), segmenter("sam2")


def grounded(models: Any, folder: Path, **options: Any) -> GroundedSAM:
    return GroundedSAM(*models, cache=folder, parents=lambda name: ["animal"], **options)


@contextmanager
def passes(models: Any) -> Iterator[list[str]]:
    """Which models run, pass by pass."""
    ran: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: ran.append(name)

    (dino, _), (sam, _) = models
    hooks = [
        dino.register_forward_pre_hook(note("detector"), with_kwargs=True),
        sam.register_forward_pre_hook(note("segmenter"), with_kwargs=True),
        sam.vision_encoder.register_forward_pre_hook(note("encoder"), with_kwargs=True),
    ]
    try:
        yield ran
    finally:
        for hook in hooks:
            hook.remove()


def same(found: list[Segmentation], other: list[Segmentation]) -> bool:
    """Bit for bit."""
    return len(found) == len(other) and all(
        (a.status, str(a.score)) == (b.status, str(b.score))
        and (a.mask is None) == (b.mask is None)
        and (a.mask is None or torch.equal(a.mask, b.mask))
        for a, b in zip(found, other, strict=True)
    )


def test_a_hit_runs_no_model(models: Any, tmp_path: Path) -> None:
    """Also of a photo without a detection; in another object, whatever the photo is called."""
    with passes(models) as ran:
        plain = GroundedSAM(*models, parents=lambda name: ["animal"])(*ASKED)
        assert [f.status for f in plain] == ["", "no detection", ""]
        assert ran.count("detector") == 5 and ran.count("segmenter") == 2
        ran.clear()
        first = grounded(models, tmp_path)
        assert same(first(*ASKED), plain) and ran.count("detector") == 5
        ran.clear()
        again = grounded(models, tmp_path)
        assert same(again(PHOTOS, ASKED[1], ["x", "y", "z"]), plain) and ran == []
    counts = {
        "images": 3,
        "several boxes": 1,
        "no detection": 1,
        "by a parent or synonym": 1,
    }
    assert first.counts == counts and again.counts == counts | {"from the cache": 3}


def test_everything_that_decides_a_mask_is_in_its_key(models: Any, tmp_path: Path) -> None:
    """The detector runs again for whatever is not the same as before."""
    grounded(models, tmp_path)([PHOTOS[0]], ["cat"], ["a"])

    def runs(asker: GroundedSAM, image: Image.Image = PHOTOS[0], name: str = "cat") -> bool:
        with passes(models) as ran:
            asker([image], [name], ["a"])
        return bool(ran)

    assert not runs(grounded(models, tmp_path))
    for options in ({"threshold": 0.31}, {"several": "best"}, {"detector_size": (32, 64)}):
        assert runs(grounded(models, tmp_path, **options)), options
    assert runs(GroundedSAM(*models, cache=tmp_path))  # no parents
    pixels = np.asarray(PHOTOS[0]).copy()
    pixels[-1, -1, -1] ^= 1
    assert runs(grounded(models, tmp_path), Image.fromarray(pixels))
    reshaped = Image.fromarray(np.asarray(PHOTOS[0]).reshape(70, 50, 3))
    assert runs(grounded(models, tmp_path), reshaped)
    assert runs(grounded(models, tmp_path), name="a cat")
    for model, _ in models:
        parameter = list(model.parameters())[-1]
        before = parameter.data.clone()
        parameter.data += 1e-3
        assert runs(grounded(models, tmp_path))
        parameter.data = before
    assert not runs(grounded(models, tmp_path))


def test_versions_are_in_the_key(
    models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = PHOTOS[0]
    facts = grounded(models, tmp_path)._cache
    assert facts is not None
    key = facts.key(image, ["cat."])
    assert MaskCache(tmp_path, {}).key(image, ["cat."]) != key
    assert facts.key(image, ["cat.", "dog."]) != facts.key(image, ["cat.dog."])
    for name in ("transformers.__version__", f"{_cache.__name__}.__version__"):
        with monkeypatch.context() as patch:
            patch.setattr(name, "5.23.1")
            other = grounded(models, tmp_path)._cache
            assert other is not None and other.key(image, ["cat."]) != key


def test_a_digest_tells_models_apart_and_no_names() -> None:
    pair = segmenter("sam2")
    digest = digest_of(*pair)
    pair[0].config._name_or_path = "somewhere/else"
    assert digest_of(*pair) == digest == digest_of(*segmenter("sam2"))
    assert digest_of(segmenter("sam2")[0].bfloat16(), pair[1]) != digest
    pair[1].image_processor.image_mean = [0.1, 0.2, 0.3]
    assert digest_of(*pair) != digest


def _entry(folder: Path) -> tuple[Path, Path]:
    (json_,) = folder.glob("??/*.json")
    return json_, json_.with_suffix(".png")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _edit(path: Path, **facts: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def _other_mask(path: Path) -> None:
    Image.new("1", (70, 50), 1).save(path)


DAMAGE: dict[str, Callable[[Path, Path], None]] = {
    "half the JSON": lambda facts, png: _cut(facts),
    "no JSON": lambda facts, png: facts.unlink(),
    "an empty JSON": lambda facts, png: facts.write_bytes(b""),
    "a JSON of something else": lambda facts, png: facts.write_text("[1, 2]"),
    "an unknown status": lambda facts, png: _edit(facts, status="background"),
    "no number": lambda facts, png: _edit(facts, score="high"),
    "half the PNG": lambda facts, png: _cut(png),
    "no PNG": lambda facts, png: png.unlink(),
    "an empty PNG": lambda facts, png: png.write_bytes(b""),
    "another mask": lambda facts, png: _other_mask(png),
    "bytes that are no UTF-8": lambda facts, png: facts.write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", quick_first(DAMAGE, 4))
def test_a_damaged_entry_is_measured_again(models: Any, tmp_path: Path, damage: str) -> None:
    asked = ([PHOTOS[2]], ["cat"], ["a"])
    found = grounded(models, tmp_path)(*asked)
    DAMAGE[damage](*_entry(tmp_path))
    with passes(models) as ran:
        assert same(grounded(models, tmp_path)(*asked), found)
        assert "detector" in ran and "segmenter" in ran
        ran.clear()
        assert same(grounded(models, tmp_path)(*asked), found) and ran == []


def test_a_failure_is_not_kept(models: Any, tmp_path: Path) -> None:
    dino = models[0][0]
    dino.raising = {90: ValueError("for now")}
    asker = grounded(models, tmp_path)
    with pytest.warns(UserWarning, match="for now"):
        assert asker([PHOTOS[2]], ["cat"], ["a"])[0].status == "failed"
    dino.raising = {}
    assert asker([PHOTOS[2]], ["cat"], ["a"])[0].status == ""


def test_a_cache_that_is_a_file_is_refused(models: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="cache: expected a folder, got a file"):
        grounded(models, tmp_path / "file")
    assert grounded(models, tmp_path / "new" / "folder")._cache is not None


# Writers that are killed, and many at once. The cache alone: it runs no model.

KEYS = [f"{number:02x}" + "0" * 62 for number in range(4)]
BLANK = Image.new("RGB", (300, 200))


def _mask(seed: int) -> torch.Tensor:
    return torch.rand(200, 300, generator=torch.Generator().manual_seed(seed)) < 0.5


def _write_for_ever(cache: MaskCache, seed: int, most: int = 100_000) -> None:
    """Entries that depend on the writer, under keys that all share."""
    masks = [Found(Segmentation(_mask(seed), "", float(seed)), seed, str(seed))]
    masks.append(Found(Segmentation(None, "no detection"), 0, str(seed)))
    for turn in range(most):
        cache.put(KEYS[turn % len(KEYS)], masks[turn // 3 % 2])


def _is_whole(found: Found | None, seeds: range) -> bool:
    """Not there, or all that one of the writers wrote."""
    if found is None or found.segmentation.mask is None:
        return found is None or found.segmentation.status == "no detection"
    seed = found.boxes
    same = torch.equal(found.segmentation.mask, _mask(seed))
    return seed in seeds and same and found.segmentation.score == seed == int(found.prompt)


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_writers_leave_nothing_wrong(tmp_path: Path) -> None:
    """Two at a time, killed anywhere; what is read meanwhile, and after, is whole or not there."""
    cache = MaskCache(tmp_path, {})
    hits = 0
    for turn in range(8):
        seeds = range(2 * turn, 2 * turn + 2)
        children = [forked(lambda seed=seed: _write_for_ever(cache, seed)) for seed in seeds]
        end = time.monotonic() + 0.05 + 0.01 * turn
        while time.monotonic() < end:
            found = [cache.get(key, BLANK) for key in KEYS]
            assert all(_is_whole(one, range(seeds.stop)) for one in found)
            hits += sum(one is not None for one in found)
        for child in children:
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert all(_is_whole(cache.get(key, BLANK), range(seeds.stop)) for key in KEYS)
    assert hits
    _write_for_ever(cache, 99, most=3)  # masks, under three of the keys: mended
    whole = [cache.get(key, BLANK) for key in KEYS[:3]]
    assert [one.boxes for one in whole if one is not None] == [99] * 3
    assert all(_is_whole(one, range(100)) for one in whole)


def test_interrupted_between_mask_and_facts(tmp_path: Path, monkeypatch: Any) -> None:
    """The mask is new, the facts are old: neither is taken."""
    cache = MaskCache(tmp_path, {})
    cache.put(KEYS[0], Found(Segmentation(_mask(1), "", 0.5), 1, "cat."))
    replace = os.replace

    def stop(source: Any, target: Any) -> None:
        if str(target).endswith(".json"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        cache.put(KEYS[0], Found(Segmentation(_mask(2), "", 0.9), 2, "cat."))
    monkeypatch.undo()
    assert cache.get(KEYS[0], BLANK) is None
    cache.put(KEYS[0], Found(Segmentation(_mask(2), "", 0.9), 2, "cat."))
    kept = cache.get(KEYS[0], BLANK)
    assert kept is not None and kept.segmentation.mask is not None
    assert torch.equal(kept.segmentation.mask, _mask(2)) and kept.segmentation.score == 0.9
    assert sorted(path.suffix for path in tmp_path.rglob("*") if path.is_file()) == [
        ".json",
        ".png",
    ]
