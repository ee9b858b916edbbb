"""Data by scheme: what a line of text opens, and what it says where it opens nothing."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT
from PIL import Image

from cci_captum.benchmarks.commands import _data, compare
from cci_captum.benchmarks.commands._common import _SHARED, CommandError
from cci_captum.benchmarks.data import (
    SOURCES,
    COCOKarpathy,
    Flickr30k,
    ImageFolders,
    ImageNet,
    Scenes,
    Source,
    SourceOption,
    open_data,
)
from cci_captum.benchmarks.data.open import read_source

DOCS = ROOT / "docs"


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with two photos each."""
    for name in ("cat/1.png", "cat/2.png", "polar_bear/1.png", "polar_bear/2.png"):
        photo(tmp_path / "photos" / name)
    return tmp_path / "photos"


def karpathy(root: Path, dataset: str, folder: str) -> Path:
    entry = {"filename": "1.jpg", "split": "test", "sentences": [{"raw": "A cat."}] * 6}
    entry |= {"filepath": folder} if folder else {}
    content = {"dataset": dataset, "images": [entry, entry | {"filename": "2.jpg"}]}
    for number in (1, 2):
        photo(root / folder / f"{number}.jpg")
    (root / f"dataset_{dataset}.json").write_text(json.dumps(content))
    return root


def preprocess(image: Image.Image) -> torch.Tensor:
    return torch.zeros(3, 24, 24)


# what is opened


def test_scenes_by_text() -> None:
    data = open_data("scenes:n=5,objects=two,artwork=held-out,seed=3,size=32")
    same = Scenes(5, kind="two", artwork="held-out", seed=3, size=32)
    assert isinstance(data, Scenes) and len(data) == 5
    assert (data.name, data.targets, data.listing) == (same.name, same.targets, same.listing)
    assert data[4].image.tobytes() == same[4].image.tobytes()


def test_scenes_as_they_are() -> None:
    data = open_data("scenes")
    assert (len(data), data.name) == (100, "scenes (train artwork, one object, seed 0)")
    assert data[0].image.size == (192, 192)
    assert open_data("scenes: n = 2 , seed=1")[0].name == "scene 0"  # spaces do not count


def test_scenes_are_twice_as_large_as_the_model_sees() -> None:
    assert open_data("scenes", preprocess=preprocess)[0].image.size == (48, 48)
    assert open_data("scenes:size=32", preprocess=preprocess)[0].image.size == (32, 32)


@pytest.mark.parametrize("prefix", ["", "folder:"])
def test_folders(folder: Path, prefix: str) -> None:
    data = open_data(
        f"{prefix}{folder}",
        preprocess=preprocess,
        n=3,
        seed=1,
        classes=["polar bear", "cat", "dog"],
    )
    same = ImageFolders(folder, class_names=["polar bear", "cat", "dog"], count=3, seed=1)
    assert isinstance(data, ImageFolders)
    assert (data.name, data.class_names) == (same.name, same.class_names)
    assert (data.targets, data.listing) == (same.targets, same.listing)


def test_masks_and_class_names_from_a_file(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.png"):
        mask = tmp_path / "masks" / path.relative_to(folder)
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 3), 1).save(mask)
    names = tmp_path / "names.txt"
    names.write_text("cat\ttom cat\npolar_bear\tice bear\n")
    data = open_data(str(folder), masks=tmp_path / "masks", classes=names)
    assert data.has_masks and data[0].mask is not None and bool(data[0].mask.all())
    assert data.class_names == ("tom cat", "ice bear")


def test_imagenet(tmp_path: Path) -> None:
    photo(tmp_path / "n02123045" / "1.JPEG")
    data = open_data(f"imagenet:{tmp_path}")
    assert isinstance(data, ImageNet) and data.targets == [281]


def test_captioned(tmp_path: Path) -> None:
    coco = open_data(f"coco:{karpathy(tmp_path / 'c', 'coco', 'val2014')}", captions=5, n=1)
    assert isinstance(coco, COCOKarpathy) and coco.captions == [("A cat.",) * 5]
    flickr = open_data(f"flickr30k:{karpathy(tmp_path / 'f', 'flickr30k', '')}", split="test")
    assert isinstance(flickr, Flickr30k) and flickr.captions == [("A cat.",) * 6] * 2


