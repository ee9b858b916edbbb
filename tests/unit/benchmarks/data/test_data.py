"""Scenes and folders of images as data to compare on, against what was put into them."""

from __future__ import annotations

import os
import pickle
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, features
from timm.data import ImageNetInfo

from cci_captum import ZeroShotClassifier, load_clip
from cci_captum.benchmarks.data import (
    ImageData,
    ImageFolders,
    ImageNet,
    Scenes,
    _tree,
    read_class_names,
)
from cci_captum.benchmarks.scenes import SceneGenerator
from cci_captum.tiny import CLASS_NAMES, TEMPLATES

RED = (255, 0, 0)
SIZE = (4, 3)  # width and height of the pictures
TREE = {"cat": ["1.png", "2.png"], "dog": ["1.png"], "polar_bear": ["1.png", "b.png", "a.png"]}


def colour_of(name: str) -> tuple[int, ...]:
    """A colour that tells the picture."""
    return tuple(np.random.default_rng(list(name.encode())).integers(0, 256, 3).tolist())


def make_tree(root: Path, tree: dict[str, list[str]] = TREE) -> Path:
    for folder, files in tree.items():
        (root / folder).mkdir(parents=True)
        for file in files:
            image = Image.new("RGB", SIZE, colour_of(f"{folder}/{file}"))
            image.save(root / folder / file)
    return root


def make_masks(root: Path, tree: dict[str, list[str]] = TREE) -> Path:
    """One pixel in each mask, at a place that tells the picture."""
    for folder, files in tree.items():
        (root / folder).mkdir(parents=True)
        for file in files:
            mask = Image.new("L", SIZE)
            mask.putpixel(place_of(f"{folder}/{file}"), 1)
            mask.save((root / folder / file).with_suffix(".png"))
    return root


def place_of(name: str) -> tuple[int, int]:
    return colour_of(name)[0] % SIZE[0], colour_of(name)[1] % SIZE[1]


def names_of(data: ImageData) -> list[str]:
    return [data[index].name for index in range(len(data))]


# all kinds


