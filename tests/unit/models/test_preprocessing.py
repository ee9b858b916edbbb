"""What is said of a model's preprocessing, against what comes out of it.

Photos are painted with their own coordinates: what reaches the model then says where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.transform import PreprocessCfg, ResizeKeepRatio, image_transform_v2
from PIL import Image
from skimage import data
from torch import Tensor, nn
from torchvision import transforms
from torchvision.transforms import v2

from cci_captum import load_clip
from cci_captum.models._transformers import preprocessing_of
from cci_captum.models.preprocessing import (
    Preprocessing,
    central_square,
    mean_and_std,
    resize_mask,
    seen_box,
    whole,
)
from cci_captum.models.seen_area import seen_area

SIZES = [(250, 180), (180, 250), (200, 200), (640, 427), (97, 251)]


def open_clip_transform(size: Any = 224, **options: Any) -> Any:
    return image_transform_v2(PreprocessCfg(size=size, **options), is_train=False)


def timm_like() -> Any:
    """Larger than the model's input, then its centre."""
    return transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        ]
    )


PIPELINES: dict[str, Callable[[], Any]] = {
    "tiny": lambda: load_clip("tiny").preprocess,
    "shortest": open_clip_transform,
    "squash": lambda: open_clip_transform(resize_mode="squash"),
    "squash, not square": lambda: open_clip_transform((160, 224), resize_mode="squash"),
    "centre of a larger": timm_like,
    "not square crop": lambda: transforms.Compose(
        [transforms.Resize(200), transforms.CenterCrop((100, 180)), transforms.ToTensor()]
    ),
}


@pytest.fixture(scope="module", params=PIPELINES)
def preprocess(request: Any) -> Any:
    return PIPELINES[request.param]()


def values_of(preprocess: Any, photo: Image.Image) -> np.ndarray:
    """(H, W, 3) values from 0 to 255, as they are before they are normalised."""
    last = preprocess.transforms[-1]
    inputs = preprocess(photo)
    if hasattr(last, "mean"):
        mean, std = (torch.tensor(values)[:, None, None] for values in (last.mean, last.std))
        inputs = inputs * std + mean
    return 255 * inputs.permute(1, 2, 0).double().numpy()


def seen_by_the_model(preprocess: Any, size: tuple[int, int]) -> tuple[list[float], list[float]]:
    """Edges (left, top, right, bottom) of what arrives, and photo pixels per input pixel (x, y)."""
    width, height = size
    ramp = np.zeros((height, width, 3))
    ramp[..., 0] = (np.arange(width) + 0.5) * 255 / width
    ramp[..., 1] = (np.arange(height)[:, None] + 0.5) * 255 / height
    values = values_of(preprocess, Image.fromarray(ramp.round().astype(np.uint8)))
    ends, slopes = [], []
    for along, length in ((values[..., 0].mean(axis=0), width), (values[..., 1].mean(1), height)):
        places = np.arange(len(along)) + 0.5
        inner = slice(len(along) // 8, -len(along) // 8)  # away from what a filter does at edges
        slope, offset = np.polyfit(places[inner], along[inner] * length / 255, 1)
        ends.append((offset, offset + slope * len(along)))
        slopes.append(slope)
    (left, right), (top, bottom) = ends
    return [left, top, right, bottom], slopes


@pytest.mark.parametrize("size", SIZES)
def test_field_of_view_is_what_arrives(preprocess: Any, size: tuple[int, int]) -> None:
    box = seen_box(preprocess, size)
    edges, (across, down) = seen_by_the_model(preprocess, size)
    for said, found, scale in zip(box, edges, (across, down) * 2, strict=True):
        # Sizes and places of the resized photo are whole numbers, those of the box are, too.
        assert abs(said - found) <= 1 + scale, (box, edges)
    left, top, right, bottom = box
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    assert all(isinstance(edge, int) for edge in box)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["tiny", "shortest", "squash"])
def test_what_is_cut_is_seen_whole(name: str, size: tuple[int, int]) -> None:
    preprocess = PIPELINES[name]()
    left, top, right, bottom = seen_box(preprocess, size)
    whole = (right - left, bottom - top)
    assert seen_box(preprocess, whole) == (0, 0, *whole)
    smooth = Image.fromarray(data.chelsea()).resize((18, 12), Image.Resampling.BOX)
    photo = smooth.resize(size, Image.Resampling.BICUBIC)
    pair = [values_of(preprocess, p) for p in (photo, photo.crop((left, top, right, bottom)))]
    shifted = values_of(preprocess, photo.crop((0, 0, *whole)))
    error = np.abs(pair[0] - pair[1]).mean()
    assert error < 3
    if (left, top) == (0, 0):
        assert error == 0
    else:
        assert np.abs(pair[0] - shifted).mean() > 4 * error


