"""What was built is read as it was written, in both formats; what is not whole is refused."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cci_captum.benchmarks.covar import TRANSFORMATIONS, BuildRun, Photos, Textures
from cci_captum.benchmarks.data import COVAR, Scenes, WebDataset, open_data

BUILDS = ("folders", "webdataset")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    photos = Photos.choose(Scenes(60, seed=5, size=64), 2, classes=["penguin", "cow"], seed=1)
    root = tmp_path_factory.mktemp("built")
    for kind in BUILDS:
        options = {"transformations": (*TRANSFORMATIONS[:2], TRANSFORMATIONS[9]), "size": 32}
        BuildRun(photos, Textures(["snow", "lava"]), root / kind, format=kind, **options).all()
    return root


@pytest.mark.parametrize("kind", BUILDS)
def test_samples_are_what_was_written(kind: str, built: Path) -> None:
    data = open_data(f"covar:{built / kind}")
    assert len(data) == 4 * (1 + 4 + 6) and data.has_masks
    assert data.class_names == Scenes(1).class_names
    for place in (0, 3, 7, 30):
        sample, row = data[place], data.manifest.iloc[place]
        assert sample.image.size == (32, 32) and sample.image.mode == "RGB"
        assert data.class_names[sample.target] == row["class"]
        assert float(sample.mask.double().mean()) == pytest.approx(row["object_share"])
        assert sample.source == row["source"] == sample.facts["photo"]
        facts = {name: row[name] for name in ("background", "factor", "level", "control")}
        assert {name: sample.facts[name] for name in facts} == facts
    assert data[0].facts["factor"] == "photo" and data[1].facts["control"] == "same"
    assert data.damaged() == []
    again = pickle.loads(pickle.dumps(data))
    assert np.array_equal(np.asarray(again[5].image), np.asarray(data[5].image))


def test_both_formats_are_the_same(built: Path) -> None:
    one, other = (COVAR(built / kind) for kind in BUILDS)
    for place in range(0, len(one), 5):
        assert one[place].name == other[place].name
        assert np.array_equal(np.asarray(one[place].image), np.asarray(other[place].image))
        assert torch.equal(one[place].mask, other[place].mask)
    plain = WebDataset(built / "webdataset" / "shards")
    assert len(plain) == len(one) and plain.targets == one.targets
    assert np.array_equal(np.asarray(plain[6].image), np.asarray(one[6].image))


def test_parts_of_it(built: Path) -> None:
    root = built / "folders"
    whole = COVAR(root)
    scale = open_data(f"covar:{root}", factor="scale", controls=False)
    assert set(scale.manifest["factor"]) == {"photo", "scale"} and len(scale) == 4 * 3
    snow = COVAR(root, background=["snow"], photos=1)
    assert set(snow.manifest["background"]) == {"own", "snow", *whole.manifest["control"]} - {""}
    assert len(snow) == 2 * (1 + 4 + 3)
    few = open_data(f"covar:{root}", n=10, seed=2)
    assert len(few) == 10 and sorted(np.bincount(few.targets)[[0, 3]]) == [5, 5]
    assert few.listing != whole.listing and few.name != whole.name
    own = COVAR(root, labels="own")
    assert own.class_names == ("penguin", "cow") and set(own.targets) == {0, 1}
    assert [own.class_names[t] for t in own.targets] == own.manifest["class"].tolist()
    for option, said in (
        ({"factor": "zoom"}, "factor: expected some of original, scale, crop|translation"),
        ({"background": "moon"}, "background: expected some of snow, lava, got 'moon'"),
        ({"labels": "mine"}, "labels: expected one of all, own"),
        ({"photos": 0}, "photos: expected a positive int"),
        ({"count": 99}, "count: expected at most the 44 images"),
    ):
        with pytest.raises(ValueError, match=f"^{said.split('|')[0][:40]}"):
            COVAR(root, **option)


def test_what_is_not_whole(built: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(built / "folders", root)
    (root / "images/cow").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match=r"^data: 22 of the 88 files of .* are missing"):
        open_data(f"covar:{root}")
    (tmp_path / "away").rename(root / "images/cow")
    data = COVAR(root)
    first, second = data.manifest["image_path"][:2]
    (root / first).write_bytes((root / first).read_bytes()[:50])
    Image.new("RGB", (32, 32)).save(root / second)
    assert data.damaged() == data.manifest["name"][:2].tolist()
    with pytest.raises(
        ValueError, match=r"^image: expected \d+ bytes as the manifest says, got 50"
    ):
        data[0]
    shutil.copy(built / "webdataset/manifest.parquet", root)
    with pytest.raises(ValueError, match=r"^root: expected the manifest of this build"):
        COVAR(root)
    (root / "manifest.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"^root: no such file"):
        COVAR(root)
    (root / "covar.json").write_text(json.dumps([]))
    with pytest.raises(ValueError, match=r"^root: expected what a build says of itself"):
        COVAR(root)
    (root / "covar.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"^root: expected covar.json and manifest.parquet"):
        COVAR(root)
    (root / "parts").mkdir()
    with pytest.raises(FileNotFoundError, match=r"^root: expected a finished build"):
        COVAR(root)
    with pytest.raises(FileNotFoundError, match=r"^root: no such folder"):
        COVAR(tmp_path / "none")
