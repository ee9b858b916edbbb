"""Builds that are interrupted, shared and repeated: the same bytes; and what editors may do."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import forked, killed_again_and_again, steps_of
from PIL import Image

from cci_captum.benchmarks.comparison import FolderStore
from cci_captum.benchmarks.covar import (
    TRANSFORMATIONS,
    BackgroundFolder,
    BuildRun,
    Edited,
    Photos,
    Textures,
    Usable,
    dry_run,
)
from cci_captum.benchmarks.covar.design import Design
from cci_captum.benchmarks.data import Scenes
from cci_captum.benchmarks.runner import Claims, Place, Progress, Stop, Worker
from cci_captum.diagnosis.segmentation import Segmentation

FEW = (TRANSFORMATIONS[0], TRANSFORMATIONS[2], TRANSFORMATIONS[-1])
NAMES = ["snow", "bricks"]


@pytest.fixture(scope="module")
def photos(one_thread: None) -> Photos:
    return Photos.choose(Scenes(60, seed=5, size=64), 2, classes=["penguin", "cow"], seed=1)


def run_of(photos: Photos, out: Path, **options: Any) -> BuildRun:
    options = {"transformations": FEW, "size": 32, "licence": "CC0", **options}
    return BuildRun(photos, options.pop("backgrounds", Textures(NAMES)), out, **options)


def files(folder: Path) -> dict[str, str]:
    """Digests of all that is data: what a build's workers keep for themselves is not."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "parts" not in path.relative_to(folder).parts
    }


