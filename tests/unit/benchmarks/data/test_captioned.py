"""COCO and Flickr30k with their captions, from small files in the formats people have."""

from __future__ import annotations

import json
import pickle
import re
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cci_captum import load_clip
from cci_captum.benchmarks.data import COCOKarpathy, Flickr30k
from cci_captum.benchmarks.data._captions import from_karpathy
from cci_captum.benchmarks.faithfulness.retrieval import CaptionRetrieval

FIVE = ["A cat, on a mat.", 'A "cat".', "A cat\nand a dog", " Two  cats. ", "Café, naïve — 猫"]


def entry(filename: str, split: str, captions: list[str], **more: Any) -> dict[str, Any]:
    sentences = [
        {"tokens": raw.split(), "raw": raw, "imgid": 0, "sentid": place}
        for place, raw in enumerate(captions)
    ]
    return {"filename": filename, "split": split, "sentences": sentences, "imgid": 0, **more}


def coco_entry(number: int, split: str, captions: list[str], year: str = "val") -> dict[str, Any]:
    folder = f"{year}2014"
    name = f"COCO_{folder}_{number:012}.jpg"
    return entry(name, split, captions, filepath=folder, cocoid=number)


ENTRIES = [
    coco_entry(9, "test", FIVE),
    coco_entry(8, "restval", ["of restval"]),
    coco_entry(7, "train", ["of train"], "train"),
    coco_entry(6, "test", [*FIVE, "the sixth"]),
    coco_entry(5, "val", ["of val"]),
    coco_entry(4, "test", ["one alone"]),
]


def colour_of(name: str) -> tuple[int, ...]:
    return tuple(np.random.default_rng(list(name.encode())).integers(0, 256, 3).tolist())


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), colour_of(path.name)).save(path, "PNG")  # exact, whatever its name


def write(path: Path, entries: list[dict[str, Any]], dataset: str = "coco") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": entries, "dataset": dataset}), encoding="utf-8")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "dataset_coco.json", ENTRIES)
    for each in ENTRIES:
        photo(tmp_path / each["filepath"] / each["filename"])
    return tmp_path


def file(number: int, year: str = "val") -> str:
    return f"{year}2014/COCO_{year}2014_{number:012}.jpg"


# COCO


def test_the_test_split(root: Path) -> None:
    data = COCOKarpathy(root)
    assert [data[place].name for place in range(len(data))] == [file(9), file(6), file(4)]
    assert data.captions == [tuple(FIVE), (*FIVE, "the sixth"), ("one alone",)]
    assert data.name == "COCO Karpathy test (3 images; 12 captions)"
    for place in range(3):
        sample = data[place]
        assert sample.captions == data.captions[place]
        assert sample.image.getpixel((0, 0)) == colour_of(Path(sample.name).name)
    assert [data[place].facts for place in (0, -1)] == [{"cocoid": 9}, {"cocoid": 4}]


def test_it_has_captions_and_no_classes(root: Path) -> None:
    data = COCOKarpathy(root)
    assert (data.class_names, data.templates, data.has_masks) == ((), "{}", False)
    assert data.targets == [-1] * 3 and data[1].target == -1 and data[1].mask is None


@pytest.mark.parametrize(
    ("split", "expected"),
    [("val", [file(5)]), ("restval", [file(8)]), ("train", [file(7, "train")])],
)
def test_other_splits(root: Path, split: str, expected: list[str]) -> None:
    data = COCOKarpathy(root, split)
    assert [data[place].name for place in range(len(data))] == expected
    assert data.captions == [(f"of {split}",)]
    assert data.name.startswith(f"COCO Karpathy {split} (1 images")


def test_the_first_five_captions(root: Path) -> None:
    data = COCOKarpathy(root, captions=5)
    assert data.captions == [tuple(FIVE), tuple(FIVE), ("one alone",)]
    assert data[1].captions == tuple(FIVE)
    assert data.name == "COCO Karpathy test (3 images; 11 captions, the first 5 of each)"


@pytest.mark.parametrize("images", [".", "images", "coco", "elsewhere"])
def test_where_images_lie(tmp_path: Path, images: str) -> None:
    write(tmp_path / "dataset_coco.json", ENTRIES)
    for number in (9, 6, 4):
        photo(tmp_path / images / file(number))
    for root in (tmp_path, tmp_path / "dataset_coco.json"):
        given = tmp_path / images if images == "elsewhere" else None
        assert COCOKarpathy(root, images=given)[2].name == file(4)


