"""Stand-ins of large data sets: `open_data` reads what is made, and the costs are of that."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from timm.data import ImageNetInfo

from cci_captum.benchmarks.data import open_data
from cci_captum.benchmarks.speed import stand_ins


def test_imagenet(tmp_path: Path) -> None:
    stand_ins.make_imagenet(tmp_path / "val", images=1003)
    data = open_data(f"imagenet:{tmp_path / 'val'}")
    assert len(data) == 1003 and len(data.class_names) == 1000
    assert Counter(Counter(data.targets).values()) == {2: 3, 1: 997}
    sample = data[1]
    assert sample.image.size == (32, 24) and sample.target == 0
    assert (
        sample.name
        == f"{ImageNetInfo('imagenet-1k').label_names()[0]}/ILSVRC2012_val_00001001.JPEG"
    )
    assert data[0].image.tobytes() != sample.image.tobytes()


def test_shards(tmp_path: Path) -> None:
    stand_ins.make_shards(tmp_path / "shards", images=23, shards=4)
    sizes = [len(open_data(f"webdataset:{file}", classes=[f"{c}" for c in range(23)]))
             for file in sorted((tmp_path / "shards" / "test").glob("*.tar"))]  # fmt: skip
    assert sizes == [6, 6, 6, 5]
    data = open_data(f"webdataset:{tmp_path / 'shards'}")
    assert len(data) == 23 and len(data.class_names) == 1000
    assert list(data.targets) == list(range(23))
    assert data[22].image.size == (32, 24)
    with pytest.raises(ValueError, match="images: expected at least 4, one a shard, got 3"):
        stand_ins.make_shards(tmp_path / "fewer", images=3, shards=4)


def test_coco(tmp_path: Path) -> None:
    stand_ins.make_coco(tmp_path / "coco", images=4, captions=5)
    data = open_data(f"coco:{tmp_path / 'coco'}")
    assert data.name == "COCO Karpathy test (4 images; 20 captions)"
    assert not data.notes  # no file is missing
    assert data[3].image.size == (32, 24) and len(set(data[3].captions)) == 5
    entries = json.loads((tmp_path / "coco" / "dataset_coco.json").read_text())["images"]
    assert Counter(entry["split"] for entry in entries) == {
        "test": 4, "val": 4, "restval": 24, "train": 66,
    }  # fmt: skip
    assert [entry["imgid"] for entry in entries] == list(range(98))
    assert len({each for entry in entries for each in entry["sentids"]}) == 98 * 5


@pytest.fixture
def opened_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data are opened in this process, which has imported everything."""

    def opening(text: str) -> stand_ins.Cost:
        return stand_ins.Cost(open_data(text).name, 0.25, 0.5, 100.0, 101.0)

    monkeypatch.setattr(stand_ins, "opening", opening)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("opened_here")
def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--out", str(tmp_path / "made"), "--images", "1000", "--shards", "3", "--coco", "2"]
    stand_ins.main(options)
    rows = capsys.readouterr().out.splitlines()[4:]
    assert rows == [
        f"| {name} | 0.25 | 0.50 | 100 | 101 |"
        for name in (
            "ImageNet (1000 images of 1000 classes)",
            "shards test (1000 images)",
            "COCO Karpathy test (2 images; 10 captions)",
        )
    ]
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "made").iterdir()}
    assert {path.name for path in made} == {"imagenet", "shards", "coco"}
    stand_ins.main(options)  # makes nothing anew
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "made").iterdir()} == made


@pytest.mark.exhaustive
@pytest.mark.beyond_pairs
def test_opening_in_a_process_of_its_own(tmp_path: Path) -> None:
    stand_ins.make_shards(tmp_path / "shards", images=3, shards=1)
    cost = stand_ins.opening(f"webdataset:{tmp_path / 'shards'}")
    assert cost.name == "shards test (3 images)"
    assert min(cost.seconds, cost.listing) >= 0
    assert 10 < cost.before <= cost.after
    with pytest.raises(RuntimeError, match=r"cannot open imagenet:.*: FileNotFoundError: "):
        stand_ins.opening(f"imagenet:{tmp_path / 'none'}")
