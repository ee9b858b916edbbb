"""Hard ImageNet on a small tree of the released layout, and what is made of photos, by loops."""

from __future__ import annotations

import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from cci_captum.benchmarks.data import (
    HardImageNet,
    ImageNet,
    MapStyle,
    MissingImageError,
    ObjectVariants,
    Scenes,
    open_data,
)
from cci_captum.benchmarks.data._ablations import ABLATIONS, noisy
from cci_captum.benchmarks.data.object_variants import MADE, noise_of, squared
from cci_captum.benchmarks.diagnosis.segmented import Segmented
from cci_captum.diagnosis.segmentation import ImageNetS

SLED, BALL = "n03218198", "n04540053"  # 537 and 890
PHOTOS = [(SLED, "ILSVRC2012_val_00000262.JPEG"), (SLED, "v_2.JPEG"), (BALL, "v_3.JPEG")]
SIZES = [(40, 30), (24, 36), (32, 32)]  # width and height
SIDE = 28  # what is made: 32 a side, of which the central 28 are kept


def pixels_of(place: int) -> np.ndarray:
    width, height = SIZES[place]
    return np.random.default_rng(place).integers(0, 256, (height, width, 3), dtype=np.uint8)


def object_of(place: int) -> np.ndarray:
    width, height = SIZES[place]
    mask = np.zeros((height, width), dtype=bool)
    mask[height // 4 : height // 2, width // 3 : 2 * width // 3] = True
    return mask


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for place, (wnid, name) in enumerate(PHOTOS):
        photo = tmp_path / "imagenet" / "val" / wnid / name
        mask = tmp_path / "hardImageNet" / "val" / f"{wnid}_{name}"
        for path in (photo, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels_of(place)).save(photo, format="PNG")
        Image.fromarray(object_of(place).astype(np.uint8)).save(mask, format="PNG")  # 1 is above 0
    (tmp_path / "hardImageNet" / "meta").mkdir()
    (tmp_path / "hardImageNet" / "paths_by_rank2.pkl").write_bytes(b"")
    return tmp_path


def opened(tree: Path, **options: Any) -> HardImageNet:
    options = {"size": SIDE, **options}
    return HardImageNet(tree / "imagenet", tree / "hardImageNet", **options)


def seen(place: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo and its mask as the released code has them: by torchvision, above 0."""
    resize = transforms.Compose([transforms.Resize((32, 32)), transforms.CenterCrop(SIDE)])
    image = resize(Image.fromarray(pixels_of(place)))
    mask = resize(Image.fromarray((255 * object_of(place)).astype(np.uint8)))
    return np.asarray(image) / 255, np.asarray(mask) > 0


# what is read


def test_variants_of_every_photo(tree: Path) -> None:
    data = opened(tree)
    assert len(data) == 3 * (5 + 2 * 3) and data.variants == MADE and data.has_masks
    assert len(data.class_names) == 1000 and data.templates == "openai-imagenet"
    counts: Counter[tuple[str, int]] = Counter()
    names = set()
    for index in range(len(data)):
        sample = data[index]
        place = [f"{wnid}/{name}" for wnid, name in PHOTOS].index(sample.source)
        assert sample.target == data.targets[index] == (537, 537, 890)[place]
        assert sample.image.size == (SIDE, SIDE) and sample.mask.shape == (SIDE, SIDE)
        variant, trial = sample.facts["variant"], sample.facts["trial"]
        counts[str(variant), int(trial)] += 1
        names.add(sample.name)
        pixels, mask = seen(place)
        gone = variant in ABLATIONS
        assert np.array_equal(sample.mask.numpy(), np.zeros_like(mask) if gone else mask)
        made = np.asarray(sample.image) / 255
        if variant == "clean":
            assert np.array_equal(made, pixels)
        if variant in ("grey", "noisy_fg"):  # nothing else is touched
            assert np.array_equal(made[~mask], pixels[~mask])
            assert not np.array_equal(made[mask], pixels[mask])
        if variant == "noisy_bg":
            assert np.array_equal(made[mask], pixels[mask])
            assert not np.array_equal(made[~mask], pixels[~mask])
    once = [(name, 1) for name in ("clean", "grey", "box", "mean", "tile")]
    trials = [(name, trial) for name in ("noisy_fg", "noisy_bg") for trial in (1, 2, 3)]
    assert counts == dict.fromkeys([*once, *trials], 3) and len(names) == len(data)


def test_a_size_of_224_is_the_released_crop(tree: Path) -> None:
    resize = transforms.Compose([transforms.Resize((256, 256)), transforms.CenterCrop(224)])
    data = HardImageNet(tree / "imagenet", tree / "hardImageNet", variants="clean")
    expected = resize(Image.fromarray(pixels_of(0)))
    assert data[0].image.tobytes() == expected.tobytes()


def test_masks_follow_what_they_are_of() -> None:
    """A white object on black: what the mask covers is what is not black, up to its edge."""
    mask = np.zeros((30, 50), dtype=bool)
    mask[5:20, 10:35] = True
    image = Image.fromarray(np.repeat(mask[..., None], 3, axis=2).astype(np.uint8) * 255)
    pixels, object_ = squared(image, mask, 64)
    assert np.array_equal(object_, pixels.max(axis=2) > 0)
    assert 0 < object_.sum() < 64 * 64


def test_same_seed_same_pixels(tree: Path) -> None:
    first, again = opened(tree, seed=3), pickle.loads(pickle.dumps(opened(tree, seed=3)))
    other = opened(tree, seed=4)
    alone = opened(tree, seed=3, variants="noisy_bg", trials=2)  # another place, the same image
    differ = 0
    for index in range(len(first)):
        assert first[index].image.tobytes() == again[index].image.tobytes()
        random = str(first[index].facts["variant"]).startswith("noisy")
        same = first[index].image.tobytes() == other[index].image.tobytes()
        assert same != random
        differ += random
    assert differ == 18
    by_name = {first[i].name: first[i].image.tobytes() for i in range(len(first))}
    for index in range(len(alone)):
        assert alone[index].image.tobytes() == by_name[alone[index].name]
    assert first.listing == again.listing != other.listing


def test_options_by_text(tree: Path) -> None:
    data = open_data(
        f"hardimagenet:{tree / 'imagenet'}", masks=tree / "hardImageNet", variants="clean+noisy_fg",
        size=56, trials=2, sigma=30.0, l2=True, threshold=0, n=2, seed=1,
    )  # fmt: skip
    assert isinstance(data, HardImageNet) and len(data) == 2 * 3
    assert data[0].image.size == (56, 56) and "2 of 3 photos of val, seed 1" in data.name
    assert {data[index].target for index in range(2)} == {537, 890}  # evenly over classes
    below = HardImageNet(tree / "imagenet" / "val", tree / "hardImageNet" / "val", size=SIDE)
    assert len(below) == 33


def test_masks_of_jpeg(tree: Path) -> None:
    """Compressed masks are not exact at their edge: a threshold of 127 is."""
    mask = tree / "hardImageNet" / "val" / f"{SLED}_v_2.JPEG"
    Image.fromarray(object_of(1).astype(np.uint8) * 255).save(mask, format="JPEG", quality=30)
    released, half = (opened(tree, threshold=t, variants="clean") for t in (0, 127))
    _, expected = seen(1)
    assert np.array_equal(half[1].mask.numpy(), expected)
    assert released[1].mask.sum() >= expected.sum()


# what is made, by the definition


def boxes(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """First and last row and column of each piece whose pixels touch by their sides."""
    left, found = mask.copy(), []
    for start in zip(*np.nonzero(mask), strict=True):
        if not left[start]:
            continue
        piece, queue = [], [start]
        left[start] = False
        while queue:
            r, c = queue.pop()
            piece.append((r, c))
            for r2, c2 in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if 0 <= r2 < mask.shape[0] and 0 <= c2 < mask.shape[1] and left[r2, c2]:
                    left[r2, c2] = False
                    queue.append((r2, c2))
        rows, columns = zip(*piece, strict=True)
        found.append((min(rows), max(rows), min(columns), max(columns)))
    return found


def by_grey(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    out = pixels.copy()
    for r in range(mask.shape[0]):
        for c in range(mask.shape[1]):
            if mask[r, c]:
                out[r, c] = 0.5
    return out


def by_box(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(mask)
    out = pixels.copy()
    for r in range(min(rows), max(rows) + 1):
        for c in range(min(columns), max(columns) + 1):
            out[r, c] = 0.5
    return out


def mean_of(pixels: np.ndarray, places: list[tuple[int, int]]) -> np.ndarray:
    return np.full(3, 0.5) if not places else sum(pixels[place] for place in places) / len(places)


def around(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return mean_of(pixels, [(r, c) for r, c in np.ndindex(mask.shape) if not mask[r, c]])


def by_mean(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    out = pixels.copy()
    for r0, r1, c0, c1 in boxes(mask):
        if (r1 - r0 + 1) * (c1 - c0 + 1) < 100:
            continue
        inside = [(r, c) for r in range(r0, r1 + 1) for c in range(c0, c1 + 1)]
        other = [place for place in inside if not mask[place]]
        fill = mean_of(pixels, other) if other else around(pixels, mask)
        for place in inside:
            out[place] = fill
    return out


def by_tile(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    high, wide = mask.shape
    out = pixels.copy()
    for r0, r1, c0, c1 in boxes(mask):
        rows, columns = range(r0, r1 + 1), range(c0, c1 + 1)
        lengths = {"right": 0, "left": 0, "above": 0, "below": 0}
        for side in lengths:
            across = rows if side in ("right", "left") else columns
            for step in range(1, (c1 - c0 if across is rows else r1 - r0) + 2):
                at = {"right": c1 + step, "left": c0 - step, "above": r0 - step,
                      "below": r1 + step}[side]  # fmt: skip
                if not 0 <= at < (wide if across is rows else high):
                    break
                if any(mask[i, at] if across is rows else mask[at, i] for i in across):
                    break
                lengths[side] = step
        areas = {
            side: length * (len(rows) if side in ("right", "left") else len(columns))
            for side, length in lengths.items()
        }
        best = max(areas, key=lambda side: areas[side])  # the first of equal ones
        n = lengths[best]
        for r in rows:
            for c in columns:
                if not n:
                    out[r, c] = around(pixels, mask)
                elif best == "right":
                    out[r, c] = pixels[r, c1 + 1 + (c - c0) % n]
                elif best == "left":
                    out[r, c] = pixels[r, c0 - 1 - (c1 - c) % n]
                elif best == "below":
                    out[r, c] = pixels[r1 + 1 + (r - r0) % n, c]
                else:
                    out[r, c] = pixels[r0 - 1 - (r1 - r) % n, c]
    return out


ORACLES = {"grey": by_grey, "box": by_box, "mean": by_mean, "tile": by_tile}


def shapes() -> dict[str, np.ndarray]:
    """Objects in the middle, at each border, of several pieces, small, everywhere."""
    rng = np.random.default_rng(0)
    empty = np.zeros((30, 40), dtype=bool)
    found = {}
    for name, (rows, columns) in {
        "middle": (slice(8, 20), slice(12, 24)),
        "left": (slice(5, 25), slice(0, 13)),
        "top": (slice(0, 14), slice(3, 37)),
        "corner": (slice(18, 30), slice(28, 40)),
        "band": (slice(6, 22), slice(0, 40)),
        "right": (slice(0, 30), slice(13, 40)),  # a tile to the left, not a whole number of times
        "bottom": (slice(8, 30), slice(0, 40)),
        "small": (slice(3, 12), slice(3, 14)),
        "all": (slice(0, 30), slice(0, 40)),
    }.items():
        mask = empty.copy()
        mask[rows, columns] = True
        found[name] = mask
    ragged = found["middle"] & (rng.random(empty.shape) < 0.8)
    found["ragged"] = ragged | np.roll(ragged, 14, axis=1)
    found["two"] = empty.copy()
    found["two"][2:14, 2:14] = found["two"][10:28, 20:36] = True
    found["dot"] = empty.copy()
    found["dot"][7, 9] = True
    return found


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations(name: str) -> None:
    for shape, mask in shapes().items():
        pixels = np.random.default_rng(1).random((*mask.shape, 3))
        before = pixels.copy()
        made, expected = ABLATIONS[name](pixels, mask), ORACLES[name](pixels, mask)
        assert np.abs(made - expected).max() < 1e-12, shape
        assert np.array_equal(pixels, before)
        if name != "mean" or shape not in ("dot", "small"):  # it passes over boxes below 100 pixels
            assert not np.array_equal(made, pixels), shape


def test_noise_is_as_it_is_said_to_be() -> None:
    """Standard normal, independent of trial, seed and name; 5 standard errors."""
    size = 64
    noise = {
        (name, trial, seed): noise_of(name, trial, seed, size).ravel()
        for name in ("a", "b") for trial in (1, 2) for seed in (0, 1)
    }  # fmt: skip
    n = 3 * size * size
    for one, values in noise.items():
        assert abs(values.mean()) < 5 / np.sqrt(n)
        assert abs(values.var() - 1) < 5 * np.sqrt(2 / n)
        for other, others in noise.items():
            if one != other:
                assert abs((values * others).mean()) < 5 / np.sqrt(n)


@pytest.mark.parametrize(("sigma", "l2"), [(0.25, False), (0.05, False), (3.0, True)])
def test_noise_in_a_region(sigma: float, l2: bool) -> None:
    region = shapes()["middle"]
    noise = np.random.default_rng(2).standard_normal((*region.shape, 3))
    pixels = np.full((*region.shape, 3), 0.5)
    made = noisy(pixels, region, noise, sigma, l2)
    assert np.array_equal(made[~region], pixels[~region])
    added = (made - pixels)[region]
    if l2:  # 3 over 432 values: none leaves 0 to 1
        assert np.sqrt((added**2).sum()) == pytest.approx(sigma)
        assert np.corrcoef(added.ravel(), noise[region].ravel())[0, 1] == pytest.approx(1)
    else:
        assert np.abs(added - (sigma * noise[region]).clip(-0.5, 0.5)).max() < 1e-12
        assert made.min() >= 0 and made.max() <= 1
    if sigma == 0.25:
        assert np.abs(added).max() == 0.5  # cut off


def test_noise_of_samples(tree: Path) -> None:
    """Object and background of a trial have the same noise, rounded to 8 bits."""
    data = opened(tree, variants=["noisy_fg", "noisy_bg"], trials=2)
    by_name = {data[index].name: data[index] for index in range(len(data))}
    source = f"{PHOTOS[2][0]}/{PHOTOS[2][1]}"
    pixels, mask = seen(2)
    for trial in (1, 2):
        whole = np.rint((pixels + 0.25 * noise_of(source, trial, 0, SIDE)).clip(0, 1) * 255)
        for variant, region in (("noisy_fg", mask), ("noisy_bg", ~mask)):
            made = np.asarray(by_name[f"{source}, {variant} {trial}"].image)
            assert np.array_equal(made[region], whole[region])


def test_variants_of_other_data() -> None:
    data = ObjectVariants(Scenes(2, size=32), variants=["clean", "box"], size=28)
    assert len(data) == 4 and data.targets == [*Scenes(2).targets] * 2
    assert data[3].source == "scene 1" and "background" in data[3].facts
    assert data[3].mask.sum() == 0 and data[1].mask.sum() > 0


def test_variants_of_imagenet_with_masks_of_imagenet_s(tree: Path) -> None:
    """One loader of masks on ImageNet: photos that ImageNet-S has no mask of are left out."""
    folder = tree / "validation-segmentation"
    for place in (0, 2):
        wnid, name = PHOTOS[place]
        numbers = np.zeros((*object_of(place).shape, 3), dtype=np.uint8)
        numbers[object_of(place), 0] = 1 if wnid == SLED else 2  # of the two ids, sorted
        (folder / wnid).mkdir(parents=True)
        Image.fromarray(numbers).save((folder / wnid / name).with_suffix(".png"))
    masks = ImageNetS(folder, classes=[BALL, SLED])
    photos = Segmented(ImageNet(tree / "imagenet" / "val"), masks, "imagenet-s")
    data = ObjectVariants(photos, variants=["clean", "noisy_bg"], size=SIDE, trials=1)
    for index in (0, 2, 3, 5):
        _, mask = seen(index % 3)
        assert np.array_equal(data[index].mask.numpy(), mask)
    with pytest.raises(ValueError, match=f"nothing of the object is left .*: {SLED}/v_2.JPEG"):
        data[1]


# what is wrong


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": "blur"}, f"variants: expected one of {', '.join(MADE)}, got 'blur'"),
        ({"variants": []}, "variants: expected at least one, got none"),
        ({"size": 0}, "size: expected a positive int, got 0"),
        ({"trials": 0}, "trials: expected a positive int, got 0"),
        ({"sigma": 0.0}, "sigma: expected a positive number, got 0.0"),
        ({"sigma": float("nan")}, "sigma: expected a positive number, got nan"),
        ({"split": "test"}, "split: expected one of val, train, got 'test'"),
        ({"threshold": 255}, "threshold: expected an int from 0 to 254, got 255"),
        ({"count": 4}, "count: expected at most the 3 images, got 4"),
        ({"seed": -1}, "seed: expected"),
    ],
)
def test_options_that_are_wrong(tree: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        opened(tree, **options)


def test_a_wrong_layout_shows_the_right_one(tree: Path) -> None:
    hard, root = tree / "hardImageNet", tree / "imagenet"
    for arguments, message in (
        ((hard, hard), "root: expected folders named like n03218198, or val, got meta/"),
        ((root, root), "masks: expected masks named by id and photo in val, got val/ in"),
        ((root, hard / "meta"), "masks: expected masks named by id and photo in val, got nothing"),
        ((root, None), "masks: expected the folder of Hard ImageNet's masks, got None"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}") as found:
            HardImageNet(*arguments)
        assert "val/n03218198/ILSVRC2012_val_00000262.JPEG" in str(found.value)
        assert "val/n03218198_ILSVRC2012_val_00000262.JPEG" in str(found.value)
    with pytest.raises(FileNotFoundError, match="masks: no such folder"):
        HardImageNet(root, tree / "nowhere")


def test_masks_of_other_classes(tree: Path) -> None:
    path = tree / "hardImageNet" / "val"
    Image.new("L", (4, 4), 1).save(path / "n99999999_1.JPEG", format="PNG")
    with pytest.raises(ValueError, match=r"ImageNet's 1000 classes, got 'n99999999' in"):
        opened(tree)


def test_photos_that_are_missing(tree: Path) -> None:
    photos = [tree / "imagenet" / "val" / wnid / name for wnid, name in PHOTOS]
    photos[0].unlink()
    data = opened(tree)
    assert data.notes == [f"1 photos of masks are not there: '{SLED}/{PHOTOS[0][1]}'"]
    with pytest.raises(MissingImageError, match="not there"):
        data[0]
    photos[1].unlink()
    photos[2].unlink()
    with pytest.raises(FileNotFoundError, match="root: expected the photos of the masks") as found:
        opened(tree)
    assert "hardImageNet/              (masks)" in str(found.value)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((30, 40), np.uint8), "nothing above 0: the mask"),
        (np.ones((30, 30), np.uint8), "expected the size of the photo, 40 x 30, got 30 x 30"),
        (np.pad(np.ones((30, 1), np.uint8), ((0, 0), (0, 39))), "nothing of the object is left in"),
    ],
)
def test_masks_that_are_wrong(tree: Path, mask: np.ndarray, message: str) -> None:
    path = tree / "hardImageNet" / "val" / f"{PHOTOS[0][0]}_{PHOTOS[0][1]}"
    Image.fromarray(mask).save(path, format="PNG")
    data = opened(tree)
    with pytest.raises(ValueError, match=message):
        data[0]


def test_data_without_masks() -> None:
    data = MapStyle([(Image.new("RGB", (4, 4)), "cat")])
    with pytest.raises(ValueError, match="data: expected images with masks, "):
        ObjectVariants(data)


def test_masks_are_of_torch(tree: Path) -> None:
    assert opened(tree)[0].mask.dtype == torch.bool