@pytest.fixture(params=["scenes", "folders", "imagenet"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> ImageData:
    if request.param == "scenes":
        return Scenes(3, size=16)
    if request.param == "folders":
        return ImageFolders(make_tree(tmp_path, {"cat": ["1.png", "2.png"], "dog": ["1.png"]}))
    ids = {"n02123045": ["1.png", "2.png"], "n01440764": ["1.png"]}
    return ImageNet(make_tree(tmp_path, ids))


def test_samples_by_number(data: ImageData) -> None:
    assert len(data) == 3
    assert len(set(names_of(data))) == 3
    assert [data[index].name for index in (-3, -2, -1)] == names_of(data)
    assert data[np.int64(1)].name == data[1].name
    for index in range(3):
        sample = data[index]
        assert sample.image.mode == "RGB"
        assert 0 <= sample.target < len(data.class_names)
        assert (sample.mask is not None) == data.has_masks


@pytest.mark.parametrize("index", [3, -4])
def test_no_such_sample(data: ImageData, index: int) -> None:
    with pytest.raises(IndexError, match=rf"index: expected -3 to 2, got {index}"):
        data[index]


@pytest.mark.parametrize("index", [slice(2), 1.0, "1"])
def test_an_index_is_an_int(data: ImageData, index: Any) -> None:
    with pytest.raises(TypeError):
        data[index]


def test_copies_in_other_processes_are_the_same(data: ImageData) -> None:
    copy = pickle.loads(pickle.dumps(data))
    assert (copy.name, copy.class_names, copy.templates) == (
        data.name,
        data.class_names,
        data.templates,
    )
    for index in range(3):
        assert copy[index].name == data[index].name
        assert copy[index].target == data[index].target
        assert copy[index].image.tobytes() == data[index].image.tobytes()


@pytest.mark.parametrize("seed", [-1, 0.5, True, None])
def test_seeds_are_ints(tmp_path: Path, seed: Any) -> None:
    make_tree(tmp_path)
    for make in (lambda: Scenes(1, seed=seed), lambda: ImageFolders(tmp_path, seed=seed)):
        with pytest.raises(ValueError, match=r"seed: expected an int that is not negative, got"):
            make()


# scenes


@pytest.mark.parametrize("kind", ["one", "two"])
@pytest.mark.parametrize("artwork", ["train", "held-out"])
def test_scenes_are_the_generators(artwork: str, kind: str) -> None:
    data = Scenes(4, artwork=artwork, kind=kind, seed=5, size=32)
    generator = SceneGenerator(32, artwork, 5)
    for index in (3, 0, 3):  # in any order, and again
        sample, scene = data[index], generator.scene(index, kind=kind)
        pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)
        torch.testing.assert_close(pixels / 255, scene.image, atol=0.501 / 255, rtol=0)
        assert sample.mask is not None and torch.equal(sample.mask, scene.masks[0])
        assert data.class_names[sample.target] == scene.class_names[0]
        assert sample.name == f"scene {index}"


def test_scenes_say_what_they_are() -> None:
    data = Scenes(2, artwork="held-out", kind="two", seed=11, size=16)
    assert data.name == "scenes (held-out artwork, two objects, seed 11)"
    assert (data.class_names, data.templates) == (CLASS_NAMES, TEMPLATES)
    assert Scenes(1).name == "scenes (train artwork, one object, seed 0)"
    assert Scenes(1)[0].image.size == (192, 192)


def test_scenes_of_each_kind_and_artwork_in_turn() -> None:
    data = Scenes(6, artwork="each", kind="each", seed=5, size=16)
    assert data.name == ("scenes (each artwork in turn, one and two objects in turn, seed 5)")
    cells = [("train", "one"), ("train", "two"), ("held-out", "one"), ("held-out", "two")]
    for number, (artwork, kind) in enumerate([*cells, *cells[:2]]):
        alone = Scenes(6, artwork=artwork, kind=kind, seed=5, size=16)
        same, sample = alone[number], data[number]
        assert sample.facts == {**same.facts, "objects": kind, "artwork": artwork}
        assert sample.image.tobytes() == same.image.tobytes()
        assert data.targets[number] == sample.target == same.target
        assert data.captions[number] == sample.captions == same.captions
    assert set(Scenes(2, kind="each", size=16)[1].facts) == {"background", "objects"}
    assert set(Scenes(2, artwork="each", size=16)[1].facts) == {"background", "artwork"}


def test_the_model_finds_the_targets_in_the_scenes() -> None:
    data = Scenes(30, seed=3)
    clip = load_clip("tiny")
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, data.class_names, data.templates)
    samples = [data[index] for index in range(len(data))]
    with torch.no_grad():
        logits = classifier(torch.stack([clip.preprocess(sample.image) for sample in samples]))
    right = logits.argmax(dim=1) == torch.tensor([sample.target for sample in samples])
    assert right.double().mean() > 0.8  # 1 in 33 by chance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count: expected a positive int, got 0"),
        ({"count": 2.0}, "count: expected a positive int, got 2.0"),
        ({"count": 1, "size": 8}, "size: expected at least 16 pixels, got 8"),
        ({"count": 1, "size": "96"}, "size: expected a positive int, got '96'"),
        (
            {"count": 1, "kind": "copies"},
            "kind: expected one of ('one', 'two', 'each'), got 'copies'",
        ),
        ({"count": 1, "artwork": "test"}, "artwork: expected one of ('train', "),
    ],
)
def test_no_such_scenes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Scenes(**arguments)


# folders: what is found


def test_folders_are_classes(tmp_path: Path) -> None:
    data = ImageFolders(make_tree(tmp_path / "photos"))
    assert data.name == "photos (6 images of 3 classes)"
    assert data.class_names == ("cat", "dog", "polar bear")
    assert data.templates == "a photo of a {}."
    assert not data.has_masks
    samples = [data[index] for index in range(len(data))]
    assert [(sample.name, sample.target) for sample in samples] == [
        ("cat/1.png", 0),
        ("cat/2.png", 0),
        ("dog/1.png", 1),
        ("polar_bear/1.png", 2),
        ("polar_bear/a.png", 2),
        ("polar_bear/b.png", 2),
    ]
    for sample in samples:
        assert sample.image.size == SIZE
        assert sample.image.getpixel((0, 0)) == colour_of(sample.name)


