"""ImageNet-9 and its challenge on a small tree of the released layout, against what is there."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cci_captum.benchmarks.data import (
    ImageNet9,
    ImageNet9Challenge,
    MissingImageError,
    open_data,
)
from cci_captum.benchmarks.data.imagenet9 import FOLDERS, OTHER, VARIANTS, WITH_OBJECT

SIZE = (6, 5)  # width and height
PHOTOS = 2  # a class


def colour(*said: object) -> tuple[int, int, int]:
    """A colour that tells what was painted."""
    values = np.random.default_rng(list(repr(said).encode())).integers(0, 256, 3)
    return tuple(values.tolist())  # type: ignore[return-value]


def wnid(place: int, number: int) -> str:
    return f"n0{place}000000_{number}"


def file_name(variant: str, place: int, number: int) -> str:
    """Composites are named by two photos, the object's first, in two ways."""
    own = wnid(place, number)
    if variant == "mixed_same":
        return f"{own}_{wnid(place, 9)}.JPEG"
    if variant in ("mixed_rand", "mixed_next"):
        return f"fg_{own}_bg_{wnid((place + 1) % 9, 0)}.JPEG"
    return f"{own}.JPEG"


def object_of(place: int, number: int) -> np.ndarray:
    """A mask that no two photos share."""
    mask = np.zeros((SIZE[1], SIZE[0]), dtype=bool)
    mask[: 1 + number, : 1 + place % 5] = True
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for variant in VARIANTS:
        for place, folder in enumerate(FOLDERS):
            own = tmp_path / variant / "val" / folder
            own.mkdir(parents=True)
            for number in range(PHOTOS):
                image = Image.new("RGB", SIZE, colour(variant, place, number))
                image.save(own / file_name(variant, place, number), format="PNG")
    for place, folder in enumerate(FOLDERS):
        own = tmp_path / "fg_mask" / "val" / folder
        own.mkdir(parents=True)
        for number in range(PHOTOS):
            np.save(own / f"{wnid(place, number)}.npy", object_of(place, number).astype(np.uint8))
    return tmp_path


# what is read


def test_every_image_of_every_variant(root: Path) -> None:
    data = ImageNet9(root)
    assert len(data) == len(VARIANTS) * 9 * PHOTOS and data.variants == VARIANTS
    seen = Counter()
    for place in range(len(data)):
        sample = data[place]
        variant, folder, file = sample.name.split("/")
        number = int(sample.source.split("_")[-1])
        target = FOLDERS.index(folder)
        assert sample.target == data.targets[place] == target
        assert sample.facts == {"variant": variant}
        assert sample.source == f"{folder}/{wnid(target, number)}"
        assert file == file_name(variant, target, number)
        assert sample.image.getpixel((0, 0)) == colour(variant, target, number)
        expected = object_of(target, number)
        if variant not in WITH_OBJECT:
            expected[:] = False
        assert torch.equal(sample.mask, torch.from_numpy(expected))
        seen[sample.source] += 1
    assert set(seen.values()) == {len(VARIANTS)}  # so that variants of a photo pair


def test_classes(root: Path) -> None:
    names = ("dog", "bird", "wheeled vehicle", "reptile", "carnivore", "insect")
    names += ("musical instrument", "primate", "fish")
    assert ImageNet9(root).class_names == names
    assert ImageNet9(root, others=True).class_names == (*names, OTHER)
    assert ImageNet9(root).listing != ImageNet9(root, others=True).listing


def test_variants_that_are_asked_for(root: Path) -> None:
    data = ImageNet9(root, variants=["mixed_rand", "original"])
    assert data.variants == ("original", "mixed_rand") and len(data) == 2 * 9 * PHOTOS
    assert ImageNet9(root, variants="only_fg").variants == ("only_fg",)
    shutil.rmtree(root / "no_fg")
    assert "no_fg" not in ImageNet9(root).variants