def test_known_boxes() -> None:
    squash = open_clip_transform(resize_mode="squash")
    assert seen_box(open_clip_transform(), (640, 480)) == (80, 0, 560, 480)
    assert seen_box(open_clip_transform(), (480, 640)) == (0, 80, 480, 560)
    assert seen_box(squash, (480, 640)) == (0, 0, 480, 640)
    assert seen_box(timm_like(), (512, 512)) == (32, 32, 480, 480)
    assert seen_box(timm_like(), (1024, 512)) == (288, 32, 736, 480)


def test_a_photo_smaller_than_the_crop_is_seen_whole() -> None:
    steps = [transforms.Resize(64), transforms.CenterCrop(96), transforms.ToTensor()]
    assert seen_box(transforms.Compose(steps), (200, 200)) == (0, 0, 200, 200)


def test_functions_are_known_by_their_name() -> None:
    def _convert_to_rgb(photo: Image.Image) -> Image.Image:  # as open_clip 3.0 converts
        return photo.convert("RGB")

    def mirror(photo: Image.Image) -> Image.Image:
        return photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)

    steps = [_convert_to_rgb, transforms.CenterCrop(100)]
    assert seen_box(transforms.Compose(steps), (200, 100)) == (50, 0, 150, 100)
    with pytest.raises(ValueError, match=r"preprocess: .*mirror"):
        seen_box(transforms.Compose([mirror, *steps]), (200, 100))


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (1000, 3)])
def test_thin_photos_keep_a_pixel(size: tuple[int, int]) -> None:
    left, top, right, bottom = seen_box(load_clip("tiny").preprocess, size)
    assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    assert right - left == bottom - top == min(size)


@pytest.mark.parametrize(
    ("step", "name"),
    [
        (transforms.RandomCrop(96), "RandomCrop"),
        (transforms.Pad(4), "Pad"),
        (transforms.Lambda(lambda photo: photo), "Lambda"),
    ],
)
def test_unknown_steps(step: Any, name: str) -> None:
    pipeline = transforms.Compose([transforms.Resize(96), step, transforms.ToTensor()])
    with pytest.raises(ValueError, match=f"preprocess: .*{name}"):
        seen_box(pipeline, (200, 100))


def test_letterboxes_and_training_are_unknown() -> None:
    for pipeline in (
        open_clip_transform(resize_mode="longest"),
        open_clip_transform((160, 224)),
        image_transform_v2(PreprocessCfg(size=96), is_train=True),
    ):
        with pytest.raises(ValueError, match="preprocess"):
            seen_box(pipeline, (200, 100))


# Masks.


def nearest(mask: Tensor, box: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """Of each pixel of the input the one of the photo that its centre lies on."""
    left, top, right, bottom = box
    result = torch.zeros(size, dtype=torch.bool)
    for row in range(size[0]):
        for column in range(size[1]):
            y = top + math.floor((2 * row + 1) * (bottom - top) / (2 * size[0]))
            x = left + math.floor((2 * column + 1) * (right - left) / (2 * size[1]))
            result[row, column] = mask[y, x]
    return result


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((0, 0, 40, 30), (30, 40)),
        ((5, 0, 35, 30), (10, 10)),
        ((3, 2, 20, 27), (8, 8)),
        ((10, 10, 14, 13), (9, 12)),
        ((39, 29, 40, 30), (2, 2)),
    ],
)
def test_masks_are_resized_to_the_nearest(box: Any, size: tuple[int, int]) -> None:
    mask = torch.rand(30, 40, generator=torch.Generator().manual_seed(0)) > 0.5
    before = mask.clone()
    found = resize_mask(mask, box, size)
    assert found.dtype == torch.bool and found.shape == size
    assert torch.equal(found, nearest(mask, box, size))
    assert torch.equal(mask, before)


@pytest.mark.parametrize("size", SIZES)
def test_a_mask_lies_where_its_object_arrives(preprocess: Any, size: tuple[int, int]) -> None:
    width, height = size
    ys, xs = np.mgrid[:height, :width] + 0.5
    disc = ((xs / width - 0.55) / 0.2) ** 2 + ((ys / height - 0.4) / 0.3) ** 2 < 1
    photo = Image.fromarray((255 * disc[..., None]).astype(np.uint8).repeat(3, axis=2))
    arrived = values_of(preprocess, photo)[..., 0] > 127.5
    box = seen_box(preprocess, size)
    mask = resize_mask(torch.from_numpy(disc), box, arrived.shape).numpy()
    assert arrived.any()
    assert (mask & arrived).sum() / (mask | arrived).sum() > 0.93