def test_names_that_are_given_have_the_order(tmp_path: Path) -> None:
    names = ["zebra", "polar bear", "dog", "cat"]
    data = ImageFolders(make_tree(tmp_path), class_names=names, templates=["a {}", "the {}"])
    assert data.class_names == tuple(names)
    assert data.templates == ("a {}", "the {}")
    assert [data[index].target for index in range(6)] == [3, 3, 2, 1, 1, 1]


def test_spaces_and_underscores_are_the_same(tmp_path: Path) -> None:
    make_tree(tmp_path, {"polar_bear": ["1.png"], "big cat": ["1.png"]})
    data = ImageFolders(tmp_path, class_names=["big_cat", "polar bear"])
    assert data.class_names == ("big_cat", "polar bear")  # as given
    assert [data[index].target for index in range(2)] == [0, 1]


def test_what_is_no_image_does_not_count(tmp_path: Path) -> None:
    kinds = ["a.jpg", "b.JPEG", "c.PNG", "d.webp", "e.bmp", "f.tif", "g.TIFF", "h.gif"]
    make_tree(tmp_path, {"cat": kinds, "cat/more": ["1.png"], ".trash": ["1.png"]})
    (tmp_path / "cat" / "folder.png").mkdir()
    for name in (".hidden.png", "notes.txt", "png", "a.png.part"):
        (tmp_path / "cat" / name).write_text("no image")
    (tmp_path / "beside.png").write_text("no image")
    with pytest.warns(UserWarning) as warned:
        data = ImageFolders(tmp_path)
    assert data.class_names == ("cat",)
    assert names_of(data) == [f"cat/{kind}" for kind in kinds]
    (note,) = data.notes
    assert note == str(warned[0].message)
    assert note == (
        f"left out of {tmp_path}: 2 x folder in a class folder, 1 x .part, 1 x .txt, 1 x file "
        "without suffix, 1 x image beside the class folders"
    )


def test_what_pillow_reads_is_an_image(tmp_path: Path) -> None:
    """Eleven files as people have them; .heic needs another library, .pdf is no image."""
    formats = {"a.jpg": "JPEG", "b.jfif": "JPEG", "c.JPE": "JPEG", "d.png": "PNG", "e.webp": "WEBP"}
    formats |= {"f.jp2": "JPEG2000", "g.ppm": "PPM", "h.tga": "TGA", "i.ico": "ICO"}
    if features.check("avif"):
        formats["j.avif"] = "AVIF"
    (tmp_path / "cat").mkdir()
    for name, kind in formats.items():
        Image.new("RGB", (32, 32), RED).save(tmp_path / "cat" / name, kind)
    for name in ("k.heic", "l.pdf", "m.eps", "n.mpg", "o.h5"):
        (tmp_path / "cat" / name).write_text("no image")
    with pytest.warns(
        UserWarning, match=r": 1 x \.eps, 1 x \.h5, 1 x \.heic, 1 x \.mpg, 1 x \.pdf$"
    ):
        data = ImageFolders(tmp_path)
    assert names_of(data) == [f"cat/{name}" for name in sorted(formats)]
    for index in range(len(data)):
        found = np.asarray(data[index].image.getpixel((16, 16)))
        assert np.abs(found - RED).max() < 6, data[index].name


def test_nothing_left_out_is_nothing_to_say(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "classes.txt").write_text("cat")
    (tmp_path / "cat" / ".DS_Store").write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ImageFolders(tmp_path).notes == []


def test_scaling_is_said_once(tmp_path: Path) -> None:
    make_tree(tmp_path, {"cat": ["1.png"]})
    for number in (2, 3):  # 12 bits in 16
        values = np.array([[0, 4095]], dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / "cat" / f"{number}.png")
    data = ImageFolders(tmp_path)
    with pytest.warns(UserWarning, match=r"^cat/2\.png: .* 4095, .* divided by 65535") as warned:
        for index in range(3):
            data[index]
    assert len(warned) == 1 and data.notes == [str(warned[0].message)]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text there")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    make_tree(tmp_path / "a", {"cat": ["1.png"]})
    odd = os.fsencode(tmp_path / "a" / "cat") + b"/caf\xe9\n|.png"
    os.rename(tmp_path / "a" / "cat" / "1.png", odd)
    sample = ImageFolders(tmp_path / "a")[0]
    assert sample.name == "cat/caf\\xe9\\n|.png"
    Path(os.fsdecode(odd)).write_bytes(b"")
    with pytest.raises(ValueError) as raised:
        ImageFolders(tmp_path / "a")[0]
    assert str(raised.value).encode().endswith(b"cat/caf\\xe9\\n|.png")
    os.mkdir(os.fsencode(tmp_path / "a") + b"/caf\xe9")
    with pytest.raises(ValueError, match=r"root: .* UTF-8, .*, got 'caf\\\\xe9' in "):
        ImageFolders(tmp_path / "a")