def test_images_and_captions_apart(root: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "annotations" / "karpathy.json", ENTRIES)
    assert COCOKarpathy(path, "val", images=root)[0].name == file(5)


def test_some_at_random(root: Path) -> None:
    draws = [COCOKarpathy(root, count=2, seed=seed) for seed in range(20)]
    names = [tuple(data[place].name for place in range(len(data))) for data in draws]
    assert {len(data) for data in draws} == {2}
    assert set(names) == {(file(9), file(6)), (file(9), file(4)), (file(6), file(4))}
    for data in draws:
        assert [sample.captions for sample in map(data.__getitem__, range(2))] == data.captions
    assert draws[7].name.startswith("COCO Karpathy test (2 of 3 images, seed 7; ")
    assert names[3] == tuple(COCOKarpathy(root, count=2, seed=3)[place].name for place in (0, 1))
    assert COCOKarpathy(root, count=3, seed=3).name == COCOKarpathy(root).name


def test_missing_images_are_counted_and_named(root: Path) -> None:
    (root / file(6)).unlink()
    with pytest.warns(UserWarning) as warned:
        data = COCOKarpathy(root)
    assert data.notes == [str(warned[0].message)]
    assert data.notes == [f"1 of the 3 images are not in {root}: '{file(6)}'"]
    assert Path(warned[0].filename) == Path(__file__)
    assert len(data) == 3 and data[2].name == file(4)  # the others as they are
    with pytest.raises(FileNotFoundError, match=f"no such image: .*{file(6)}"):
        data[1]
    for number in (9, 4):
        (root / file(number)).unlink()
    with pytest.raises(FileNotFoundError, match=rf"images: .* like {file(9)} in .*, got none of"):
        COCOKarpathy(root)
    with pytest.raises(FileNotFoundError, match="images: no such folder: nowhere"):
        COCOKarpathy(root, images="nowhere")


