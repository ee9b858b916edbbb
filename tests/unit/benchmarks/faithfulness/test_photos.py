"""The protocol "grad-eclip-original" on photos, against the published one step by step.

The harness gets a preprocess that writes down what it is shown, so that the perturbed photos
themselves are compared, byte for byte, and not only what a model makes of them. Where noise and
ties fall is the harness's own choice; the oracle takes both from its public functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from selection import quick_first
from skimage import data
from torch import Tensor, nn
from torchvision import transforms

from cci_captum import ZeroShotClassifier
from cci_captum.benchmarks.faithfulness import PROTOCOLS, DeletionInsertion
from cci_captum.benchmarks.faithfulness.perturbation import filled, random_ties
from cci_captum.models.preprocessing import Preprocessing, central_square, seen_box, whole

NAMES = ["cat", "dog", "fox", "ship", "igloo", "lemon", "jar", "owl"]
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
STEPS, EVERY = 100, 10
DIRECTIONS = ("deletion", "insertion")


# The oracle: PAPER's protocol, in numpy and PIL.


def shrunk(photo: Image.Image) -> Image.Image:
    """At most 640 on the shorter side."""
    shorter = min(photo.size)
    if shorter <= 640:
        return photo
    width, height = (round(side * 640 / shorter) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BICUBIC)


def bilinear(heat: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixel centres on pixel centres, the outermost values continued to the edge."""

    def axis(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        place = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
        low = np.floor(place).astype(int)
        return low, np.minimum(low + 1, n_in - 1), place - low

    top, bottom, down = axis(heat.shape[0], height)
    left, right, across = axis(heat.shape[1], width)
    rows = heat[top] * (1 - down)[:, None] + heat[bottom] * down[:, None]
    return rows[:, left] * (1 - across) + rows[:, right] * across


def noise_and_ties(photo: Image.Image, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The harness's noise (H, W, 3) uint8 and ties (H, W) of a photo."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1) / 255
    normalised = ((pixels - mean) / std)[None]
    share = (filled(normalised, "uniform-noise", mean, std, seed)[0] * std + mean).numpy()
    levels = np.clip(np.floor(share * 256), 0, 255).astype(np.uint8)
    height, width = pixels.shape[1:]
    return levels.transpose(1, 2, 0), random_ties(normalised, (height, width), seed)[0].numpy()


def perturbed_photos(photo: Image.Image, heat: Tensor, seed: int) -> dict[str, list[Image.Image]]:
    """The 11 measured photos of deletion and of insertion."""
    photo = shrunk(photo)
    pixels = np.array(photo)
    height, width, _ = pixels.shape
    values = heat.double().numpy()
    low, high = values.min(), values.max()
    values = bilinear((values - low) / ((high - low) or 1), height, width)
    noise, ties = noise_and_ties(photo, seed)
    order = np.lexsort((-ties.ravel(), -values.ravel()))  # the last key comes first
    canvas = {"deletion": pixels.copy(), "insertion": np.zeros_like(pixels)}
    paint = {"deletion": noise, "insertion": pixels}
    measured: dict[str, list[Image.Image]] = {}
    for direction in DIRECTIONS:
        measured[direction] = [Image.fromarray(canvas[direction].copy())]
        done = 0
        for step in range(1, STEPS + 1):
            upto = math.floor(step * height * width / (2 * STEPS) + 0.5)
            rows, columns = np.unravel_index(order[done:upto], (height, width))
            canvas[direction][rows, columns] = paint[direction][rows, columns]
            done = upto
            if step % EVERY == 0:
                measured[direction].append(Image.fromarray(canvas[direction].copy()))
    return measured


def measures(logits: Tensor, target: int) -> dict[str, float]:
    """Of one row of outputs."""
    values = logits.double().numpy()
    as_high = int((values >= values[target]).sum()) - 1
    shares = np.exp(values - values.max())
    return {
        "score": float(values[target]),
        "probability": float(shares[target] / shares.sum()),
        "top1": float(as_high < 1),
        "top5": float(as_high < 5),
    }


def oracle_aucs(
    photo: Image.Image,
    heat: Tensor,
    target: int,
    preprocess: Callable[[Image.Image], Tensor],
    classifier: nn.Module,
    seed: int,
) -> dict[str, float]:
    """Trapezoids over the 11 points, divided by the length of the axis."""
    areas = {}
    for direction, shown in perturbed_photos(photo, heat, seed).items():
        with torch.no_grad():
            points = [measures(classifier(preprocess(p)[None])[0], target) for p in shown]
        for name in points[0]:
            heights = [point[name] for point in points]
            areas[f"{direction}_{name}"] = (sum(heights) - (heights[0] + heights[-1]) / 2) / 10
    return areas


# What the harness shows to the model.


class Album:
    """A preprocess that keeps the photos it is shown; an input is the photo's number."""

    mean, std, field_of_view = MEAN, STD, staticmethod(whole)

    def __init__(self) -> None:
        self.photos: list[Image.Image] = []

    def __call__(self, photo: Image.Image) -> Tensor:
        self.photos.append(photo)
        return torch.full((3, 1, 1), len(self.photos) - 1.0)


def number(inputs: Tensor) -> Tensor:
    return inputs[:, 0, 0, 0]


def shown(
    photos: Sequence[Image.Image], maps: Sequence[Tensor], **options: Any
) -> list[dict[str, list[Image.Image]]]:
    """Of each photo what is shown at the 11 points of both directions."""
    album = Album()
    options = {"mean": MEAN, "std": STD, "preprocess": album} | options
    protocol = options.pop("protocol", "grad-eclip-original")
    curves = DeletionInsertion(number, protocol, **options)(photos, maps)
    return [
        {
            direction: [album.photos[int(n)] for n in getattr(curves, direction).score[row]]
            for direction in DIRECTIONS
        }
        for row in range(len(photos))
    ]


def photo_of(name: str, size: tuple[int, int] | None = None) -> Image.Image:
    """A photo of scikit-image, at another (width, height) if one is given; without black."""
    photo = Image.fromarray(np.maximum(getattr(data, name)(), 1))
    return photo if size is None else photo.resize(size, Image.Resampling.BILINEAR)


def tied_map(size: tuple[int, int], levels: int = 6, seed: int = 0) -> Tensor:
    """(h, w) map of few different values, so that most pixels are tied."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(levels, size, generator=generator) / 8 - 0.25


def full_map(photo: Image.Image, levels: int = 6) -> Tensor:
    """A map with a value for each pixel that is perturbed."""
    width, height = shrunk(photo).size
    return tied_map((height, width), levels)


def arrays(photos: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.array(photo) for photo in photos])


PHOTOS = {
    "chelsea": photo_of("chelsea"),  # 451 x 300: half a pixel is left in every step
    "coffee": photo_of("coffee"),  # 600 x 400
    "astronaut": photo_of("astronaut"),  # 512 x 512
    "tall": photo_of("astronaut", (301, 487)),
    "large": photo_of("coffee", (1400, 900)),
    "large and tall": photo_of("chelsea", (650, 700)),
}
SIZES = {
    "chelsea": (451, 300),
    "coffee": (600, 400),
    "astronaut": (512, 512),
    "tall": (301, 487),
    "large": (996, 640),
    "large and tall": (640, 689),
}


def test_the_protocol_is_the_published_one() -> None:
    protocol = PROTOCOLS["grad-eclip-original"]
    assert protocol.fractions == tuple(k / 20 for k in range(11))
    assert protocol.resolution == "original"


@pytest.mark.parametrize("name", quick_first(["chelsea", "tall", "large"]))
def test_photos_are_perturbed_step_by_step(name: str) -> None:
    photo = PHOTOS[name]
    heat = full_map(photo)
    (found,) = shown([photo], [heat], seed=3)
    expected = perturbed_photos(photo, heat, seed=3)
    for direction in DIRECTIONS:
        assert len(found[direction]) == 11
        assert all(p.mode == "RGB" and p.size == SIZES[name] for p in found[direction])
        assert np.array_equal(arrays(found[direction]), arrays(expected[direction])), direction


def test_coarse_maps_are_enlarged_to_the_photo() -> None:
    photo = PHOTOS["chelsea"]
    heat = torch.rand(7, 9, generator=torch.Generator().manual_seed(4))
    (found,) = shown([photo], [heat])
    expected = perturbed_photos(photo, heat, seed=0)
    for direction in DIRECTIONS:
        differ = (arrays(found[direction]) != arrays(expected[direction])).any(axis=-1)
        # Only pixels that rounding puts on the other side of the last one of a point.
        assert differ.sum(axis=(1, 2)).max() <= 4


@pytest.mark.parametrize("name", quick_first(["coffee", "chelsea", "large and tall"]))
def test_number_of_pixels(name: str) -> None:
    photo = PHOTOS[name]
    (found,) = shown([photo], [full_map(photo)])
    width, height = SIZES[name]
    counts = [int(k * width * height / 20 + 0.5) for k in range(11)]
    inserted = (arrays(found["insertion"]) > 0).any(axis=-1)
    assert inserted.sum(axis=(1, 2)).tolist() == counts
    deleted = (arrays(found["deletion"]) != arrays(found["deletion"])[:1]).any(axis=-1)
    assert not (deleted & ~inserted).any()  # the same pixels, and
    assert (inserted & ~deleted).sum() < 20  # noise is rarely what it replaces


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ((5, 2), [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),  # half a pixel counts as one
        ((13, 7), [0, 5, 9, 14, 18, 23, 27, 32, 36, 41, 46]),
        ((10, 3), [0, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15]),
        ((2, 1), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_number_of_pixels_of_small_photos(size: tuple[int, int], counts: list[int]) -> None:
    (found,) = shown([photo_of("coffee", size)], [torch.zeros(size[::-1])])
    assert (arrays(found["insertion"]) > 0).any(-1).sum(axis=(1, 2)).tolist() == counts


def test_the_most_important_comes_first() -> None:
    photo = PHOTOS["chelsea"]
    height, width = 300, 451
    rows = torch.arange(height, 0, -1.0)[:, None].expand(height, width)
    (found,) = shown([photo], [rows])
    inserted = (arrays(found["insertion"]) > 0).any(axis=-1)
    assert inserted[10, :150].all() and not inserted[10, 150:].any()
    assert np.array_equal(arrays(found["deletion"])[10, 150:], np.array(photo)[150:])


def test_scale_and_offset_of_a_map_mean_nothing() -> None:
    photo, heat = PHOTOS["tall"], full_map(PHOTOS["tall"])
    first, second = (shown([photo], [one])[0] for one in (heat, 4 * heat + 16))
    for direction in DIRECTIONS:
        assert np.array_equal(arrays(first[direction]), arrays(second[direction]))


@pytest.mark.parametrize("name", quick_first(["coffee", "large and tall"]))
def test_unperturbed_points(name: str) -> None:
    photo = PHOTOS[name]
    (found,) = shown([photo], [torch.ones(2, 2)])
    assert np.array_equal(np.array(found["deletion"][0]), np.array(shrunk(photo)))
    assert not np.array(found["insertion"][0]).any()


def test_every_value_survives() -> None:
    values = np.arange(256, dtype=np.uint8).repeat(4).reshape(32, 32)
    photo = Image.fromarray(np.stack([values, values.T, 255 - values], axis=-1))
    (found,) = shown([photo], [torch.zeros(1, 1)])
    assert np.array_equal(np.array(found["deletion"][0]), np.array(photo))


@pytest.mark.parametrize(
    ("mode", "size"),
    quick_first([("L", (40, 30)), ("RGBA", (40, 30)), ("CMYK", (40, 30)), ("P", (660, 650))], 3),
)
def test_other_modes_are_made_rgb_first(mode: str, size: tuple[int, int]) -> None:
    photo = photo_of("coffee", size).convert(mode)
    heat = torch.zeros(2, 2)
    found, expected = (shown([p], [heat])[0] for p in (photo, photo.convert("RGB")))
    for direction in DIRECTIONS:
        assert np.array_equal(arrays(found[direction]), arrays(expected[direction]))


def noise_of(photo: Image.Image, seed: int) -> np.ndarray:
    """(n, 3) values that deleted pixels get."""
    (found,) = shown([photo], [torch.zeros(1, 1)], seed=seed)
    return np.array(found["deletion"][10])[(np.array(found["insertion"][10]) > 0).any(axis=-1)]


def test_noise_is_uniform_over_all_values() -> None:
    noise = noise_of(PHOTOS["astronaut"], seed=0)
    assert noise.shape == (131072, 3)
    for channel in range(3):
        counts = np.bincount(noise[:, channel], minlength=256)
        assert stats.chisquare(counts).pvalue > 1e-3
    correlations = np.corrcoef(noise.T)[np.triu_indices(3, k=1)]
    assert np.abs(correlations).max() < 0.015
    neighbours = np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1]
    assert abs(neighbours) < 0.015


def test_randomness_depends_on_the_seed_and_the_photo() -> None:
    one = photo_of("coffee", (180, 120))
    two = one.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    first = noise_of(one, seed=1)
    assert np.array_equal(first, noise_of(one, seed=1))
    for other in (noise_of(one, seed=2), noise_of(two, seed=1)):
        assert (first == other).mean() < 0.01  # 1 in 256 is equal by chance


# What the released scripts compute.


def released_photos(photo: Image.Image, heat: Tensor, noise: np.ndarray) -> dict[str, np.ndarray]:
    """The 11 photos of deletion and insertion, (11, H, W, 3), as those scripts make them.

    From their facts: whole steps of int(area / 200) pixels, and at least one; a stable sort by
    falling value; every tenth of 100 steps is recorded; deletion's first point is the photo, as is
    insertion's last.
    """
    pixels = np.array(photo)
    area = pixels.shape[0] * pixels.shape[1]
    once = max(1, int(area / 200))
    order = np.argsort(-heat.numpy().ravel(), kind="stable")
    deleted, inserted = pixels.copy().reshape(-1, 3), np.zeros((area, 3), np.uint8)
    found: dict[str, list[np.ndarray]] = {"deletion": [pixels.copy()], "insertion": []}
    for step in range(1, 101):
        chosen = order[(step - 1) * once : step * once]
        deleted[chosen] = noise.reshape(-1, 3)[chosen]
        inserted[chosen] = pixels.reshape(-1, 3)[chosen]
        if step % 10 == 0:
            found["deletion"].append(deleted.copy().reshape(pixels.shape))
            found["insertion"].append(inserted.copy().reshape(pixels.shape))
    found["insertion"].append(pixels.copy())
    return {direction: np.stack(photos) for direction, photos in found.items()}


@pytest.mark.parametrize("size", [(451, 300), (121, 87), (13, 7), (640, 641)])
def test_the_released_protocol_step_by_step(size: tuple[int, int]) -> None:
    photo = photo_of("chelsea", size)
    heat = tied_map(size[::-1])
    (found,) = shown([photo], [heat], protocol="grad-eclip-released")
    last = np.array(found["deletion"][10])  # noise wherever a pixel is ever deleted
    expected = released_photos(photo, heat, last)
    for direction in DIRECTIONS:
        assert np.array_equal(arrays(found[direction]), expected[direction]), direction


@pytest.mark.parametrize(
    ("size", "expected"),
    # The whole part of each side over (shorter side / 640), in floating point.
    quick_first([((650, 701), (640, 690)), ((1400, 900), (995, 640)), ((640, 1000), (640, 1000))]),
)
def test_the_released_protocol_cuts_sides(size: tuple[int, int], expected: tuple[int, int]) -> None:
    (found,) = shown([photo_of("coffee", size)], [tied_map((4, 4))], protocol="grad-eclip-released")
    assert {photo.size for photo in found["deletion"]} == {expected}


def test_the_released_noise_has_no_white() -> None:
    """255 * random, cut to whole numbers: 0 to 254, each as likely."""
    photo = PHOTOS["astronaut"]
    ramp = torch.arange(512.0 * 512).flip(0).view(512, 512)
    (found,) = shown([photo], [ramp], protocol="grad-eclip-released", seed=3)
    noise = np.array(found["deletion"][10])[:250].reshape(-1, 3)  # the upper half is deleted
    assert noise.max() == 254
    for channel in range(3):
        counts = np.bincount(noise[:, channel], minlength=255)
        assert stats.chisquare(counts).pvalue > 1e-3


def test_areas_of_the_released_protocol_have_equal_steps(model: Any) -> None:
    """As of a list of eleven numbers: the last one, the whole photo, is a step like the others."""
    preprocess, classifier = model
    harness = DeletionInsertion(
        classifier, "grad-eclip-released", mean=MEAN, std=STD, preprocess=preprocess
    )
    curves = harness([photo_of("chelsea", (150, 100))], [tied_map((6, 9))], target=1)
    for direction in DIRECTIONS:
        values = getattr(curves, direction).probability[0].double()
        area = (values.sum() - values[0] / 2 - values[-1] / 2) / 10
        assert float(curves.auc()[f"{direction}_probability"]) == pytest.approx(float(area), 1e-6)
    whole = curves.deletion.probability[0, 0]
    assert torch.allclose(curves.insertion.probability[0, -1], whole, rtol=1e-5)
    frame = curves.to_frame()
    inserted = frame[frame["direction"] == "insertion"]["fraction"]
    assert inserted.tolist() == [k / 20 for k in range(1, 11)] + [1.0]


# What the model makes of it.


@pytest.fixture(scope="module")
def model(make_clip: Any, tokenizer: Any) -> tuple[Callable[[Image.Image], Tensor], nn.Module]:
    """A preprocessing and a classifier in double precision: batches then change nothing."""
    clip, _ = make_clip(1)
    preprocess = transforms.Compose(
        [
            transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return preprocess, ZeroShotClassifier(clip.double(), tokenizer, NAMES)


@pytest.mark.parametrize(
    ("name", "target"), quick_first([("chelsea", 0), ("tall", 6), ("large and tall", 2)])
)
def test_areas_are_the_oracle_s(model: Any, name: str, target: int) -> None:
    preprocess, classifier = model
    photo = PHOTOS[name]
    heat = full_map(photo, levels=3)
    harness = DeletionInsertion(
        classifier, "grad-eclip-original", seed=5, mean=MEAN, std=STD, preprocess=preprocess
    )
    areas = harness([photo], [heat], target).auc()
    expected = oracle_aucs(photo, heat, target, preprocess, classifier, seed=5)
    assert {key: float(value) for key, value in areas.items()} == pytest.approx(expected, abs=1e-6)
    assert len({round(value, 3) for value in expected.values()}) > 2  # something happens


def test_the_first_point_is_the_photo_itself(model: Any) -> None:
    preprocess, classifier = model
    photo = PHOTOS["tall"]
    harness = DeletionInsertion(
        classifier, "grad-eclip-original", preprocess=preprocess, internal_batch_size=1
    )
    curves = harness([photo], [torch.rand(16, 10)], 1)
    with torch.no_grad():
        plain = classifier(preprocess(photo)[None])
        black = classifier(preprocess(Image.new("RGB", photo.size))[None])
    assert curves.deletion.score[0, 0] == plain[0, 1]
    assert curves.insertion.score[0, 0] == black[0, 1]


def test_a_batch_is_its_photos_one_by_one(model: Any) -> None:
    preprocess, classifier = model
    sizes = {"chelsea": (151, 100), "coffee": (90, 130)}
    photos = [photo_of(name, size) for name, size in sizes.items()]
    maps = [torch.rand(8, 12), full_map(photos[1])]
    before = [photo.tobytes() for photo in photos], [one.clone() for one in maps]
    together = shown(photos, maps)
    for photo, heat, found in zip(photos, maps, together, strict=True):
        (alone,) = shown([photo], [heat])
        for direction in DIRECTIONS:
            assert np.array_equal(arrays(found[direction]), arrays(alone[direction]))
    options = {"preprocess": preprocess}
    targets = [0, 3]
    of_all = [
        DeletionInsertion(classifier, "grad-eclip-original", internal_batch_size=n, **options)(
            photos, maps, targets
        ).auc()
        for n in (None, 7)
    ]
    for row, (photo, heat, target) in enumerate(zip(photos, maps, targets, strict=True)):
        harness = DeletionInsertion(classifier, "grad-eclip-original", **options)
        for key, area in harness([photo], [heat], target).auc().items():
            for areas in of_all:
                assert float(areas[key][row]) == pytest.approx(float(area), abs=1e-9)
    assert before[0] == [photo.tobytes() for photo in photos]
    assert all(torch.equal(*pair) for pair in zip(before[1], maps, strict=True))


@pytest.mark.parametrize("size", [1, 4, None])
def test_internal_batches_are_no_larger_than_asked(size: int | None) -> None:
    sizes: list[int] = []

    def spy(inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return number(inputs)

    photos = [photo_of("coffee", (9, 7)), photo_of("coffee", (6, 8))]
    harness = DeletionInsertion(
        spy, "grad-eclip-original", preprocess=Album(), internal_batch_size=size
    )
    harness(photos, [torch.zeros(1, 1)] * 2)
    assert sum(sizes) == 2 * 2 * 11 and max(sizes) <= (size or 44)


# Errors.


def test_preprocess_is_needed() -> None:
    with pytest.raises(TypeError, match=r"preprocess.*grad-eclip-original.*None"):
        DeletionInsertion(number, "grad-eclip-original")


def test_a_map_of_the_cropped_input_is_no_map_of_the_photo(model: Any) -> None:
    """Stretched over the photo it lies elsewhere: on pixels that the model never sees, too."""
    preprocess, classifier = model
    harness = DeletionInsertion(classifier, "grad-eclip-original", preprocess=preprocess)
    photo = photo_of("coffee", (90, 60))
    message = (
        r"attributions\[1\]: expected a map of the whole photo, 90 x 60, got one of 12 x 12, the "
        r"shape of the 60 x 60 that preprocess leaves; cut the photo first: photo\.crop"
    )
    with pytest.raises(ValueError, match=message):
        harness([photo, photo], [torch.rand(60, 90), torch.rand(12, 12)], 1)
    harness([photo.crop(seen_box(preprocess, photo.size))], [torch.rand(12, 12)], 1)
    harness([photo], [torch.rand(8, 12)], 1)


def test_what_a_function_does_has_to_be_said(model: Any) -> None:
    preprocess, classifier = model

    def mine(photo: Image.Image) -> Tensor:
        return preprocess(photo)

    options = {"seed": 1, "internal_batch_size": 8}
    for protocol, what in (
        ("grad-eclip-original", "which part of the photo it leaves"),
        ("rise", "how it normalises"),
    ):
        with pytest.raises(ValueError, match=rf"preprocess: .*mine, .*{what}; say .*Preprocessing"):
            DeletionInsertion(classifier, protocol, preprocess=mine)
    said = Preprocessing(mine, MEAN, STD, central_square)
    photo, heat = photo_of("coffee", (60, 60)), torch.rand(12, 12)
    areas = [
        DeletionInsertion(classifier, "grad-eclip-original", preprocess=p, **options)(
            [photo], [heat], 1
        ).auc()
        for p in (preprocess, said)
    ]
    for name, value in areas[0].items():
        assert torch.allclose(value, areas[1][name], atol=1e-9)


def test_the_normalisation_is_the_preprocessing_s() -> None:
    said = Preprocessing(Album(), (0.5,) * 3, (0.25,) * 3, whole)
    harness = DeletionInsertion(number, "grad-eclip-original", preprocess=said)
    assert harness.mean.flatten().tolist() == [0.5] * 3
    assert harness.std.flatten().tolist() == [0.25] * 3
    own = DeletionInsertion(number, "grad-eclip-original", preprocess=said, mean=MEAN)
    assert own.mean.flatten().tolist() == pytest.approx(MEAN)


PHOTO = photo_of("coffee", (9, 7))
HEAT = torch.zeros(7, 9)


@pytest.mark.parametrize(
    ("photos", "maps", "error", "message"),
    [
        ([], [], TypeError, "images: .*at least one"),
        (PHOTO, [HEAT], TypeError, "images: .*sequence"),
        (torch.zeros(1, 3, 7, 9), [HEAT], TypeError, "images: .*Tensor"),
        ([torch.zeros(3, 7, 9)], [HEAT], TypeError, r"images\[0\]: .*PIL.*Tensor"),
        ([PHOTO, np.zeros((7, 9, 3))], [HEAT] * 2, TypeError, r"images\[1\]: .*ndarray"),
        ([PHOTO] * 2, [HEAT], ValueError, "attributions: expected 2.*got 1"),
        ([PHOTO], torch.zeros(2, 7, 9), ValueError, "attributions: expected 1.*got 2"),
        ([PHOTO], [HEAT[None]], ValueError, r"attributions\[0\]: .*\(1, 7, 9\)"),
        ([PHOTO], [HEAT[:0]], ValueError, r"attributions\[0\]: .*\(0, 9\)"),
        ([PHOTO], [HEAT.numpy()], ValueError, r"attributions\[0\]"),
        ([PHOTO], [HEAT.long()], TypeError, r"attributions\[0\]: .*int64"),
        ([PHOTO] * 2, [HEAT, HEAT + math.nan], ValueError, r"attributions\[1\]: .*finite"),
        ([PHOTO] * 2, [HEAT - math.inf, HEAT], ValueError, r"attributions\[0\]: .*finite"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    photos: Any, maps: Any, error: type[Exception], message: str
) -> None:
    album = Album()
    harness = DeletionInsertion(number, "grad-eclip-original", preprocess=album)
    with pytest.raises(error, match=message):
        harness(photos, maps)
    assert not album.photos


def test_photos_are_for_this_protocol_only() -> None:
    with pytest.raises(TypeError, match='"original"'):
        DeletionInsertion(number, "grad-eclip")([PHOTO], torch.zeros(1, 7, 9))


@pytest.mark.parametrize("target", [8, -9, [0, 1, 2]])
def test_targets_that_do_not_fit(model: Any, target: Any) -> None:
    preprocess, classifier = model
    harness = DeletionInsertion(classifier, "grad-eclip-original", preprocess=preprocess)
    with pytest.raises((ValueError, IndexError, AssertionError), match="target"):
        harness([PHOTO] * 2, [HEAT] * 2, target)