@pytest.mark.parametrize("name", ["a, b=c", "n=3,seed=2", "http:", "scenes:n=x"])
@pytest.mark.parametrize("prefix", ["./", "folder:", "imagenet:"])
def test_paths_may_hold_commas_and_colons(
    name: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / name / "n02123045" / "1.png")
    assert len(open_data(prefix + name)) == 1


def test_a_folder_with_the_name_of_a_scheme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rename(folder.parent / "scenes")
    monkeypatch.chdir(folder.parent)
    for text in ("./scenes", "folder:scenes"):
        assert open_data(text).class_names == ("cat", "polar bear")
    assert isinstance(open_data("scenes"), Scenes)


@pytest.mark.parametrize("path", ["C:\\photos", "C:/photos", "c:photos"])
def test_a_drive_is_no_scheme(path: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=re.escape(f"data: no such folder: {path};")):
        open_data(path)
    assert read_source(f"imagenet:{path}") == ("imagenet", {"root": path})
    monkeypatch.chdir(folder.parent)
    Path(path).parent.mkdir(exist_ok=True)
    folder.rename(path)  # here, a name like others
    assert open_data(path).class_names == ("cat", "polar bear")


def test_a_new_source_is_an_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = SOURCES["scenes"].options[0].kind
    option = SourceOption("many", "count", kind, "how many")
    made = Source(lambda preprocess, count=2: Scenes(count, size=16), (option,), "", path=False)
    monkeypatch.setitem(SOURCES, "toys", made)
    assert len(open_data("toys")) == 2 and len(open_data("toys:many=3")) == 3
    with pytest.raises(ValueError, match=re.escape("webdataset:DIR, covar:DIR, toys")):
        open_data("toy:many=3")


# what is not


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "voc:x",
            {},
            "data: expected one of scenes, folder:DIR, imagenet:DIR, imagenet9:DIR, "
            "imagenet9-challenge:DIR, waterbirds:DIR, hardimagenet:DIR, counteranimal:DIR, "
            "coco:DIR, flickr30k:DIR, webdataset:DIR, covar:DIR, or a folder, got 'voc:x'",
        ),
        ("scenes:colour=red", {}, "an option of scenes (n, objects, artwork, seed, size), got 'c"),
        (
            "scenes:objects=three",
            {},
            "data: objects of scenes: expected one of one, two, each, got 'th",
        ),
        (
            "scenes:artwork=new",
            {},
            "artwork of scenes: expected one of train, held-out, all, each, got",
        ),
        ("scenes:n=0", {}, "data: n of scenes: expected a positive int, got '0'"),
        ("scenes:n=1.5", {}, "data: n of scenes: expected a positive int, got '1.5'"),
        ("scenes:seed=-1", {}, "data: seed of scenes: expected an int of at least 0, got '-1'"),
        ("scenes:size=8", {}, "data: size of scenes: expected an int of at least 16, got '8'"),
        ("scenes:n=1,n=1", {}, "data: expected each option of scenes once, got 'n' again"),
        ("scenes:", {}, "as n=500, got ''"),
        ("scenes:n=1,", {}, "as n=500, got ''"),
        ("scenes:500", {}, "as n=500, got '500'"),
        ("scenes:n=1", {"n": 1}, "n: expected it once, got it in 'scenes:n=1' and beside it"),
        ("scenes", {"n": 0}, "n: expected a positive int, got 0"),
        ("scenes", {"masks": "m"}, "an option of scenes (n, objects, artwork, seed, size), got 'm"),
        ("scenes", {"kind": "two"}, "got 'kind'"),  # that is Scenes' own word
        ("folder:", {}, "data: expected a folder after 'folder:'"),
        ("photos", {"n": 5}, "n: expected at most the 4 images, got 5"),
        ("photos", {"classes": ["cat"]}, "classes: 1 of the 2 folders in photos match none"),
        ("photos", {"classes": 3}, "classes: expected names, names by folder, or a file of"),
        ("photos", {"classes": "bad.json"}, "classes: bad.json: expected a list of names"),
        ("photos", {"masks": ""}, "masks: expected a path, got ''"),
        ("coco:photos", {"split": "dev"}, "split: expected one of train, restval, val, test, got"),
    ],
)
def test_errors_list_what_there_is(
    text: str,
    options: dict[str, Any],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("bad.json").write_text("3")
    with pytest.raises(ValueError, match=re.escape(message)):
        open_data(text, **options)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("nowhere", {}, "data: no such folder: nowhere; expected one of scenes, folder:DIR, "),
        ("", {}, "data: no such folder: ; expected one of scenes"),
        ("folder:nowhere", {}, "data: no such folder: nowhere"),
        ("coco:nowhere", {}, "data: no such folder or file: nowhere"),
        ("photos", {"masks": "nowhere"}, "masks: no such folder: nowhere"),
        ("photos", {"classes": "nowhere"}, "classes: [Errno 2]"),
    ],
)
def test_what_is_not_there(
    text: str,
    options: dict[str, Any],
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}"):
        open_data(text, **options)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(NotADirectoryError, match=r"data: expected a folder, got a file: "):
        open_data(str(folder / "cat" / "1.png"))