def test_photos_are_drawn_in_all_of_their_variants(root: Path) -> None:
    data = ImageNet9(root, count=10, seed=3)
    counts = Counter(data[place].source for place in range(len(data)))
    assert len(counts) == 10 and set(counts.values()) == {len(VARIANTS)}
    classes = Counter(source.split("/")[0] for source in counts)
    assert set(classes) == set(FOLDERS)  # 10 photos, 9 classes
    assert ImageNet9(root, count=10, seed=3).listing == data.listing
    assert ImageNet9(root, count=10, seed=4).listing != data.listing
    assert "10 of 18 photos, seed 3" in data.name


def test_without_masks(root: Path) -> None:
    shutil.rmtree(root / "fg_mask")
    data = ImageNet9(root)
    assert not data.has_masks and data[0].mask is None


def test_by_text_and_in_another_process(root: Path) -> None:
    data = open_data(f"imagenet9:{root}", n=9, variants="mixed_same+mixed_rand", others=True)
    assert isinstance(data, ImageNet9) and len(data) == 18 and len(data.class_names) == 10
    again = pickle.loads(pickle.dumps(data))
    assert again[5].name == data[5].name
    for wrong in ("mixed_same+all", "", [], 3):
        with pytest.raises(ValueError, match="variants: expected some of original, mixed_same, "):
            open_data(f"imagenet9:{root}", variants=wrong)


# what is wrong


def said(root: Path, error: type[Exception], **options: object) -> str:
    with pytest.raises(error) as found:
        ImageNet9(root, **options)  # type: ignore[arg-type]
    return str(found.value)


def test_a_folder_above_or_below(root: Path, tmp_path: Path) -> None:
    outer = tmp_path.parent / f"{tmp_path.name}-outer"
    outer.mkdir()
    root.rename(outer / "bg_challenge")
    for folder in (outer, outer / "bg_challenge" / "original"):
        text = said(folder, ValueError)
        assert text.startswith("root: expected the folders of the variants, got ")
        assert "mixed_same/val/00_dog/" in text and "bg_challenge/" in text
    assert "got bg_challenge/ in" in said(outer, ValueError)


def test_a_variant_without_val(root: Path) -> None:
    (root / "mixed_rand" / "val").rename(root / "mixed_rand" / "test")
    text = said(root, ValueError)
    assert text.startswith("root: expected mixed_rand/val, got test/ in ")
    assert "original/val/00_dog/n02085620_1916.JPEG" in text
    assert len(ImageNet9(root, variants="original")) == 18  # nobody asked


def test_a_class_that_is_missing_or_called_otherwise(root: Path) -> None:
    (root / "only_fg" / "val" / "02_wheeled vehicle").rename(root / "only_fg" / "val" / "02_car")
    text = said(root, ValueError)
    assert (
        "expected the nine class folders 00_dog to 08_fish, got 00_dog/, 01_bird/, 02_car/" in text
    )


def test_a_variant_that_is_not_there(root: Path) -> None:
    shutil.rmtree(root / "mixed_next")
    assert "root: expected mixed_next/val" in said(root, ValueError, variants="mixed_next")
    assert said(root, ValueError, variants="mixed") == (
        f"variants: expected one of {', '.join(VARIANTS)}, got 'mixed'"
    )
    assert said(root, ValueError, variants=[]) == "variants: expected at least one, got none"


def test_a_mask_that_is_missing(root: Path) -> None:
    (root / "fg_mask" / "val" / "08_fish" / f"{wnid(8, 1)}.npy").unlink()
    text = said(root, FileNotFoundError)
    assert f"missing '08_fish/{wnid(8, 1)}.npy'" in text and "fg_mask/val/00_dog" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged: the mask"),
        (b"not an array", "damaged: the mask"),
        (np.ones((5, 5)), "expected the size of the image, 6 x 5, got an array of shape (5, 5)"),
        (np.ones((5, 6, 3)), "got an array of shape (5, 6, 3)"),
        (np.zeros((5, 6)), "zero everywhere: the mask"),
    ],
)
def test_a_mask_that_is_wrong(root: Path, content: bytes | np.ndarray, message: str) -> None:
    path = root / "fg_mask" / "val" / "00_dog" / f"{wnid(0, 0)}.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=re.escape(message)):
        ImageNet9(root)[0]


