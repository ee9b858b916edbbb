"""Masks that somebody made: a folder's, and ImageNet-S's."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cci_captum.benchmarks.data import ImageFolders
from cci_captum.diagnosis.segmentation import STATUSES, ImageNetS, MaskFolder, Segmentation
from cci_captum.diagnosis.segmentation.imagenet_s import MERGED
from cci_captum.images import read_image

RNG = np.random.default_rng(0)
SIZES = {"cat/1.jpg": (9, 7), "cat/2.png": (5, 8), "dog/1.jpg": (6, 6)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, size in SIZES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "green").save(root / name)
    return root


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """One a photo, of every kind that counts, with what each says."""
    root = tmp_path / "masks"
    for folder in ("cat", "dog"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(truth("cat/1.jpg").astype(np.uint8)).save(root / "cat/1.png")  # 1 of 255
    coloured = np.zeros((8, 5, 4), dtype=np.uint8)
    coloured[..., 2] = 200 * truth("cat/2.png")
    coloured[..., 3] = 255  # transparency is no object
    Image.fromarray(coloured).save(root / "cat/2.png.png")
    Image.fromarray(truth("dog/1.jpg")).save(root / "dog/1.jpg.png")  # of 1 bit
    Image.new("L", (6, 6), 255).save(root / "dog/1.png")  # the other name counts first
    return root


def truth(name: str) -> np.ndarray:
    width, height = SIZES[name]
    mask = np.zeros((height, width), dtype=bool)
    mask[1:3, 2:4] = True
    mask[-1, 0] = len(name) % 2
    return mask


def images(photos: Path, *names: str) -> list[Image.Image]:
    return [read_image(photos / name) for name in names]


def run(segmenter: Any, photos: Path, *names: str, given: Any = None) -> list[Segmentation]:
    return segmenter(images(photos, *names), ["cat"] * len(names), given or list(names))


def test_a_folder_of_masks(photos: Path, masks: Path) -> None:
    found = run(MaskFolder(masks), photos, *SIZES)
    for name, one in zip(SIZES, found, strict=True):
        assert one.status == "" and np.isnan(one.score)
        assert one.mask is not None and one.mask.dtype == torch.bool
        assert np.array_equal(one.mask.numpy(), truth(name))


def test_it_is_what_a_comparison_reads(photos: Path, masks: Path) -> None:
    data = ImageFolders(photos, masks=masks)
    samples = [data[index] for index in range(len(data))]
    found = MaskFolder(masks)(
        [sample.image for sample in samples], ["x"] * 3, [sample.name for sample in samples]
    )
    for sample, one in zip(samples, found, strict=True):
        assert one.mask is not None and sample.mask is not None
        assert torch.equal(one.mask, sample.mask)


def test_paths_of_images(photos: Path, masks: Path) -> None:
    names = list(SIZES)
    paths = [str(photos / "dog" / ".." / name) for name in names]
    found = run(MaskFolder(masks, photos), photos, *names, given=paths)
    assert [one.status for one in found] == [""] * 3
    assert [s.status for s in run(MaskFolder(masks, photos), photos, *names)] == [""] * 3
    outside = str(photos.parent / "1.jpg")
    with pytest.raises(ValueError, match=r"below the folder of the .*photos, got '.*/1.jpg'$"):
        run(MaskFolder(masks, photos), photos, "cat/1.jpg", given=[outside])
    for odd in (paths[0], "../cat/1.jpg", ""):  # the photo would be taken for its own mask
        with pytest.raises(ValueError, match=r"below the folder of the images, got .*; give"):
            run(MaskFolder(masks), photos, "cat/1.jpg", given=[odd])


def test_what_is_wrong_with_one_mask_is_its_status(photos: Path, masks: Path) -> None:
    Image.new("L", (9, 7)).save(masks / "cat/1.png")
    content = (masks / "cat/2.png.png").read_bytes()
    (masks / "cat/2.png.png").write_bytes(content[: len(content) // 2])
    (masks / "dog/1.jpg.png").unlink()
    names = [*SIZES, "dog/2.jpg"]
    shutil.copy(photos / "dog/1.jpg", photos / "dog/2.jpg")
    with pytest.warns(UserWarning, match=r"^cat/2.png: damaged mask: .*masks/cat/2.png.png") as w:
        found = run(MaskFolder(masks), photos, *names)
    assert len(w) == 1
    assert [s.status for s in found] == ["empty mask", "damaged mask", "", "no mask file"]
    assert [s.mask is None for s in found] == [True, True, False, True]
    assert {s.status for s in found} - {""} < set(STATUSES)
    Image.new("L", (6, 5), 1).save(masks / "dog/2.png")
    with pytest.warns(UserWarning, match=r"as it is shown, 6 x 6, got 6 x 5 in .*dog/2.png"):
        assert run(MaskFolder(masks), photos, "dog/2.jpg")[0].status == "mask of another size"


def test_a_mask_belongs_to_one_image(photos: Path, masks: Path) -> None:
    shutil.copy(photos / "cat/1.jpg", photos / "cat/1.webp")
    with pytest.raises(ValueError, match=r"cat/1.png for both 'cat/1.jpg' and 'cat/1.webp'; name"):
        MaskFolder(masks)([Image.new("RGB", (9, 7))] * 2, ["cat"] * 2, ["cat/1.jpg", "cat/1.webp"])
    assert len(run(MaskFolder(masks), photos, "cat/1.jpg", "cat/1.jpg")) == 2


def test_a_mask_belongs_to_one_image_in_all_calls(photos: Path, masks: Path) -> None:
    """As a run asks, for an image at a time."""
    folder = MaskFolder(masks)
    (photo,) = images(photos, "cat/1.jpg")
    for _ in range(2):
        assert folder([photo], ["cat"], ["cat/1.jpg"])[0].mask is not None
    with pytest.raises(ValueError, match="expected a mask of its own for each image"):
        folder([photo], ["cat"], ["cat/1.png"])


def test_folders_that_are_not_there(masks: Path, photos: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"folder: no such folder: .*/none"):
        MaskFolder(masks / "none")
    with pytest.raises(NotADirectoryError, match="images: expected a folder, got a file"):
        MaskFolder(masks, photos / "cat/1.jpg")
    segmenter = MaskFolder(masks)
    shutil.rmtree(masks)
    with pytest.raises(FileNotFoundError):  # a file system that is away says nothing of an image
        run(segmenter, photos, "cat/1.jpg")


# ImageNet-S

# Of the published 919: the first two, one past 255 + 1, one that took another in, the last.
WNIDS = ["n01440764", "n01443537", "n02110185", "n04355933", "n15075141"]


def all_classes() -> list[str]:
    """919 ids whose order is that of the numbers: those above, and made-up ones between."""
    made_up = [f"n{2000000 + number:08d}" for number in range(914)]
    return sorted([*WNIDS, *made_up])


def number_of(wnid: str) -> int:
    return sorted(all_classes()).index(wnid) + 1


def save_mask(root: Path, wnid: str, stem: str, numbers: np.ndarray) -> None:
    """R + 256 G, as the set's own page says."""
    colours = np.stack([numbers % 256, numbers // 256, np.zeros_like(numbers)], axis=-1)
    (root / wnid).mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours.astype(np.uint8)).save(root / wnid / f"{stem}.png")


@pytest.fixture
def imagenet_s(tmp_path: Path) -> Path:
    root = tmp_path / "ImageNetS919" / "validation-segmentation"
    for wnid in all_classes():
        (root / wnid).mkdir(parents=True)
    for wnid in WNIDS:
        numbers = np.zeros((4, 6), dtype=int)
        numbers[1:3, 1:4] = number_of(wnid)
        numbers[0] = 1000
        numbers[3, 5] = number_of("n01443537")
        save_mask(root, wnid, f"val_{wnid}", numbers)
    return root


def ask(segmenter: ImageNetS, *asked: tuple[str, str]) -> list[Segmentation]:
    class_names, names = zip(*asked, strict=True)
    return segmenter([Image.new("RGB", (6, 4))] * len(asked), class_names, names)


def expected(wnid: str) -> np.ndarray:
    mask = np.zeros((4, 6), dtype=bool)
    mask[1:3, 1:4] = True
    mask[3, 5] = wnid == "n01443537"
    return mask


def test_pixels_are_numbered_by_the_sorted_ids(imagenet_s: Path) -> None:
    assert [number_of(wnid) for wnid in WNIDS][:2] == [1, 2] and number_of(WNIDS[-1]) == 919
    for folder in (imagenet_s, imagenet_s.parent):
        asked = [("whatever", f"ILSVRC/val/{wnid}/val_{wnid}.JPEG") for wnid in WNIDS]
        for wnid, one in zip(WNIDS, ask(ImageNetS(folder), *asked), strict=True):
            assert one.status == "" and one.mask is not None
            assert np.array_equal(one.mask.numpy(), expected(wnid))


def test_the_class_may_be_given_by_its_id(imagenet_s: Path) -> None:
    """Which is another than the folder's, or the image is in no such folder."""
    path = "val/n02110185/val_n02110185.JPEG"
    found = ask(
        ImageNetS(imagenet_s),
        ("n01443537", path),
        ("n02110185", "val_n02110185.JPEG"),
        ("n01440764", path),
        ("husky", "val_n02110185.JPEG"),
        ("n09999999", path),
        ("n01440764", "n01440764/other.JPEG"),
    )
    missing = ["class not in mask", "unknown class", "unknown class", "no mask file"]
    assert [one.status for one in found] == ["", "", *missing]
    assert found[0].mask is not None and found[0].mask.nonzero().tolist() == [[3, 5]]
    assert found[1].mask is not None
    assert np.array_equal(found[1].mask.numpy(), expected("n02110185"))


def test_merged_classes(imagenet_s: Path) -> None:
    """Asked for by the old id, with the photo in the old folder or the new."""
    assert MERGED["n04356056"] == "n04355933" and len(MERGED) == 5
    asked = [
        ("n04356056", "val/n04356056/val_n04355933.JPEG"),
        ("sunglasses", "val/n04356056/val_n04355933.JPEG"),
        ("n04356056", "val/n04355933/val_n04355933.JPEG"),
        ("n04355933", "val/n04356056/val_n04355933.JPEG"),
    ]
    for one in ask(ImageNetS(imagenet_s), *asked):
        assert one.mask is not None and np.array_equal(one.mask.numpy(), expected("n04355933"))


def test_pixels_set_aside_are_as_asked(imagenet_s: Path) -> None:
    path = "n01440764/val_n01440764.JPEG"
    aside = np.zeros((4, 6), dtype=bool)
    aside[0] = True
    segmenter = ImageNetS(imagenet_s, ignored_as="object")
    one = ask(segmenter, ("fish", path))[0]
    assert one.mask is not None
    assert np.array_equal(one.mask.numpy(), expected("n01440764") | aside)
    ignored = segmenter.ignored(path)
    assert ignored is not None and np.array_equal(ignored.numpy(), aside)
    assert segmenter.ignored("n01440764/none.JPEG") is None
    only = np.full((4, 6), 1000)
    save_mask(imagenet_s, "n01440764", "only", only)
    assert ask(segmenter, ("fish", "n01440764/only.JPEG"))[0].status == "class not in mask"


def test_odd_masks_are_statuses(imagenet_s: Path) -> None:
    save_mask(imagenet_s, "n01440764", "small", np.ones((3, 6), dtype=int))
    save_mask(imagenet_s, "n01440764", "many", np.full((4, 6), 920))
    Image.new("L", (6, 4), 1).save(imagenet_s / "n01440764/grey.png")
    (imagenet_s / "n01440764/text.png").write_text("text")
    messages = {
        "small": (r"expected 6 x 4, got 6 x 3 in .*small.png", "mask of another size"),
        "many": (r"expected numbers up to 919, .*, got 920", "damaged mask"),
        "grey": (r"expected a mask in colours, got mode L", "damaged mask"),
        "text": (r"not an image", "damaged mask"),
    }
    for name, (message, status) in messages.items():
        with pytest.warns(UserWarning, match=f"^n01440764/{name}.JPEG: {status}: .*{message}"):
            found = ask(ImageNetS(imagenet_s), ("x", f"n01440764/{name}.JPEG"))
        assert found[0].status == status and found[0].mask is None


def test_a_part_of_the_set_needs_its_classes(imagenet_s: Path, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(imagenet_s / "n02110185", part / "n02110185")
    with pytest.raises(ValueError, match=r"folder for each of 50, 300 or 919 classes.*got 1 in"):
        ImageNetS(part)
    segmenter = ImageNetS(part, classes=all_classes()[::-1])
    one = ask(segmenter, ("x", "n02110185/val_n02110185.JPEG"))[0]
    assert one.mask is not None and np.array_equal(one.mask.numpy(), expected("n02110185"))
    for classes, got in ((["n1"], "'n1'"), (["n01440764"] * 2, "'one twice'")):
        with pytest.raises(ValueError, match=f"classes: expected different WordNet ids.*{got}"):
            ImageNetS(part, classes=classes)
    with pytest.raises(ValueError, match="ignored_as: expected one of background, object"):
        ImageNetS(part, classes=all_classes(), ignored_as="nothing")
    shutil.copytree(imagenet_s / "n02110185", part / "n01440764")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        both = ask(ImageNetS(part, classes=all_classes()), ("n02110185", "val_n02110185.JPEG"))
    assert both[0].status == "no mask file"  # two of that name: which is not known