@pytest.mark.parametrize("text", [None, 3, Path("photos"), b"scenes"])
def test_text_is_text(text: Any) -> None:
    with pytest.raises(TypeError, match="data: expected a str, got "):
        open_data(text)


# the command line


def arguments(*options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    compare.add_to(parser.add_subparsers())
    return parser.parse_args(["compare", *options])


def found(*options: str) -> Any:
    chosen = arguments(*options)
    _data.check_data(chosen)
    return _data.find_data(chosen, preprocess)


def test_options_say_the_same_beside_data_and_in_it() -> None:
    options = ["--n", "3", "--objects", "two", "--artwork", "held-out", "--seed", "4"]
    beside = found("--data", "scenes", *options)
    inside = found("--data", "scenes:n=3,objects=two,artwork=held-out,seed=4")
    assert beside.name == inside.name == "scenes (held-out artwork, two objects, seed 4)"
    assert len(beside) == len(inside) == 3
    assert beside.listing == inside.listing == ("48 pixels",)
    assert len(found()) == 100


def test_what_data_says_counts() -> None:
    """`--seed` is that of ties, too, so that both may be given."""
    data = found("--data", "scenes:seed=4,n=2", "--seed", "5", "--n", "2", "--objects", "two")
    assert data.name == "scenes (train artwork, two objects, seed 4)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["scenes:objects=one", "--objects", "two"], "--objects: --data says objects=one, got 'tw"),
        (["scenes:n=3", "--n", "2"], "--n: --data says n=3, got 2"),
        (["scenes:n=3", "--masks", "m"], "--masks: scenes have their own; expected --data DIR"),
        (["scenes:colour=red"], "--data: expected an option of scenes (n, objects, "),
        (["voc:x"], "--data: expected one of scenes, folder:DIR, "),
        (["imagenet:x", "--classes", "c"], "--classes: ImageNet has its own; expected --data DIR"),
        (["coco:x", "--classes", "c"], "--classes: coco has captions; expected --data DIR"),
        (["nowhere"], "--data: no such folder: nowhere; expected one of scenes"),
        (["photos", "--n", "9"], "--n: expected at most the 4 images, got 9"),
        (["photos", "--classes", "nowhere"], "--classes: [Errno 2]"),
        (["coco:c"], "--data: expected images of classes, got captions alone: COCO Karpathy test"),
    ],
)
def test_errors_of_the_command_line(
    options: list[str], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    karpathy(Path("c"), "coco", "val2014")
    with pytest.raises(CommandError, match=f"^{re.escape(message)}"):
        found("--data", *options)


def test_who_has_masks() -> None:
    for options, expected in (
        (["--data", "scenes"], True),
        (["--data", "scenes:n=3"], True),
        (["--data", "."], False),
        (["--data", ".", "--masks", "m"], True),
        (["--data", "coco:x"], False),
    ):
        assert _data.has_masks(arguments(*options)) == expected


# documentation


@pytest.mark.parametrize("scheme", SOURCES)
def test_every_source_is_documented(scheme: str) -> None:
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    source = SOURCES[scheme]
    text = f"`{scheme}:DIR`" if source.path else f"`{scheme}`"
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {text} |")]
    assert re.findall(r"`(\w+)`", row.split("|")[3]) == [option.name for option in source.options]
    assert source.help and all(option.help for option in source.options)


def test_the_help_names_what_compare_takes() -> None:
    text = _SHARED["--data"]["help"]
    classes = [name for name, source in SOURCES.items() if not source.own.endswith("captions")]
    assert all(f'"{name}' in text for name in classes)