def test_images_are_shown_as_viewers_show_them(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("L", SIZE).save(tmp_path / "cat" / "1.jpg", exif=exif)
    image = ImageFolders(tmp_path)[0].image
    assert (image.mode, image.size) == ("RGB", SIZE[::-1])


def test_the_file_systems_order_is_of_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = [ImageFolders(make_tree(tmp_path), count=4)]
    scandir = _tree.os.scandir
    for turn in (lambda entries: entries, lambda entries: entries[::-1]):
        monkeypatch.setattr(
            _tree.os,
            "scandir",
            lambda path, turn=turn: turn(sorted(scandir(path), key=lambda entry: entry.name)),
        )
        data.append(ImageFolders(tmp_path, count=4))
    for other in data[1:]:
        assert other.class_names == data[0].class_names
        assert names_of(other) == names_of(data[0])


# folders: what is drawn

SIZES = {"a": 1, "b": 3, "c": 3, "d": 9}


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    return make_tree(tmp_path, {f: [f"{i}.png" for i in range(n)] for f, n in SIZES.items()})


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", [0, 1])
def test_draws_are_as_even_as_can_be(uneven: Path, seed: int) -> None:
    before: set[str] = set()
    for count in range(1, 17):
        data = ImageFolders(uneven, count=count, seed=seed)
        names = names_of(data)
        assert names == sorted(set(names)) and len(names) == len(data) == count
        drawn = Counter(name[0] for name in names)
        for few, size in SIZES.items():  # where two more are drawn elsewhere, nothing is left
            assert drawn[few] == size or max(drawn.values()) - drawn[few] <= 1
        assert before < set(names)  # a larger draw adds to a smaller one
        before = set(names)
        assert data[0].image.getpixel((0, 0)) == colour_of(names[0])
        assert data.class_names == ("a", "b", "c", "d")


@pytest.mark.exhaustive
def test_seeds_choose_what_is_drawn(uneven: Path) -> None:
    draws = [names_of(ImageFolders(uneven, count=2, seed=seed)) for seed in range(75)]
    assert draws[0] == names_of(ImageFolders(uneven, count=2, seed=0))
    times = Counter(name for names in draws for name in names)
    assert len(times) == 16  # all of them, some time
    folders = Counter(name[0] for names in draws for name in names)
    assert all(18 <= folders[folder] <= 57 for folder in SIZES)  # 37.5 each; sd 4.3


def test_names_say_what_is_drawn(uneven: Path) -> None:
    end = "16 images of 4 classes"
    assert ImageFolders(uneven, count=5, seed=2).name == f"{uneven.name} (5 of {end}, seed 2)"
    assert ImageFolders(uneven, count=16, seed=2).name == f"{uneven.name} ({end})"
    assert names_of(ImageFolders(uneven, count=16)) == names_of(ImageFolders(uneven))


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (17, "count: expected at most the 16 images, got 17"),
        (0, "count: expected a positive int or None, got 0"),
        (2.0, "count: expected a positive int or None, got 2.0"),
    ],
)
def test_no_such_draw(uneven: Path, count: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageFolders(uneven, count=count)


# folders: masks


def test_masks_belong_to_their_images(tmp_path: Path) -> None:
    tree = {"cat": ["1.jpg", "2.b.JPEG"], "dog": ["1.png"]}
    root, masks = make_tree(tmp_path / "a", tree), make_masks(tmp_path / "b", tree)
    data = ImageFolders(root, masks=masks, count=2, seed=1)
    assert data.has_masks
    for index in range(2):
        mask = data[index].mask
        x, y = place_of(data[index].name)
        assert mask is not None and mask.dtype == torch.bool and mask.shape == SIZE[::-1]
        assert mask.nonzero().tolist() == [[y, x]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_masks_of_every_kind(tmp_path: Path, mode: str) -> None:
    root, masks = (make(tmp_path / mode, {"cat": ["1.png"]}) for mode, make in
                   (("images", make_tree), ("masks", make_masks)))  # fmt: skip
    nothing: Any = {"LA": (0, 255), "RGB": (0, 0, 0), "RGBA": (0, 0, 0, 255)}.get(mode, 0)
    something: Any = {"LA": (1, 0), "RGB": (0, 0, 1), "RGBA": (0, 1, 0, 255)}.get(mode, 1)
    image = Image.new(mode, SIZE, nothing)
    if mode == "P":
        image.putpalette([255, 255, 255, 0, 0, 0])  # numbers count, not colours
    image.putpixel((3, 1), something)
    image.save(masks / "cat" / "1.png")
    assert Image.open(masks / "cat" / "1.png").mode == mode
    mask = ImageFolders(root, masks=masks)[0].mask
    assert mask is not None and mask.nonzero().tolist() == [[1, 3]]


def test_masks_fit_images_as_they_are_shown(tmp_path: Path) -> None:
    root, masks = make_tree(tmp_path / "a", {"cat": ["1.jpg"]}), tmp_path / "b"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(root / "cat" / "1.jpg", exif=exif)
    (masks / "cat").mkdir(parents=True)
    Image.new("L", SIZE[::-1], 255).save(masks / "cat" / "1.png")
    mask = ImageFolders(root, masks=masks)[0].mask
    assert mask is not None and tuple(mask.shape) == SIZE
    Image.new("L", SIZE, 255).save(masks / "cat" / "1.png")
    message = r"expected the size of the image .*: the mask .*b/cat/1\.png \(4 x 3, not 3 x 4\)"
    with pytest.raises(ValueError, match=message):
        ImageFolders(root, masks=masks)[0]


@pytest.mark.parametrize("damage", ["empty", "cut", "zero", "removed"])
def test_masks_that_cannot_be_used(tmp_path: Path, damage: str) -> None:
    tree = {"cat": ["1.png"]}
    root, masks = make_tree(tmp_path / "a", tree), make_masks(tmp_path / "b", tree)
    data, path = ImageFolders(root, masks=masks), masks / "cat" / "1.png"
    if damage == "zero":
        Image.new("L", SIZE).save(path)
    elif damage == "removed":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 44 if damage == "cut" else 0])
    error = FileNotFoundError if damage == "removed" else ValueError
    with pytest.raises(error, match=r"(: the mask|no such image:) .*b/cat/1\.png$"):
        data[0]


