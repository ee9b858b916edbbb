"""Waterbirds on a small tree of the released layout, against what was put there."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cci_captum.benchmarks.data import MissingImageError, Waterbirds, open_data
from cci_captum.benchmarks.data.waterbirds import GROUPS

SIZE = (7, 5)
HEAD = "img_id,img_filename,y,split,place,place_filename"
ALBATROSS, TOWHEE, ANI = "001.Black_footed_Albatross", "021.Eastern_Towhee", "004.Groove_billed_Ani"
# File, y, split, place: the towhee is labelled as a water bird, as released.
ROWS = [
    (f"{ALBATROSS}/a1.jpg", 1, 2, 1),
    (f"{ALBATROSS}/a2.jpg", 1, 2, 0),
    (f"{ALBATROSS}/a3.jpg", 1, 0, 1),
    (f"{ALBATROSS}/a4.jpg", 1, 0, 1),
    (f"{TOWHEE}/t1.jpg", 1, 2, 0),
    (f"{TOWHEE}/t2.jpg", 1, 0, 0),
    (f"{ANI}/g1.jpg", 0, 2, 0),
    (f"{ANI}/g2.jpg", 0, 2, 1),
    (f"{ANI}/g3.jpg", 0, 1, 1),
    (f"{ANI}/g4.jpg", 0, 0, 0),
    (f"{ANI}/g5.jpg", 0, 0, 0),
    (f"{ANI}/g6.jpg", 0, 0, 1),
]


def colour(name: str) -> tuple[int, ...]:
    return tuple(np.random.default_rng(list(name.encode())).integers(0, 256, 3).tolist())


def write(root: Path, rows: list[tuple[str, int, int, int]], head: str = HEAD) -> None:
    lines = [head]
    for number, (name, y, split, place) in enumerate(rows, start=1):
        lines.append(f"{number},{name},{y},{split},{place},/o/ocean/{number}.jpg")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")


def grey(name: str) -> np.ndarray:
    """What annotators said: 0, 51, ... 255, more of them to the right; one row of each."""
    values = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    values[:, 1:] = np.arange(6, dtype=np.uint8) * 51
    values[0] = len(name) % 127  # below half
    return values


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "waterbird_complete95_forest2water2"
    for name, *_ in ROWS:
        for path in (folder / name, tmp_path / "segmentations" / name):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, colour(name)).save(folder / name, format="PNG")
        mask = (tmp_path / "segmentations" / name).with_suffix(".png")
        Image.fromarray(grey(name)).save(mask)
    write(folder, ROWS)
    return folder


def test_every_image_of_the_split(root: Path) -> None:
    data = Waterbirds(root)
    expected = {name: (y, place) for name, y, split, place in ROWS if split == 2}
    assert len(data) == len(expected) and data.class_names == ("landbird", "waterbird")
    found = {}
    for index in range(len(data)):
        sample = data[index]
        y, place = expected[sample.name]
        kinds = ("landbird", "waterbird")[y], ("land", "water")[place]
        assert sample.target == data.targets[index] == y
        assert sample.facts["group"] == f"{kinds[0]} on {kinds[1]}" == GROUPS[2 * y + place]
        assert sample.facts["group_number"] == 2 * y + place
        assert sample.facts["place"] == kinds[1]
        assert sample.image.getpixel((0, 0)) == colour(sample.name) and sample.mask is None
        found[sample.name] = sample.facts["species"]
    assert found[f"{TOWHEE}/t1.jpg"] == "Eastern Towhee" and set(found) == set(expected)


def test_training_groups_whatever_the_split(root: Path) -> None:
    expected = dict(zip(GROUPS, (2, 1, 1, 2), strict=True))  # counted by hand in ROWS
    for split, count in (("test", 5), ("val", 1), ("train", 6)):
        data = Waterbirds(root, split)
        assert data.training_groups == expected and len(data) == count
        assert f"{count} images of {split}" in data.name


def test_what_is_known_to_be_wrong(root: Path) -> None:
    (note,) = Waterbirds(root).notes
    assert note.startswith("1 images of Eastern Towhee, Western Meadowlark, Western Wood Pewee are")
    assert Waterbirds(root, "val").notes == []


def test_masks(root: Path) -> None:
    data = Waterbirds(root, segmentations=root.parent / "segmentations")
    assert data.has_masks
    for index in range(len(data)):
        mask = data[index].mask
        expected = torch.zeros(SIZE[1], SIZE[0], dtype=torch.bool)
        expected[1:, 4:] = True  # 153, 204 and 255, of which 128 is a lower bound; 102 is not
        assert torch.equal(mask, expected)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_masks_of_other_modes(root: Path, mode: str) -> None:
    name = f"{ALBATROSS}/a1.jpg"
    path = (root.parent / "segmentations" / name).with_suffix(".png")
    Image.fromarray(grey(name)).convert(mode).save(path)
    data = Waterbirds(root, segmentations=root.parent / "segmentations")
    (index,) = [place for place in range(len(data)) if data[place].name == name]
    assert data[index].mask.sum() == 4 * 3


def test_drawn_evenly_over_groups(root: Path) -> None:
    data = Waterbirds(root, count=4, seed=1)
    groups = Counter(data[place].facts["group"] for place in range(4))
    assert groups == dict.fromkeys(GROUPS, 1)
    assert Waterbirds(root, count=4, seed=1).listing == data.listing


def test_by_text_from_the_folder_around_it(root: Path) -> None:
    data = open_data(f"waterbirds:{root.parent}", masks=root.parent / "segmentations", split="val")
    assert isinstance(data, Waterbirds) and data.has_masks and len(data) == 1
    assert pickle.loads(pickle.dumps(data))[0].facts == data[0].facts


# what is wrong


def test_a_wrong_layout_shows_the_right_one(root: Path, tmp_path: Path) -> None:
    (root / "metadata.csv").rename(root / "meta.csv")
    for folder in (root, tmp_path):
        with pytest.raises(ValueError, match=r"^root: expected metadata.csv, got ") as found:
            Waterbirds(folder)
        assert "001.Black_footed_Albatross/Black_Footed_Albatross_0001" in str(found.value)
        assert "img_id,img_filename,y,split,place,place_filename" in str(found.value)
    with pytest.raises(FileNotFoundError, match="root: no such folder"):
        Waterbirds(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,x/1.jpg,2,2,0,p", "expected y to be one of 0, 1, got '2' in line 2 of"),
        ("1,x/1.jpg,,2,0,p", "expected y to be one of 0, 1, got '' in line 2 of"),
        ("1,x/1.jpg,1,3,0,p", "expected split to be one of 0, 1, 2, got '3'"),
        ("1,x/1.jpg,1", "expected place to be one of 0, 1, got 'None'"),
        ("1,x/1.jpg,1,2,0,p\n2,x/1.jpg,1,2,0,p", "expected each image once in"),
        ("1,x/1.jpg,1,0,0,p", "split: expected images of test, got none"),
    ],
)
def test_rows_that_are_wrong(root: Path, line: str, message: str) -> None:
    (root / "metadata.csv").write_text(f"{HEAD}\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(message)):
        Waterbirds(root)


def test_columns_that_are_missing(root: Path) -> None:
    write(root, ROWS, "img_id,img_filename,label,split,place,place_filename")
    with pytest.raises(ValueError, match="expected the columns img_filename, y, split, place in"):
        Waterbirds(root)


def test_images_that_are_missing(root: Path) -> None:
    (root / f"{ALBATROSS}/a1.jpg").unlink()
    data = Waterbirds(root)
    assert f"1 images are not there: '{ALBATROSS}/a1.jpg'" in data.notes
    (index,) = [place for place, name in enumerate(data.listing) if "a1.jpg None" in name]
    with pytest.raises(MissingImageError, match="not there"):
        data[index]
    for name, *_ in ROWS:
        (root / name).unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match=r"root: expected the images of metadata.csv") as e:
        Waterbirds(root)
    assert "metadata.csv           (img_id" in str(e.value)


def test_masks_that_are_missing_or_wrong(root: Path) -> None:
    folder = root.parent / "segmentations"
    path = folder / f"{ANI}/g1.png"
    for mask, message in (
        (np.full((SIZE[1], SIZE[0]), 127, np.uint8), "no pixel of at least 128"),
        (np.full((4, 4), 255, np.uint8), "expected the size of the image, 7 x 5, got 4 x 4"),
    ):
        Image.fromarray(mask).save(path)
        data = Waterbirds(root, segmentations=folder)
        with pytest.raises(ValueError, match=message):
            data[0]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"missing '{ANI}/g1.png'")) as found:
        Waterbirds(root, segmentations=folder)
    assert "segmentations/             (of CUB-200-2011)" in str(found.value)


def test_options_that_are_wrong(root: Path) -> None:
    with pytest.raises(ValueError, match="split: expected one of train, val, test, got 'dev'"):
        Waterbirds(root, "dev")
    with pytest.raises(ValueError, match="count: expected at most the 5 images, got 6"):
        Waterbirds(root, count=6)