def test_nothing_missing_is_nothing_to_say(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert COCOKarpathy(root).notes == []


def test_a_damaged_image_fails_where_it_is_read(root: Path) -> None:
    (root / file(6)).write_bytes(b"no image")
    data = COCOKarpathy(root)
    with pytest.raises(ValueError, match=f"not an image.*{file(6)}"):
        data[1]


def test_a_listing_says_which_images_and_captions(root: Path) -> None:
    listing = COCOKarpathy(root).listing
    assert listing == COCOKarpathy(root).listing
    assert any(text.startswith(file(9)) for text in listing) and "the sixth" in listing
    assert COCOKarpathy(root, captions=5).listing != listing
    Image.new("RGB", (40, 30)).save(root / file(6), "PNG")
    changed = COCOKarpathy(root).listing
    assert len(changed) == len(listing) and changed != listing
    (root / file(6)).unlink()
    with pytest.warns(UserWarning, match="not in"):
        assert f"{file(6)} missing" in COCOKarpathy(root).listing
    entries = json.loads(json.dumps(ENTRIES))
    entries[0]["sentences"][0]["raw"] += "!"
    write(root / "dataset_coco.json", entries)
    with pytest.warns(UserWarning, match="not in"):
        assert "A cat, on a mat.!" in COCOKarpathy(root).listing


def test_copies_in_other_processes(root: Path) -> None:
    data = COCOKarpathy(root)
    copy = pickle.loads(pickle.dumps(data))
    assert (copy.captions, copy.listing, copy.name) == (data.captions, data.listing, data.name)
    assert copy[1].image.tobytes() == data[1].image.tobytes()


@pytest.mark.parametrize("index", [3, -4])
def test_no_such_image(root: Path, index: int) -> None:
    with pytest.raises(IndexError, match=f"index: expected -3 to 2, got {index}"):
        COCOKarpathy(root)[index]


def test_retrieval_takes_them(root: Path) -> None:
    data = COCOKarpathy(root)
    clip = load_clip("tiny")
    images = torch.stack([clip.preprocess(data[place].image) for place in range(len(data))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # words the tiny model never learnt
        retrieval = CaptionRetrieval.from_pairs(clip.model, clip.tokenizer, images, data.captions)
    assert retrieval.image_of_caption.tolist() == [0] * 5 + [1] * 6 + [2]


# files that are something else


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "root: cannot read .*dataset_coco.json: "),
        ("[]", 'expected Karpathy\'s JSON, {"images": .*, got a list in '),
        ("{}", "got an empty object in "),
        (
            json.dumps(
                {"info": {}, "images": [{"id": 1, "file_name": "1.jpg"}], "annotations": []}
            ),
            "expected Karpathy's JSON, .*, got an object of 'info', 'images', 'annotations' in ",
        ),
        (
            json.dumps({"images": [entry("1.jpg", "test", [])]}),
            "captions of '1.jpg' .*, got \\[\\]",
        ),
        (json.dumps({"images": [entry("1.jpg", "test", ["a", " "])]}), "got \\['a', ' '\\]"),
        (
            json.dumps({"images": [{**entry("1.jpg", "test", ["a"]), "sentences": [{"raw": 1}]}]}),
            "expected Karpathy's JSON",
        ),
        (
            json.dumps({"dataset": "flickr30k", "images": [entry("1.jpg", "test", ["a"])]}),
            "expected the dataset 'coco', got 'flickr30k' in ",
        ),
        (
            json.dumps({"images": [coco_entry(3, "test", ["a"]), coco_entry(3, "val", ["b"])]}),
            "expected each image once in .*, got more than once 'val2014/COCO_val2014_0{11}3.jpg'",
        ),
    ],
)
def test_a_json_of_another_kind(root: Path, content: str, message: str) -> None:
    (root / "dataset_coco.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        COCOKarpathy(root)


def test_names_are_the_same_only_within_a_folder(tmp_path: Path) -> None:
    entries = [entry("1.jpg", "test", ["a"], filepath=year) for year in ("val2014", "train2014")]
    write(tmp_path / "dataset_coco.json", entries)
    for year in ("val2014", "train2014"):
        photo(tmp_path / year / "1.jpg")
    data = COCOKarpathy(tmp_path)
    assert [data[place].name for place in (0, 1)] == ["val2014/1.jpg", "train2014/1.jpg"]
    assert data[0].facts == {}


def test_restval_is_not_test(tmp_path: Path) -> None:
    write(tmp_path / "dataset_coco.json", [coco_entry(8, "restval", ["a"])] * 1)
    photo(tmp_path / file(8))
    with pytest.raises(
        ValueError, match=r"split: expected one that .* has images of \(restval 1\), got 'test'"
    ):
        COCOKarpathy(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "split: expected one of train, restval, val, test, got 'dev'"),
        ({"captions": 0}, "captions: expected a positive int or None, got 0"),
        ({"count": 0}, "count: expected a positive int or None, got 0"),
        ({"count": 4}, "count: expected at most the 3 images, got 4"),
        ({"seed": -1}, "seed: expected an int that is not negative, got -1"),
    ],
)
def test_no_such_data(root: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        COCOKarpathy(root, **arguments)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"root: expected dataset_coco\.json in "):
        COCOKarpathy(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"root: no such folder or file: .*nowhere"):
        COCOKarpathy(tmp_path / "nowhere")
    with pytest.raises(
        FileNotFoundError,
        match=r"expected dataset_flickr30k\.json or flickr30k_val_karpathy\.txt in ",
    ):
        Flickr30k(tmp_path, "val")


# Flickr30k