def test_missing_masks(tmp_path: Path) -> None:
    tree = {"cat": [f"{i}.jpg" for i in range(6)], "dog": ["1.jpg"]}
    root, masks = make_tree(tmp_path / "a", tree), make_masks(tmp_path / "b", {"cat": ["3.jpg"]})
    message = (
        f"masks: expected a mask for each of the 7 images in {masks}, missing 'cat/0.png', "
        "'cat/1.png', 'cat/2.png', 'cat/4.png', 'cat/5.png' and 1 more"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        ImageFolders(root, masks=masks, count=1)


def test_images_do_not_share_a_mask(tmp_path: Path) -> None:
    tree = {"cat": ["1.jpg", "1.png", "2.png"]}
    root, masks = make_tree(tmp_path / "a", tree), make_masks(tmp_path / "b", tree)
    message = (
        f"masks: expected a mask of its own for each image, got 'cat/1.png' in {masks} for both "
        "'cat/1.jpg' and 'cat/1.png'; name them 'cat/1.jpg.png' and 'cat/1.png.png'"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ImageFolders(root, masks=masks)
    (masks / "cat" / "1.png").unlink()
    for x, name in enumerate(["1.jpg.png", "1.png.png"]):
        mask = Image.new("L", SIZE)
        mask.putpixel((x, 0), 1)
        mask.save(masks / "cat" / name)
    data = ImageFolders(root, masks=masks)
    places = [data[index].mask.nonzero().tolist() for index in range(3)]  # type: ignore[union-attr]
    x, y = place_of("cat/2.png")
    assert places == [[[0, 0]], [[0, 1]], [[y, x]]]


def test_a_damaged_image_needs_no_mask(tmp_path: Path) -> None:
    tree = {"cat": ["1.png", "2.png"]}
    root, masks = make_tree(tmp_path / "a", tree), make_masks(tmp_path / "b", {"cat": ["1.png"]})
    with pytest.raises(FileNotFoundError, match=r"masks: .* missing 'cat/2\.png'"):
        ImageFolders(root, masks=masks)
    (root / "cat" / "2.png").write_text("no image")
    data = ImageFolders(root, masks=masks)
    assert data[0].mask is not None
    with pytest.raises(ValueError, match=r"not an image, .*a/cat/2\.png"):
        data[1]


@pytest.mark.parametrize("inside", ["", "cat"])
def test_images_are_no_masks(tmp_path: Path, inside: str) -> None:
    message = f"masks: expected a folder outside of root, {tmp_path}, got {tmp_path / inside}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ImageFolders(make_tree(tmp_path), masks=tmp_path / inside)


def test_no_folder_of_masks(tmp_path: Path) -> None:
    make_tree(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="masks: no such folder: "):
        ImageFolders(tmp_path / "a", masks=tmp_path / "b")
    (tmp_path / "b").write_text("")
    with pytest.raises(NotADirectoryError, match="masks: expected a folder, got a file: "):
        ImageFolders(tmp_path / "a", masks=tmp_path / "b")


# folders: what is wrong, said before anything is read


@pytest.mark.parametrize("make", [ImageFolders, ImageNet])
def test_roots_that_are_none(tmp_path: Path, make: Callable[..., ImageData]) -> None:
    with pytest.raises(FileNotFoundError, match=r"root: no such folder: .*nowhere"):
        make(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"root: expected a folder, got a file: .*file"):
        make(tmp_path / "file")
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"root: expected a folder .* each class, got none in .*y$"
    ):
        make(tmp_path / "empty")
    make_tree(tmp_path, {"loose": ["b.png", "a.png"]})
    with pytest.raises(ValueError, match=r"got 2 loose images in .*, such as 'a\.png'; move each"):
        make(tmp_path / "loose")


def test_folders_without_images(tmp_path: Path) -> None:
    make_tree(tmp_path, {"dog": [], "dog/images": ["1.png"], "owl": []})
    with pytest.raises(ValueError, match=r"root: expected images .*, got none in 'dog', 'owl'$"):
        ImageFolders(tmp_path)
    make_tree(tmp_path, {"cat": ["1.png"]})
    with pytest.warns(UserWarning) as warned:
        data = ImageFolders(tmp_path)
    assert re.search(r"no images directly in 'dog', 'owl' of .* stay among", str(warned[1].message))
    assert data.class_names == ("cat", "dog", "owl")  # what is told apart does not change
    assert data.name == f"{tmp_path.name} (1 images of 1 classes)"
    assert len(data.notes) == 2 and "1 x folder in a class folder" in data.notes[0]


def test_folders_that_match_no_class(tmp_path: Path) -> None:
    folders = ["cat", "Dog", "polar_beer", "x1", "x2", "x3", "x4", "x5"]
    make_tree(tmp_path, {folder: ["1.png"] for folder in folders})
    message = (
        f"class_names: 7 of the 8 folders in {tmp_path} match none of the 3 names: 'Dog', "
        "'polar_beer', 'x1', 'x2', 'x3' and 2 more; close to these are 'dog', 'polar bear'"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ImageFolders(tmp_path, class_names=["polar bear", "dog", "cat"])
    with pytest.raises(ValueError, match=r"match none of the 1 names: .* and 2 more$"):
        ImageFolders(tmp_path, class_names=["cat"])


def test_names_that_are_not_different(tmp_path: Path) -> None:
    make_tree(tmp_path, {"polar bear": ["1.png"]})
    with pytest.raises(ValueError, match=r"class_names: .* more than once 'polar bear'"):
        ImageFolders(tmp_path, class_names=["polar bear", "polar_bear"])
    make_tree(tmp_path, {"polar_bear": ["1.png"]})
    with pytest.raises(ValueError, match=r"root: .* more than once 'polar bear'"):
        ImageFolders(tmp_path, class_names=["polar bear"])


@pytest.mark.parametrize("names", ["cat", [], ()])
def test_no_names(tmp_path: Path, names: Any) -> None:
    with pytest.raises(ValueError, match="class_names: expected a sequence of at least one name"):
        ImageFolders(make_tree(tmp_path), class_names=names)


def test_names_are_strings(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="class_names: expected strings, got int"):
        ImageFolders(make_tree(tmp_path), class_names=["cat", 1])  # type: ignore[list-item]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    make_tree(tmp_path, {"cat": ["1.png", "2.png"]})
    (tmp_path / "cat" / "2.png").write_text("no image")
    data = ImageFolders(tmp_path)
    assert data[0].name == "cat/1.png"
    with pytest.raises(ValueError, match=r"not an image, .*cat/2\.png"):
        data[1]
    (tmp_path / "cat" / "1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no such image: .*cat/1\.png"):
        data[0]


# ImageNet

KNOWN = {  # from ILSVRC 2012's list of classes: place among the sorted ids, and OpenAI's name
    "n01440764": (0, "tench"),
    "n01484850": (2, "great white shark"),
    "n02123045": (281, "tabby cat"),
    "n02504458": (386, "African bush elephant"),
    "n03196217": (530, "digital clock"),
    "n07753592": (954, "banana"),
    "n15075141": (999, "toilet paper"),
}


def test_imagenet_ids_are_targets(tmp_path: Path) -> None:
    data = ImageNet(make_tree(tmp_path, {name: ["1.JPEG"] for name in reversed(KNOWN)}))
    assert data.name == "ImageNet (7 images of 7 classes)"
    assert data.templates == "openai-imagenet"
    assert len(data.class_names) == 1000
    for index, (name, known) in enumerate(KNOWN.items()):
        sample = data[index]
        assert sample.name == f"{name}/1.JPEG"
        assert (sample.target, data.class_names[sample.target]) == known


def test_imagenet_names_describe_their_ids(tmp_path: Path) -> None:
    data = ImageNet(make_tree(tmp_path, {"n01440764": ["1.JPEG"]}))
    info = ImageNetInfo("imagenet-1k")

    def words(text: str) -> set[str]:
        return set(re.findall("[a-z]+", text.lower()))

    described = [words(info.index_to_description(index, detailed=True)) for index in range(1000)]

    def agreement(shift: int) -> int:
        names = data.class_names[shift:] + data.class_names[:shift]
        return sum(bool(words(n) & d) for n, d in zip(names, described, strict=True))

    assert agreement(0) >= 970  # others have synonyms, such as rooster and cock
    assert max(agreement(1), agreement(-1)) < 400


def test_imagenet_takes_masks_and_draws(tmp_path: Path) -> None:
    tree = {name: ["1.JPEG", "2.JPEG"] for name in KNOWN}
    root, masks = make_tree(tmp_path / "a", tree), make_masks(tmp_path / "b", tree)
    data = ImageNet(root, masks=masks, count=7, seed=3)
    assert data.name == "ImageNet (7 of 14 images of 7 classes, seed 3)"
    assert [data[index].target for index in range(7)] == [index for index, _ in KNOWN.values()]
    sample = data[0]
    x, y = place_of(sample.name)
    assert sample.mask is not None and sample.mask.nonzero().tolist() == [[y, x]]


def test_imagenet_of_other_ids(tmp_path: Path) -> None:
    make_tree(tmp_path, {"n01440764": ["1.JPEG"], "n00000001": ["1.JPEG"], "tench": ["1.JPEG"]})
    message = f"2 of the 3 in {tmp_path} are not: 'n00000001', 'tench'"
    with pytest.raises(ValueError, match=f"root: .* 1000 classes, .*{re.escape(message)}$"):
        ImageNet(tmp_path)


@pytest.mark.parametrize("splits", [["train", "val"], ["val"], ["train"]])
def test_imagenet_one_level_too_high(tmp_path: Path, splits: list[str]) -> None:
    make_tree(tmp_path, {f"{split}/n01440764": ["1.JPEG"] for split in [*splits, "test"]})
    with pytest.raises(ValueError, match=rf"root: .*; use {tmp_path / splits[-1]}$"):
        ImageNet(tmp_path)


def test_imagenet_without_folders(tmp_path: Path) -> None:
    make_tree(tmp_path, {"val": [f"ILSVRC2012_val_0000000{i}.JPEG" for i in range(1, 4)]})
    message = r"3 loose images in .*val, such as 'ILSVRC.*1\.JPEG'; move .* WordNet id .*devkit"
    with pytest.raises(ValueError, match=message):
        ImageNet(tmp_path / "val")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "dog\n\n hot dog \ncat\n", ["dog", "hot dog", "cat"]),
        ("a.txt", "10\tpolar bear\r\n\n7\t cat", {"10": "polar bear", "7": "cat"}),
        ("a.txt", "\ufeffcat\n", ["cat"]),
        ("a.json", '["cat", "dog"]', ["cat", "dog"]),
        ("a.JSON", '{"10": "polar bear", "7": "cat"}', {"10": "polar bear", "7": "cat"}),
    ],
)
def test_class_names_from_a_file(name: str, text: str, expected: object, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_class_names(tmp_path / name)
    assert found == expected and list(found) == list(expected)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "7\tcat\n10 polar bear\n", "every line or in none, line 2 has none: '10 polar"),
        ("a.txt", "7\tcat\tdog\n", "expected a folder, a tab and a name, got '7"),
        ("a.txt", "7\tcat\n7\tdog\n", "expected each folder once, got more than once '7'"),
        ("a.json", '{"7": "cat", "7": "dog"}', "expected each folder once, got more than once '7'"),
        ("a.json", '{"7": 1}', "expected a list of names, or an object from folders to names"),
        ("a.json", '"cat"', "expected a list of names, or an object from folders to names"),
        ("a.json", "{", "Expecting"),
    ],
)
def test_files_without_class_names(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_class_names(tmp_path / name)


def make_folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir()
        Image.new("RGB", (8, 6)).save(root / name / "1.png")
    return root


def test_names_by_folder(tmp_path: Path) -> None:
    root = make_folders(tmp_path, "10", "7", "hot_dog")
    names = {"7": "cat", "hot_dog": "sausage", "10": "polar bear"}
    data = ImageFolders(root, class_names=names)
    assert data.class_names == ("cat", "sausage", "polar bear")
    assert {sample.name: data.class_names[sample.target] for sample in data} == {
        "10/1.png": "polar bear",
        "7/1.png": "cat",
        "hot_dog/1.png": "sausage",
    }
    for wrong, message in (
        ({**names, "8": "dog"}, "for each of the 3 folders in .*, without a folder '8'"),
        ({"7": "cat"}, "for each of the 3 folders in .*, missing '10', 'hot_dog'"),
        ({**names, "7": "polar_bear"}, "class_names: expected different names.* 'polar bear'"),
    ):
        with pytest.raises(ValueError, match=message):
            ImageFolders(root, class_names=wrong)
    with pytest.raises(TypeError, match="class_names: expected strings, got int"):
        ImageFolders(root, class_names={**names, "7": 3})  # type: ignore[dict-item]


@pytest.mark.parametrize("names", [("1", "2"), ("cat", "007"), ("n12345678", "cat"), ("3.5", "a")])
def test_folders_named_by_numbers_are_asked_about(names: tuple[str, str], tmp_path: Path) -> None:
    root = make_folders(tmp_path, *names)
    number = next(name for name in names if any(map(str.isdigit, name)))
    match = f"root: expected folders named as their classes.* numbers: '{number}'.*--classes"
    with pytest.raises(ValueError, match=match):
        ImageFolders(root)
    # Digits may be what is to be told apart.
    assert ImageFolders(root, class_names=sorted(names)).class_names == tuple(sorted(names))


def test_wordnet_ids_have_names(tmp_path: Path) -> None:
    data = ImageFolders(make_folders(tmp_path, "n01440764", "n02123045", "my_dog"))
    assert data.class_names == ("my dog", "tench", "tabby cat")
    assert [sample.target for sample in data] == [0, 1, 2]