# Normalisation.


def test_normalization_is_that_of_the_last_step() -> None:
    assert mean_and_std(timm_like()) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    inception = open_clip_transform(mean=(0.5,) * 3, std=(0.25,) * 3)
    assert mean_and_std(inception) == ((0.5,) * 3, (0.25,) * 3)
    for preprocess in (load_clip("tiny").preprocess, open_clip_transform()):
        mean, std = mean_and_std(preprocess)
        assert mean == pytest.approx(OPENAI_DATASET_MEAN) and len(mean) == 3
        assert std == pytest.approx(OPENAI_DATASET_STD) and len(std) == 3


def test_normalization_turns_black_and_white_into_inputs() -> None:
    for pipeline in (timm_like(), load_clip("tiny").preprocess):
        mean, std = (torch.tensor(values) for values in mean_and_std(pipeline))
        for level, colour in ((0.0, "black"), (1.0, "white")):
            inputs = pipeline(Image.new("RGB", (50, 40), colour))
            assert torch.allclose(inputs[:, 0, 0], (level - mean) / std, atol=1e-5)


def test_without_a_normalisation_values_stay_in_0_to_1() -> None:
    for pipeline in (
        transforms.Compose([transforms.Resize(96), transforms.ToTensor()]),
        transforms.ToTensor(),
    ):
        mean, std = (torch.tensor(values) for values in mean_and_std(pipeline))
        for level, colour in ((0.0, "black"), (1.0, "white")):
            inputs = pipeline(Image.new("RGB", (50, 40), colour))
            assert torch.allclose(inputs[:, 0, 0], (level - mean) / std)


# What cannot be read.


def mirrored(photo: Image.Image) -> Tensor:
    return load_clip("tiny").preprocess(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


@pytest.mark.parametrize("function", [mirrored, lambda photo: mirrored(photo), load_clip])
def test_a_function_says_nothing(function: Any) -> None:
    with pytest.raises(ValueError, match=r"preprocess: expected transforms .*how it normalises; s"):
        mean_and_std(function)
    with pytest.raises(ValueError, match=r"preprocess: .*which part of the photo it leaves; say"):
        seen_box(function, (640, 480))


@pytest.mark.parametrize(
    "steps",
    [
        [transforms.ToTensor(), transforms.Lambda(lambda values: values * 2 - 1)],
        [transforms.ToTensor(), *[transforms.Normalize((0.5,) * 3, (0.5,) * 3)] * 2],
        [v2.ToImage(), v2.ToDtype(torch.float32), v2.Normalize((127.0,) * 3, (127.0,) * 3)],
    ],
)
def test_steps_that_normalise_otherwise(steps: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"preprocess: expected values scaled to \[0, 1\]"):
        mean_and_std(transforms.Compose(steps))


def test_steps_within_steps_and_of_the_new_transforms() -> None:
    resize = nn.Sequential(v2.Resize(200), v2.CenterCrop(100))
    numbers = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    last = v2.Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    pipeline = v2.Compose([resize, v2.Compose(numbers), last])
    assert seen_box(pipeline, (400, 200)) == (150, 50, 250, 150)
    assert mean_and_std(pipeline) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_what_is_said_of_a_function() -> None:
    said = Preprocessing(mirrored, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), central_square)
    assert mean_and_std(said) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert seen_box(said, (640, 480)) == (80, 0, 560, 480)
    assert whole((640, 480)) == (0, 0, 640, 480)
    photo = Image.fromarray(data.chelsea())
    assert torch.equal(said(photo), mirrored(photo))
    for name in ("tiny", "shortest"):
        for size in SIZES:
            assert central_square(size) == seen_box(PIPELINES[name](), size)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"function": None}, TypeError, "function: expected a function, got NoneType"),
        ({"field_of_view": (0, 0, 1, 1)}, TypeError, "field_of_view: expected a function"),
        ({"mean": (0.5,)}, ValueError, "mean: expected three numbers"),
        ({"std": (0.5, 0.0, 0.5)}, ValueError, "std: expected three positive numbers"),
    ],
)
def test_what_is_said_wrongly(change: dict[str, Any], error: Any, message: str) -> None:
    options = {"function": mirrored, "mean": (0.5,) * 3, "std": (0.5,) * 3, "field_of_view": whole}
    with pytest.raises(error, match=message):
        Preprocessing(**(options | change))


@pytest.mark.parametrize("box", [(0, 0, 11, 5), (-1, 0, 5, 5), (5, 0, 5, 5), (0, 0, 5), None])
def test_fields_of_view_that_are_none(box: Any) -> None:
    said = Preprocessing(mirrored, (0.5,) * 3, (0.5,) * 3, lambda size: box)
    with pytest.raises(ValueError, match="field_of_view: expected "):
        seen_box(said, (10, 10))