def lines(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["image,caption", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("images", ["", "flickr30k-images", "flickr30k_images", "images"])
def test_karpathys_json(tmp_path: Path, images: str) -> None:
    entries = [entry("2.jpg", "test", FIVE), entry("1.jpg", "train", ["no"])]
    write(tmp_path / "dataset_flickr30k.json", entries, "flickr30k")
    photo(tmp_path / images / "2.jpg")
    data = Flickr30k(tmp_path)
    assert data.name == "Flickr30k Karpathy test (1 images; 5 captions)"
    assert data.captions == [tuple(FIVE)]
    assert (data[0].name, data[0].facts) == ("2.jpg", {})
    assert data[0].image.getpixel((0, 0)) == colour_of("2.jpg")


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    for name in ("1.jpg", "2.jpg"):
        photo(tmp_path / name)
    return tmp_path


def test_tokens_take_no_memory(tmp_path: Path) -> None:
    """They are most of Karpathy's file, and nobody reads them."""
    tokens = [f"word{number}" for number in range(12)]
    sentences = [
        {"tokens": tokens, "raw": f"Caption {n}.", "imgid": n, "sentid": n} for n in range(5)
    ]
    entries = [
        {"filepath": "train2014", "filename": f"{number}.jpg", "split": "train",
         "imgid": number, "sentids": [*range(5)], "sentences": sentences}
        for number in range(2000)
    ]  # fmt: skip
    entries[7]["split"] = "test"
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps({"dataset": "coco", "images": entries}))
    tracemalloc.start()
    try:
        (photo,) = from_karpathy(path, "test", "coco")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert photo.captions == tuple(f"Caption {n}." for n in range(5))
    assert peak < 4 * path.stat().st_size


def test_lines_without_quotes(pair: Path) -> None:
    """CLIP_benchmark's: whatever follows the file and its comma is the caption."""
    lines(
        pair / "flickr30k_test_karpathy.txt",
        "2.jpg,A man, seated, reads.",
        '2.jpg,"Stop" says the sign, "now"',
        "1.jpg,One.jpg, of many.jpg,s",
        "",
        "2.jpg,  A man reads . ",
        '1.jpg,"unbalanced',
    )
    data = Flickr30k(pair)
    assert data.captions == [
        ("A man, seated, reads.", '"Stop" says the sign, "now"', "A man reads ."),
        ("One.jpg, of many.jpg,s", '"unbalanced'),
    ]
    assert [data[place].name for place in (0, 1)] == ["2.jpg", "1.jpg"]
    assert data[1].captions == data.captions[1]


def test_a_quote_that_goes_on_makes_no_table(pair: Path) -> None:
    lines(pair / "flickr30k_test_karpathy.txt", '1.jpg,"Stop" says a sign', "2.jpg,A sign")
    assert Flickr30k(pair).captions == [('"Stop" says a sign',), ("A sign",)]


def test_a_table_with_quotes(pair: Path) -> None:
    path = lines(
        pair / "captions.txt",
        '1.jpg,"A man, seated, ""reads""."',
        "1.jpg,A man reads.",
        '2.jpg,"Two\nlines"',
    )
    assert Flickr30k(path).captions == [
        ('A man, seated, "reads".', "A man reads."),
        ("Two\nlines",),
    ]


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_titles(pair: Path, start: str, end: str) -> None:
    rows = ["1.jpg,a", "2.jpg,b"]
    for number, titles in enumerate(([], ["image,caption"], ["image_name,comment_number,c"])):
        path = pair / f"{number}.txt"
        path.write_bytes((start + end.join([*titles, *rows]) + end).encode())
        assert Flickr30k(path).captions == [("a",), ("b",)]


def test_the_json_comes_first(pair: Path) -> None:
    lines(pair / "flickr30k_test_karpathy.txt", "1.jpg,of the lines")
    assert Flickr30k(pair).captions == [("of the lines",)]
    write(pair / "dataset_flickr30k.json", [entry("2.jpg", "test", ["of the JSON"])], "flickr30k")
    assert Flickr30k(pair).captions == [("of the JSON",)]
    assert Flickr30k(pair / "flickr30k_test_karpathy.txt").captions == [("of the lines",)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1.jpg,a", "2.jpg"], "a file, a comma and a caption in line 3 of .*, got '2.jpg'"),
        (["1.jpg,a", "2.jpg,  "], "in line 3 of "),
        (["no file, a caption"], "in line 2 of .*, got 'no file, a caption'"),
        ([], 'expected a line "image,caption" and then .*, got no caption'),
    ],
)
def test_lines_of_another_kind(pair: Path, rows: list[str], message: str) -> None:
    lines(pair / "flickr30k_test_karpathy.txt", *rows)
    with pytest.raises(ValueError, match=f"root: .*{message}"):
        Flickr30k(pair)


def test_lines_that_are_no_text(pair: Path) -> None:
    (pair / "flickr30k_test_karpathy.txt").write_bytes(b"1.jpg,caf\xe9")
    with pytest.raises(ValueError, match=r"root: cannot read .*karpathy\.txt: "):
        Flickr30k(pair)