def test_no_folder_and_too_many(root: Path) -> None:
    assert "no such folder" in said(root / "nowhere", FileNotFoundError)
    assert "count: expected at most the 18 images, got 19" in said(root, ValueError, count=19)


def test_images_that_are_gone(root: Path) -> None:
    path = root / "original" / "val" / "00_dog" / file_name("original", 0, 0)
    path.unlink()
    os.symlink(root / "nowhere.JPEG", path)
    data = ImageNet9(root)
    with pytest.raises(MissingImageError, match="a link to a file that is missing"):
        data[0]


# the challenge


def test_every_object_on_every_background(root: Path) -> None:
    data = ImageNet9Challenge(root)
    assert len(data) == 18 * 18 and data.has_masks and data.backgrounds == 18
    names = set()
    for index in range(0, len(data), 7):
        sample = data[index]
        object_, tiles = divmod(index, 18)
        place, number = divmod(object_, PHOTOS)
        other, which = divmod(tiles, PHOTOS)
        mask = object_of(place, number)
        assert sample.source == f"{FOLDERS[place]}/{wnid(place, number)}"
        assert sample.facts["background"] == f"{FOLDERS[other]}/{wnid(other, which)}.JPEG"
        assert sample.facts["background_class"] == data.class_names[other]
        assert sample.target == data.targets[index] == place
        assert torch.equal(sample.mask, torch.from_numpy(mask))
        for y in range(SIZE[1]):
            for x in range(SIZE[0]):
                inside = mask[y, x]
                expected = ("original", place, number) if inside else ("only_bg_t", other, which)
                assert sample.image.getpixel((x, y)) == colour(*expected)
        names.add(sample.name)
    assert len(names) == len(range(0, len(data), 7))


def test_some_backgrounds_are_the_same_for_every_object(root: Path) -> None:
    data = ImageNet9Challenge(root, backgrounds=9, count=4, seed=2)
    assert len(data) == 36 and "4 of 18 objects on 9 of 18 backgrounds, seed 2" in data.name
    by_object: dict[str, list[object]] = {}
    for place in range(len(data)):
        sample = data[place]
        by_object.setdefault(str(sample.source), []).append(sample.facts["background"])
    first, *others = by_object.values()
    assert len(by_object) == 4 and all(other == first for other in others)
    assert {str(name).split("/")[0] for name in first} == set(FOLDERS)  # evenly over classes
    assert open_data(f"imagenet9-challenge:{root}", backgrounds=9, n=4, seed=2).listing == (
        data.listing
    )


def test_what_the_challenge_needs(root: Path) -> None:
    for options, message in (
        ({"backgrounds": 19}, "backgrounds: expected at most the 18, got 19"),
        ({"count": 19}, "count: expected at most the 18, got 19"),
        ({"backgrounds": 0}, "backgrounds: expected a positive int or None, got 0"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            ImageNet9Challenge(root, **options)
    path = root / "only_bg_t" / "val" / "00_dog" / f"{wnid(0, 0)}.JPEG"
    Image.new("RGB", (3, 3)).save(path, format="PNG")
    with pytest.raises(
        ValueError, match="expected a background of the object's size, 6 x 5, got 3"
    ):
        ImageNet9Challenge(root)[0]
    (root / "original" / "val" / "08_fish" / f"{wnid(8, 1)}.JPEG").unlink()
    with pytest.raises(FileNotFoundError, match="expected the photo of each mask"):
        ImageNet9Challenge(root)
    shutil.rmtree(root / "only_bg_t")
    with pytest.raises(ValueError, match="root: expected only_bg_t/val, got"):
        ImageNet9Challenge(root)