# Exactly where, and beyond the photo.

HUGGING_FACE = {
    "clip": {"size": {"shortest_edge": 64}, "crop_size": {"height": 63, "width": 64}},
    "siglip": {"size": {"height": 64, "width": 64}},
}


def image_processor(kind: str) -> Any:
    """The steps that are read from the files of a processor of transformers."""
    kinds = {"clip": transformers.CLIPImageProcessor, "siglip": transformers.SiglipImageProcessor}
    config = transformers.CLIPConfig()
    return preprocessing_of(kinds[kind](**HUGGING_FACE[kind]), config)


def naflex() -> Any:
    """SigLIP 2's square, as `load_clip` has it."""
    config = transformers.Siglip2Config(vision_config={"num_patches": 64, "patch_size": 8})
    return preprocessing_of(transformers.Siglip2ImageProcessor(), config)


AREAS: dict[str, Callable[[], Any]] = PIPELINES | {
    "letterbox": lambda: open_clip_transform(resize_mode="longest"),
    "not square": lambda: open_clip_transform((160, 224)),
    "not square letterbox": lambda: open_clip_transform((160, 224), resize_mode="longest"),
    "odd": lambda: transforms.Compose(
        [transforms.Resize(100), transforms.CenterCrop(75), transforms.ToTensor()]
    ),
    "too small": lambda: transforms.Compose(
        [transforms.Resize(64), transforms.CenterCrop(97), transforms.ToTensor()]
    ),
    "transformers, CLIP": lambda: image_processor("clip"),
    "transformers, SigLIP": lambda: image_processor("siglip"),
    "NaFlex": naflex,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", AREAS)
def test_a_disc_lies_where_it_is_said_to(name: str, size: tuple[int, int]) -> None:
    """Its centre of mass in the input, carried back to the photo, to a twentieth of a pixel."""
    preprocess = AREAS[name]()
    left, top, right, bottom = seen_area(preprocess, size)
    radius = 0.1 * min(size)
    centre = (0.47 * size[0], 0.54 * size[1])
    ys, xs = np.mgrid[: 4 * size[1], : 4 * size[0]] / 4 + 0.125
    inside = (xs - centre[0]) ** 2 + (ys - centre[1]) ** 2 < radius**2
    coverage = inside.reshape(size[1], 4, size[0], 4).mean(axis=(1, 3))  # a smooth border
    photo = Image.fromarray((255 * coverage).round().astype(np.uint8)).convert("RGB")
    arrived = values_of(preprocess, photo)[..., 0]
    rows, columns = np.mgrid[: arrived.shape[0], : arrived.shape[1]] + 0.5
    weights = arrived - np.median(arrived)
    found = (
        left + (weights * columns).sum() / weights.sum() * (right - left) / arrived.shape[1],
        top + (weights * rows).sum() / weights.sum() * (bottom - top) / arrived.shape[0],
    )
    true = ((coverage * (xs[::4, ::4] + 0.375)).sum(), (coverage * (ys[::4, ::4] + 0.375)).sum())
    for one, other in zip(found, true, strict=True):
        assert abs(one - other / coverage.sum()) < 0.05, (found, true)


def test_known_areas() -> None:
    letterbox = open_clip_transform(resize_mode="longest")
    assert seen_area(letterbox, (448, 224)) == (0, -112, 448, 336)
    assert seen_area(letterbox, (224, 448)) == (-112, 0, 336, 448)
    assert seen_area(open_clip_transform(), (640, 480)) == (
        (37 * 640 / 298, 0, 261 * 640 / 298, 480)
    )
    said = Preprocessing(mirrored, (0.5,) * 3, (0.5,) * 3, central_square)
    assert seen_area(said, (640, 480)) == (80, 0, 560, 480)


@pytest.mark.parametrize(
    ("preprocess", "message"),
    [
        (mirrored, "preprocess: expected transforms that list their steps.*mirrored"),
        (transforms.Compose([transforms.RandomCrop(9)]), "preprocess: .*got RandomCrop"),
        (transforms.Compose([transforms.Pad(9)]), "preprocess: .*got Pad"),
        (transforms.Compose([transforms.Resize(9, max_size=20)]), "without max_size, got 20"),
        (
            transforms.Compose([ResizeKeepRatio(9, random_scale_prob=0.5)]),
            "ResizeKeepRatio without chance",
        ),
    ],
)
def test_areas_that_cannot_be_known(preprocess: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seen_area(preprocess, (200, 100))