@pytest.fixture(scope="module")
def whole(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    out = tmp_path_factory.mktemp("whole")
    run_of(photos, out).all()
    return out, files(out)


def work(run: BuildRun, parts: Path, place: Place | None = None) -> bool:
    store = FolderStore(parts)
    store.begin(run.plan)
    with Stop() as stop, Claims(parts / "claims") as claims:
        return Worker(run, store, claims, stop, place).work()


def finish(run: BuildRun, parts: Path) -> None:
    store = FolderStore(parts)
    store.begin(run.plan)
    assert not store.missing(run.plan.all_keys())
    run.finish(store)


def test_what_is_built(photos: Photos, whole: tuple[Path, dict[str, str]]) -> None:
    out, found = whole
    table = pd.read_parquet(out / "manifest.parquet")
    design = run_of(photos, out).design
    assert len(table) == len(design) == 4 * (1 + 4 + 2 * 3)
    assert dry_run(design).by_control == table.groupby("control").size().to_dict()
    assert len(found) == 2 * len(table) + 2  # images, masks, manifest, covar.json
    assert table["name"].is_unique and (table["licence"] == "CC0").all()
    for kind in ("image", "mask"):
        assert (table[f"{kind}_path"].map(found) == table[f"{kind}_sha256"]).all()
    for _, row in table.iterrows():
        with Image.open(out / row["mask_path"]) as mask:
            assert np.asarray(mask).mean() == pytest.approx(row["object_share"])
        assert (out / row["image_path"]).stat().st_size == row["image_bytes"]
    sources = table.groupby(["class", "photo"])["source"].unique()
    assert sorted(name for (name,) in sources) == sorted(
        f"scene {place}" for places in photos.places for place in places
    )
    assert set(table["background_from"]) >= {"", "control mean", "drawn texture snow"}
    about = json.loads((out / "covar.json").read_text())
    assert about["design"]["classes"] == ["penguin", "cow"] and about["images"] == len(table)


def test_the_same_seed_gives_the_same_bytes(
    photos: Photos, whole: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    run_of(photos, tmp_path / "again").all()
    assert files(tmp_path / "again") == whole[1]
    run_of(photos, tmp_path / "other", backgrounds=Textures(NAMES, seed=1)).all()
    assert files(tmp_path / "other") != whole[1]


def test_interrupted_and_shared(
    photos: Photos, whole: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """In one process: a unit that died half-way, and a worker that ends the rest."""
    out, parts = tmp_path / "out", tmp_path / "out/parts"
    run = run_of(photos, out)
    store = FolderStore(parts)
    store.begin(run.plan)
    (first,) = run.measure(run.plan.blocks[1], run.plan.keys(1))
    store.add(*first)
    list(run.measure(run.plan.blocks[2], run.plan.keys(2)))  # written, and not yet counted
    torn = next((out / "images").rglob("*.png"))
    before = torn.read_bytes()
    for path in (out / "images/cow").glob("000_*"):
        path.write_bytes(b"torn")  # of block 2
    assert Progress.of(parts).blocks == (1, 4)
    assert work(run_of(photos, out), parts, Place(1, 2))
    assert torn.read_bytes() == before
    finish(run_of(photos, out), parts)
    assert files(out) == whole[1]
    assert Progress.of(parts).complete
    shutil.rmtree(out / "masks")
    finish(run_of(photos, out), parts)  # what is counted is not looked at again ...
    with pytest.raises(FileNotFoundError, match=r"^root: 44 of the 88 files"):
        from cci_captum.benchmarks.data import COVAR

        COVAR(out)  # ... but here


def test_another_build_is_refused(photos: Photos, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "parts")
    store.begin(run_of(photos, tmp_path).plan)
    for change in ({"size": 33}, {"feather": 2.0}, {"encoding": "jpg"}, {"licence": "mine"}):
        with pytest.raises(ValueError, match=r"^store: expected results of the same run"):
            store.begin(run_of(photos, tmp_path, **change).plan)


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_killed_again_and_again(photos: Photos, tmp_path: Path) -> None:
    """One process, then two, then one, of a build that takes longer than they live."""

    def larger(out: Path) -> BuildRun:
        backgrounds = Textures([*NAMES, "lava", "grass", "leaves"])
        return run_of(
            photos, out, transformations=TRANSFORMATIONS, backgrounds=backgrounds, size=96
        )

    larger(tmp_path / "whole").all()
    out, parts = tmp_path / "out", tmp_path / "out/parts"
    run, counted = larger(out), tmp_path / "counted"
    steps = steps_of(lambda: work(larger(counted), counted / "parts"))
    killed_again_and_again(
        lambda rank, world: work(run, parts, Place(rank, world)), (1, 2, 1), steps
    )
    assert 0 < len(list(parts.glob("*.parquet"))) < len(run.plan.blocks)
    assert work(larger(out), parts)
    finish(larger(out), parts)
    for path in [*out.rglob(".cci-captum-*")]:  # left by what was killed while it wrote
        path.unlink()
    assert files(out) == files(tmp_path / "whole")


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_two_processes(photos: Photos, whole: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    out, parts = tmp_path / "out", tmp_path / "out/parts"
    pids = [forked(partial(work, run_of(photos, out), parts, Place(rank, 2))) for rank in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert set(codes) <= {0, 3} and 0 in codes
    finish(run_of(photos, out), parts)
    assert files(out) == whole[1]


def test_shards_hold_the_same(
    photos: Photos, whole: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    table = run_of(photos, tmp_path, format="webdataset").all()
    plain = pd.read_parquet(whole[0] / "manifest.parquet")
    for column in ("name", "image_sha256", "mask_sha256", "object_share", "visible", "source"):
        assert table[column].tolist() == plain[column].tolist()
    shards = sorted((tmp_path / "shards").glob("*.tar"))
    assert len(shards) == 4
    with tarfile.open(shards[1]) as shard:
        members = shard.getmembers()
        assert {(m.mtime, m.uid, m.gid, m.uname) for m in members} == {(0, 0, 0, "")}
        row = table.iloc[11]
        file = shard.extractfile("0000011.png")
        assert file is not None
        content = file.read()
        assert hashlib.sha256(content).hexdigest() == row["image_sha256"]
        at = shards[1].read_bytes()[row["image_offset"] :][: row["image_bytes"]]
        assert at == content and str(row["image_path"]) == "shards/000001.tar"
        facts = json.loads(shard.extractfile("0000011.json").read())  # type: ignore[union-attr]
        assert facts["factor"] == "photo" and facts["class"] == "penguin"
    again = tmp_path / "again"
    run_of(photos, again, format="webdataset").all()
    assert files(again) == {k: v for k, v in files(tmp_path).items() if "again" not in k}


def test_jpegs(photos: Photos, tmp_path: Path) -> None:
    table = run_of(photos, tmp_path, encoding="jpg", controls=()).all()
    with Image.open(tmp_path / table["image_path"][3]) as image:
        assert image.format == "JPEG" and image.size == (32, 32)
    with pytest.raises(ValueError, match=r"^encoding: expected one of png, jpg"):
        run_of(photos, tmp_path, encoding="gif")
    with pytest.raises(ValueError, match=r"^format: expected one of folders, webdataset"):
        run_of(photos, tmp_path, format="zip")


class Painter:
    """An editor that puts a red square at the top left, whatever it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __repr__(self) -> str:
        return "Painter()"

    def __call__(self, photo: Image.Image, mask: Any, background: Any, change: Any) -> Any:
        assert photo.size == (64, 64) and mask.shape == (64, 64)
        self.asked.append((background.name, str(change)))
        picture = Image.new("RGB", (64, 64), "blue")
        picture.paste("red", (0, 0, 16, 16))
        return picture


def red(images: Any, class_names: Any, names: Any) -> list[Segmentation]:
    assert class_names in (["penguin"], ["cow"])
    return [Segmentation(torch.from_numpy(np.asarray(image)[..., 0] > 128)) for image in images]


def test_an_editor_takes_the_compositors_place(
    photos: Photos, whole: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    painter, plain = Painter(), pd.read_parquet(whole[0] / "manifest.parquet")
    table = run_of(photos, tmp_path / "a", editor=painter).all()
    assert len(painter.asked) == 4 * (4 + 6) and ("snow", "scale 50%") in painter.asked
    made = table["factor"] != "photo"
    same = table["image_sha256"] == plain["image_sha256"]
    assert same[~made].all() and not same[made].any()
    # Without a mask of the editor's: where the compositor would have put the object.
    assert np.allclose(table["object_share"], plain["object_share"], atol=0.02)
    found = run_of(photos, tmp_path / "b", editor=painter, segmenter=red).all()
    assert (found["object_share"][made] == 1 / 16).all()
    with pytest.raises(ValueError, match=r"^segmenter: expected an editor"):
        run_of(photos, tmp_path / "c", segmenter=red)
    for wrong, said in (
        (lambda *a: Image.new("RGB", (4, 5)), "editor: expected a square picture, got 4 x 5"),
        (
            lambda *a: Edited(Image.new("RGB", (4, 4)), np.ones((2, 2), bool)),
            "editor: expected a mask as large as its picture, got 2 x 2",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{said}"):
            run_of(photos, tmp_path / "d", editor=wrong).all()


def test_backgrounds_of_a_folder(photos: Photos, tmp_path: Path) -> None:
    root = tmp_path / "own"
    for folder, colours in {"penguin": ["red", "lime"], "cow": ["blue", "cyan"]}.items():
        (root / folder).mkdir(parents=True)
        for colour in colours:
            Image.new("RGB", (80, 50), colour).save(root / folder / f"{colour}.png")
    table = run_of(photos, tmp_path / "a", backgrounds=BackgroundFolder(root), controls=()).all()
    cows = table[(table["class"] == "cow") & (table["factor"] == "original")]
    assert sorted(set(cows["background"])) == ["blue", "cyan"]
    assert set(cows["background_from"]) == {"cow/blue.png", "cow/cyan.png"}
    with Image.open(tmp_path / "a" / cows["image_path"].iloc[0]) as image:
        assert image.getpixel((0, 0)) == (0, 0, 255)
    one = BackgroundFolder(root, 1, seed=3)
    assert len(one.names("cow")) == 1 and one.listing != BackgroundFolder(root).listing
    with pytest.raises(ValueError, match=r"^backgrounds: expected a folder 'fish' in"):
        one.names("fish")
    Image.new("RGB", (4, 4)).save(root / "loose.png")
    for folder, count, said in (
        (root, None, "expected pictures in"),
        (root / "cow", 3, "expected 3 pictures in"),
        (tmp_path / "no", None, "no such folder"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=f"^backgrounds: {said}"):
            BackgroundFolder(folder, count)
    with pytest.raises(ValueError, match=r"^backgrounds: expected some of grass"):
        Textures(["moon"])


def test_backgrounds_that_differ_by_their_suffix_alone(tmp_path: Path) -> None:
    for name, colour in {"a.png": "red", "a.bmp": "blue", "b.png": "lime"}.items():
        Image.new("RGB", (8, 8), colour).save(tmp_path / name)
    found = BackgroundFolder(tmp_path, 3)
    assert found.names("cow") == ("a.bmp", "a.png", "b")
    colours = [found.get("cow", name, 0, 8).picture.getpixel((0, 0)) for name in found.names("cow")]
    assert colours == [(0, 0, 255), (255, 0, 0), (0, 255, 0)]
    assert len(found.listing) == 3
    Design.of(["cow"], 1, found.names("cow"))


class Drawn:
    """Images with masks that are no good, and good ones."""

    name, class_names, templates, has_masks = "drawn", ("a", "b"), "{}", True

    def __init__(self, masks: list[Any], targets: list[int]) -> None:
        self.masks, self.targets = masks, targets

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> Any:
        from cci_captum.benchmarks.data import Sample

        if self.masks[index] is None:
            raise ValueError("damaged")
        mask = torch.zeros(40, 40, dtype=torch.bool)
        left, top, right, bottom = self.masks[index]
        mask[top:bottom, left:right] = True
        return Sample(f"{index}", Image.new("RGB", (40, 40)), self.targets[index], mask)


def test_photos_are_chosen_and_counted(tmp_path: Path) -> None:
    good, small, large = (10, 10, 25, 25), (10, 10, 12, 12), (1, 1, 39, 39)
    cut, none = (10, 10, 30, 40), (0, 0, 0, 0)
    masks = [good, small, large, cut, none, None, good, good]
    data = Drawn(masks, [0, 0, 0, 0, 0, 0, 0, 1])
    found = Photos.choose(data, 2, fewer=True, seed=0)
    assert [sorted(places) for places in found.places] == [[0, 6], [7]]
    only = Photos.choose(data, 1, seed=0)
    assert only.places[1] == (7,) and set(only.places[0]) < {0, 6}
    with pytest.raises(ValueError, match=r"^photos: expected 3 usable .* a lacks 1, b lacks 2"):
        Photos.choose(data, 3)
    refused = Photos.choose(data, 3, fewer=True).refused
    assert refused == {
        "cut off": 1, "no object": 1, "not to be read": 1, "object too large": 1,
        "object too small": 1,
    }  # fmt: skip
    assert Usable(cut=0.3).refused(data[3].mask.numpy()) == ""
    assert len(Photos.choose(data, 9, fewer=True, classes=["b"]).places) == 1
    stored = tmp_path / "photos.json"
    first = Photos.choose(data, 2, fewer=True, stored=stored)
    data.masks = [None] * 8  # that would find none
    assert Photos.choose(data, 2, fewer=True, stored=stored).places == first.places
    with pytest.raises(ValueError, match=r"^data: expected usable photos, got none of drawn"):
        Photos.choose(data, 2, fewer=True, stored=stored, seed=1)
    with pytest.raises(ValueError, match=r"^classes: expected names of the 2 classes"):
        Photos.choose(data, 2, classes=["c"])
    data.has_masks = False
    with pytest.raises(ValueError, match=r"^data: expected masks of the objects, drawn has none"):
        Photos.choose(data, 2)
