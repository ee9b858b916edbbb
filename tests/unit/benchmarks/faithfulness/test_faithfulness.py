"""Deletion and insertion against plain loops over pixels, and against closed forms.

Noise and tie-breaking are random, so that no test can know them beforehand. But they may depend
on the seed and the image alone, so that what one call reveals (`reveal`, `tie_order`) is the
truth for every other call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Failure, randn
from scipy import ndimage
from selection import quick_first
from torch import Tensor, nn

from cci_captum import ZeroShotClassifier, find_vision_tower, load_clip
from cci_captum.baselines import GradECLIP
from cci_captum.benchmarks.faithfulness import (
    PROTOCOLS,
    DeletionInsertion,
    FaithfulnessCurves,
    Protocol,
    area_under_curve,
    perturb,
    rank_pixels,
    splits_ties,
    tied_share,
)
from cci_captum.benchmarks.faithfulness import filled as fill_images
from cci_captum.benchmarks.statistics import paired_interval

MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP's
STD = (0.26862954, 0.26130258, 0.27577711)
NAMES = ["fox", "ship", "igloo", "lemon", "jar", "owl", "bus"]
MEASURES = ("score", "probability", "top1", "top5")
SIDES = ("deletion", "insertion")
TENTHS = tuple(i / 10 for i in range(11))
BLACK = Protocol("black", TENTHS, "black", "black")
NOISE = Protocol("noise", (0.0, 1.0), "uniform-noise", "uniform-noise")


class Spy:
    """A function that counts its calls and keeps the sizes of its batches."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self.batches: list[int] = []

    def __call__(self, images: Tensor, *args: Any) -> Tensor:
        self.batches.append(len(images))
        return self.function(images, *args)


def tied(*shape: int, seed: int = 0, levels: int = 4) -> Tensor:
    """A map of few different values."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(levels, shape, generator=generator).float()


def value_at(images: Tensor, index: Tensor) -> Tensor:
    """Of each image the one value at its index: (B, 3, H, W), (B,) -> (B,)."""
    return images.flatten(1).gather(1, index[:, None])[:, 0]


def reveal(images: Tensor, maps: Tensor, protocol: Protocol | str, **options: Any) -> Tensor:
    """What the model gets to see: (2, P, B, 3, H, W), deletion and insertion.

    Each image is there once for each of its values, and the score of a copy is that value.
    """
    n = images[0].numel()
    curves = DeletionInsertion(value_at, protocol, **options)(
        images.repeat_interleave(n, 0),
        maps.repeat_interleave(n, 0),
        additional_forward_args=torch.arange(n).repeat(len(images)),
    )
    both = torch.stack([curves.deletion.score, curves.insertion.score])  # (2, B * n, P)
    return both.movedim(-1, 1).reshape(2, -1, *images.shape)


def noise_of(images: Tensor, **options: Any) -> Tensor:
    """The whole noise of every image, as the model sees it."""
    return reveal(images, torch.zeros(len(images), *images.shape[2:]), NOISE, **options)[0, 1]


def deletion_order(images: Tensor, maps: Tensor, **options: Any) -> list[list[int]]:
    """In which order pixels are deleted: H * W pixels an image, counted row by row.

    One pixel a point; the score is the sum of the numbers of all deleted ones.
    """
    n = images.shape[2] * images.shape[3]
    steps = tuple(i / n for i in range(n + 1))
    protocol = Protocol("one by one", steps, lambda x: torch.full_like(x, 99), "black")

    def deleted(x: Tensor) -> Tensor:
        return ((x[:, 0] == 99).flatten(1).double() * torch.arange(n)).sum(1)

    curves = DeletionInsertion(deleted, protocol, **options)(images, maps)
    return curves.deletion.score.diff(dim=1).long().tolist()


def tie_order(images: Tensor, **options: Any) -> list[list[int]]:
    """The order of pixels of the same importance: that of a constant map."""
    orders = deletion_order(images, torch.ones(len(images), *images.shape[2:]), **options)
    n = images.shape[2] * images.shape[3]
    assert all(sorted(order) == list(range(n)) for order in orders)
    return orders


# The protocol, in plain loops.


def ranked(values: Sequence[Any], order: Sequence[int]) -> list[int]:
    """Places by falling value; equal values in the order in which ties are broken."""
    place = {p: i for i, p in enumerate(order)}
    return sorted(range(len(values)), key=lambda p: (-values[p], place[p]))


def painted(image: Tensor, pixels: Sequence[int], fill: Tensor) -> Tensor:
    """The image with some pixels taken from `fill`, one pixel at a time."""
    result = image.clone()
    for pixel in pixels:
        y, x = divmod(pixel, image.shape[-1])
        for channel in range(3):
            result[channel, y, x] = fill[channel, y, x]
    return result


def n_first(fraction: float, n: int) -> int:
    return math.floor(fraction * n + 0.5)


def blurred(image: Tensor) -> Tensor:
    """RISE's released evaluation: 11 x 11, a filtered single one; zeros beyond the borders."""
    one = np.zeros((11, 11))
    one[5, 5] = 1
    kernel = ndimage.gaussian_filter(one, 5)
    channels = [ndimage.correlate(c, kernel, mode="constant") for c in image.double().numpy()]
    return torch.from_numpy(np.stack(channels))


def filled(image: Tensor, fill: Any, mean: Sequence[float] = MEAN, std: Any = STD) -> Tensor:
    if callable(fill):
        return fill(image[None])[0]
    result = torch.zeros_like(image)  # "mean"
    for channel in range(3):
        if fill == "black":
            result[channel] = (0 - mean[channel]) / std[channel]
    return blurred(image).to(image.dtype) if fill == "blur" else result


def measures(outputs: Tensor, target: int) -> dict[str, float]:
    """Score, probability, top-1 and top-5 of one row of outputs."""
    row = [float(value) for value in outputs.double()]
    exponentials = [math.exp(value - max(row)) for value in row]
    as_high = sum(value >= row[target] for value in row) - 1
    return {
        "score": row[target],
        "probability": exponentials[target] / sum(exponentials),
        "top1": float(as_high < 1),
        "top5": float(as_high < 5),
    }


def trapezoid(values: Sequence[float], fractions: Sequence[float]) -> float:
    area = 0.0
    for i in range(len(values) - 1):
        area += (fractions[i + 1] - fractions[i]) * (values[i] + values[i + 1]) / 2
    return area / (fractions[-1] - fractions[0])


def assert_curves(
    curves: FaithfulnessCurves,
    expected: dict[str, list[list[dict[str, float]]]],
    fractions: Sequence[float],
    tolerance: float = 1e-5,
) -> None:
    """Curves, and their areas, are those of expected[side][image][point][measure]."""
    assert curves.fractions.tolist() == pytest.approx(list(fractions))
    areas = curves.auc()
    for side in SIDES:
        for measure in MEASURES:
            rows = [[point[measure] for point in points] for points in expected[side]]
            actual = getattr(getattr(curves, side), measure)
            assert actual.shape == (len(rows), len(fractions))
            error = actual.double() - torch.tensor(rows, dtype=torch.float64)
            assert error.abs().max() < tolerance, (side, measure)
            area = areas[f"{side}_{measure}"]
            assert area.shape == (len(rows),)
            for found, row in zip(area.tolist(), rows, strict=True):
                assert found == pytest.approx(trapezoid(row, fractions), abs=tolerance)


def same_curves(actual: FaithfulnessCurves, expected: FaithfulnessCurves, tolerance: float) -> None:
    for side in SIDES:
        for measure in MEASURES:
            pair = [getattr(getattr(curves, side), measure) for curves in (actual, expected)]
            assert (pair[0] - pair[1]).abs().max() <= tolerance, (side, measure)


# The pure functions.


def test_ranks_are_those_of_a_sorted_list() -> None:
    maps = tied(3, 5, 6, seed=1)
    ties = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(2))
    ranks = rank_pixels(maps, ties)
    assert ranks.dtype == torch.int64
    assert ranks.shape == maps.shape
    for b in range(3):
        value, tie = maps[b].flatten().tolist(), ties[b].flatten().tolist()
        order = sorted(range(30), key=lambda p: (-value[p], -tie[p]))
        assert [ranks[b].flatten()[p].item() for p in order] == list(range(30))


def test_ranks_tell_neighbouring_floats_apart() -> None:
    """Ties may not be broken by adding a small number."""
    large = torch.tensor(1e6)
    maps = torch.stack([large, torch.nextafter(large, 2 * large), torch.tensor(-1e-30)])
    assert rank_pixels(maps.view(1, 1, 3), torch.tensor([[[0.9, 0.1, 1.0]]])).tolist() == [
        [[1, 0, 2]]
    ]


def test_perturb_is_a_loop_over_pixels() -> None:
    images, fill = randn(4, 3, 5, 6, seed=1), randn(4, 3, 5, 6, seed=2)
    ranks = torch.stack(
        [torch.randperm(30, generator=torch.Generator().manual_seed(b)) for b in range(4)]
    )
    counts, kept = torch.tensor([0, 7, 29, 30]), images.clone()
    result = perturb(images, ranks.view(4, 5, 6), counts, fill)
    for b in range(4):
        first = [p for p in range(30) if ranks[b, p] < counts[b]]
        assert torch.equal(result[b], painted(images[b], first, fill[b]))
    assert torch.equal(images, kept)


@pytest.mark.parametrize("fractions", [[0.0, 0.5], [0.1, 0.15, 0.4, 0.9], list(TENTHS)])
def test_area_under_a_curve(fractions: list[float]) -> None:
    points = torch.tensor(fractions, dtype=torch.float64)
    values = randn(2, 3, len(fractions), seed=3).double()
    areas = area_under_curve(values, points)
    assert areas.shape == (2, 3)
    for area, row in zip(areas.flatten().tolist(), values.flatten(0, 1).tolist(), strict=True):
        assert area == pytest.approx(trapezoid(row, fractions), abs=1e-12)
    line = 3 - 2 * points
    middle = (fractions[0] + fractions[-1]) / 2
    assert area_under_curve(line, points).item() == pytest.approx(3 - 2 * middle, abs=1e-12)
    assert area_under_curve(line * 0 + 0.7, points).item() == pytest.approx(0.7, abs=1e-12)


# Protocols are data.


def test_built_in_protocols() -> None:
    facts = {name: PROTOCOLS[name] for name in ("grad-eclip", "rise", "tokens")}
    halves = [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]
    assert list(facts["grad-eclip"].fractions) == pytest.approx(halves)
    assert list(facts["rise"].fractions) == pytest.approx(TENTHS)
    assert list(facts["tokens"].fractions) == pytest.approx(TENTHS)
    fills = {name: (p.deletion_fill, p.insertion_start, p.resolution) for name, p in facts.items()}
    assert fills == {
        "grad-eclip": ("uniform-noise", "black", "model"),
        "rise": ("mean", "blur", "model"),
        "tokens": (None, None, "tokens"),
    }
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())
    with pytest.raises(FrozenInstanceError):
        facts["rise"].name = "mine"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("fractions", ()),
        ("fractions", (0.5,)),
        ("fractions", (0.0, 0.5, 0.5)),
        ("fractions", (0.5, 0.0)),
        ("fractions", (-0.1, 0.5)),
        ("fractions", (0.0, 1.1)),
        ("fractions", (0.0, math.nan)),
        ("deletion_fill", "white"),
        ("deletion_fill", None),
        ("insertion_start", "uniform noise"),
        ("insertion_start", None),
        ("resolution", "pixels"),
    ],
)
def test_a_bad_protocol_names_its_argument(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument):
        replace(BLACK, **{argument: value})


# Curves against the loops.

FILLS = [
    ("mean", "blur"),
    ("blur", "mean"),
    ("black", "black"),
    ("uniform-noise", "black"),
    ("black", "uniform-noise"),
    (torch.neg, lambda images: images.flip(-1)),
]
MAPS = {
    "random": lambda: randn(4, 9, 8, seed=5),
    "ties": lambda: tied(4, 9, 8, seed=6),
    "constant": lambda: torch.full((4, 9, 8), 0.3),
    "channels": lambda: randn(4, 3, 9, 8, seed=7),
}


def project(images: Tensor) -> Tensor:
    """Seven outputs of a nonlinear function, in which each pixel counts: (B, 7)."""
    weights = randn(7, 3, *images.shape[2:], seed=11).to(images)
    return torch.tanh(images[:, None] * weights).sum((2, 3, 4))


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize(("deletion_fill", "insertion_start"), FILLS)
def test_curves_are_a_plain_loop(deletion_fill: Any, insertion_start: Any, kind: str) -> None:
    images, maps = randn(4, 3, 9, 8, seed=4).double(), MAPS[kind]()
    targets = [6, 0, 3, 3]
    protocol = Protocol("mine", (0.0, 0.03, 0.31, 0.6, 1.0), deletion_fill, insertion_start)
    curves = DeletionInsertion(project, protocol, seed=3)(images, maps, targets)
    orders = tie_order(images, seed=3)
    expected: dict[str, list[Any]] = {"deletion": [], "insertion": []}
    values = maps.double().mean(1) if maps.ndim == 4 else maps
    for b, image in enumerate(images):
        order = ranked(values[b].flatten().tolist(), orders[b])
        fills = [
            noise_of(images[b : b + 1], seed=3)[0] if fill == "uniform-noise"
            else filled(image, fill)
            for fill in (deletion_fill, insertion_start)
        ]  # fmt: skip
        points: dict[str, list[Any]] = {"deletion": [], "insertion": []}
        for fraction in protocol.fractions:
            first = order[: n_first(fraction, 72)]
            seen = {
                "deletion": painted(image, first, fills[0]),
                "insertion": painted(fills[1], first, image),
            }
            for side in SIDES:
                points[side].append(measures(project(seen[side][None])[0], targets[b]))
        for side in SIDES:
            expected[side].append(points[side])
    assert_curves(curves, expected, protocol.fractions, 1e-6)


@pytest.mark.parametrize("name", quick_first(["grad-eclip", "rise"]))
def test_curves_of_a_clip_model(make_clip, make_images, tokenizer, name: str) -> None:
    """A built-in protocol by its name; the map of a method, enlarged by itself."""
    model, _ = make_clip(seed=1, image_size=16, patch_size=4)
    classifier = ZeroShotClassifier(model, tokenizer, NAMES)
    images, targets = make_images(model), torch.tensor([1, 6, 4])
    maps = GradECLIP(classifier).attribute(images, targets, upsample="bilinear")
    curves = DeletionInsertion(classifier, name)(images, maps, targets)
    orders, noise = tie_order(images), noise_of(images)
    expected: dict[str, list[Any]] = {"deletion": [], "insertion": []}
    for b, image in enumerate(images):
        order = ranked(maps[b, 0].flatten().tolist(), orders[b])
        fill = noise[b] if name == "grad-eclip" else filled(image, "mean")
        start = filled(image, "black" if name == "grad-eclip" else "blur")
        first = [order[: n_first(f, 256)] for f in PROTOCOLS[name].fractions]
        seen = {
            "deletion": [painted(image, pixels, fill) for pixels in first],
            "insertion": [painted(start, pixels, image) for pixels in first],
        }
        for side in SIDES:
            with torch.no_grad():
                outputs = classifier(torch.stack(seen[side]))
            expected[side].append([measures(row, int(targets[b])) for row in outputs])
    assert_curves(curves, expected, PROTOCOLS[name].fractions, 2e-4)  # logits of up to 15, fp32


@pytest.mark.parametrize("size", [(9, 8), (16, 12), (7, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("values", ["random", "ties"])
def test_coarse_maps_are_enlarged_exactly(
    size: tuple[int, int], values: str, dtype: torch.dtype
) -> None:
    """Plateaus of a coarse map stay ties: rounding may not order their pixels by place."""
    images = randn(2, 3, *size, seed=8)
    maps = randn(2, 3, 4, seed=9) if values == "random" else tied(2, 3, 4, seed=9, levels=2)
    maps = maps.to(dtype) / 10
    ties, orders = tie_order(images), deletion_order(images, maps)
    for b in range(2):
        coarse = [[Fraction(v) for v in row] for row in maps[b].tolist()]
        fine = [bilinear(coarse, y, x, size) for y in range(size[0]) for x in range(size[1])]
        assert orders[b] == ranked(fine, ties[b])


def bilinear(coarse: list[list[Fraction]], y: int, x: int, size: tuple[int, int]) -> Fraction:
    """The enlarged map's value at a pixel, without rounding; pixels are squares, not points."""
    total = Fraction(0)
    for row, weight in neighbours(y, len(coarse), size[0]):
        for column, other in neighbours(x, len(coarse[0]), size[1]):
            total += weight * other * coarse[row][column]
    return total


def neighbours(i: int, n_coarse: int, n_fine: int) -> list[tuple[int, Fraction]]:
    place = (i + Fraction(1, 2)) * n_coarse / n_fine - Fraction(1, 2)
    place = min(max(place, Fraction(0)), Fraction(n_coarse - 1))
    below = math.floor(place)
    return [
        (below, 1 - (place - below)),
        (min(below + 1, n_coarse - 1), place - below),
    ]


def test_channels_are_averaged_not_chosen() -> None:
    images, maps = randn(2, 3, 6, 10), tied(2, 6, 10, seed=1)
    split = torch.stack([maps * 5, maps * -4, maps * 2], 1)  # mean: the map itself
    flat = DeletionInsertion(project, "rise")(images, maps, 1)
    same_curves(DeletionInsertion(project, "rise")(images, split, 1), flat, 0)


@pytest.mark.parametrize("size", [(224, 224), (6, 10), (7, 11)])
@pytest.mark.parametrize("name", ["grad-eclip", "rise"])
def test_number_of_pixels(size: tuple[int, int], name: str) -> None:
    """Rounded to the nearest; 224 x 224 and grad-eclip: steps of 2508.8 pixels."""
    n, protocol = size[0] * size[1], replace(PROTOCOLS[name], deletion_fill="mean")
    count = DeletionInsertion(lambda x: (x == 0).all(1).sum((1, 2)).float(), protocol)
    curves = count(randn(1, 3, *size), randn(1, *size, seed=1))
    step = Fraction(1, 20) if name == "grad-eclip" else Fraction(1, 10)
    expected = [math.floor(i * step * n + Fraction(1, 2)) for i in range(11)]
    assert curves.deletion.score[0].tolist() == expected


def test_half_a_pixel_counts_as_one() -> None:
    protocol = Protocol("quarters", (0.0, 0.25, 0.5, 0.75, 1.0), "mean", "black")
    count = DeletionInsertion(lambda x: (x == 0).all(1).sum((1, 2)).float(), protocol)
    curves = count(randn(1, 3, 6, 7), randn(1, 6, 7, seed=1))
    assert curves.deletion.score[0].tolist() == [0, 11, 21, 32, 42]


# Fills.


@pytest.mark.parametrize("std", [STD, (0.5, 1.0, 2.0)])
def test_fills_are_pixel_values_under_the_normalisation(std: tuple[float, ...]) -> None:
    mean, maps = (0.1, 0.5, 0.9), torch.zeros(1, 8, 8)
    images = randn(1, 3, 8, 8)
    for fill in ("black", "mean", "blur"):
        protocol = Protocol("all", (0.0, 1.0), fill, fill)
        seen = reveal(images, maps, protocol, mean=mean, std=std)
        expected = filled(images[0], fill, mean, std)
        assert torch.allclose(seen[0, 1, 0], expected, atol=1e-6)
        assert torch.allclose(seen[1, 0, 0], expected, atol=1e-6)
        assert torch.equal(seen[0, 0], images)
        assert torch.equal(seen[1, 1], images)


def test_noise_is_uniform_and_independent() -> None:
    """Kolmogorov's distance of all pixel values, and what channels and images share."""
    images = randn(4, 3, 16, 16)
    mean, std = ([0.1, 0.5, 0.9], [0.5, 1.0, 2.0])
    noise = noise_of(images, mean=mean, std=std).double()
    pixels = noise * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    pixels = pixels.transpose(0, 1).flatten(1)  # (3, 4 * 256)
    for channel in pixels:
        ordered = channel.sort().values
        assert ordered[0] > -1e-6
        assert ordered[-1] < 1 + 1e-6
        distance = (ordered - torch.arange(1, 1025) / 1024).abs().max()
        assert distance < 1.95 / 1024**0.5  # exceeded once in a thousand
    assert (torch.corrcoef(pixels) - torch.eye(3)).abs().max() < 5 / 1024**0.5
    rows = pixels.view(3, 4, 256).transpose(0, 1).flatten(1)
    assert (torch.corrcoef(rows) - torch.eye(4)).abs().max() < 5 / 768**0.5


def test_noise_and_ties_depend_on_seed_and_image_alone() -> None:
    images = randn(3, 3, 6, 10)
    noise, orders = noise_of(images, seed=1), tie_order(images, seed=1)
    assert torch.equal(noise_of(images[1:].flip(0), seed=1), noise[1:].flip(0))
    assert tie_order(images[1:].flip(0), seed=1) == orders[1:][::-1]
    other, others = noise_of(images, seed=2), tie_order(images, seed=2)
    nudged = images.clone()
    nudged[:, 0, 0, 0] += 1e-3
    for b in range(3):
        assert not torch.equal(other[b], noise[b])
        assert others[b] != orders[b]
        assert not torch.equal(noise_of(nudged, seed=1)[b], noise[b])
        assert orders[b] != orders[b - 1]
        assert orders[b] != list(range(60))
    torch.rand(7)  # the global generator has no say
    assert torch.equal(noise_of(images, seed=1), noise)


def test_the_order_of_ties_does_not_follow_the_noise() -> None:
    images = randn(4, 3, 16, 16)
    noise = noise_of(images).flatten(2).double()  # (4, 3, 256)
    place = torch.tensor(tie_order(images)).argsort(1).double()  # (4, 256)
    for b in range(4):
        shared = torch.corrcoef(torch.cat([place[b : b + 1], noise[b]]))[0, 1:]
        assert shared.abs().max() < 5 / 256**0.5


def test_the_global_generator_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    DeletionInsertion(project, "grad-eclip")(randn(2, 3, 6, 10), torch.ones(2, 6, 10), 0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_ties_are_broken_the_same_for_two_methods() -> None:
    """Two maps with the same plateau, at the top and at the bottom: the same order in it."""
    images = randn(2, 3, 6, 10)
    plateau = tied(2, 6, 10, seed=2, levels=2).bool()
    above = torch.where(plateau, 2.0, randn(2, 6, 10, seed=3).clamp(max=1))
    below = torch.where(plateau, -2.0, randn(2, 6, 10, seed=4).clamp(min=-1))
    orders = [deletion_order(images, maps) for maps in (above, below)]
    for b in range(2):
        one, other = ([p for p in order[b] if plateau[b].flatten()[p]] for order in orders)
        assert one == other
        assert one == orders[0][b][: len(one)] == orders[1][b][-len(one) :]


# Closed forms.


@pytest.mark.parametrize("weighted_by", [1, -1])
def test_linear_function_with_exact_attributions(weighted_by: int) -> None:
    """The mean fill is 0: deleting k pixels takes their contributions away, largest first."""
    images, weights, bias = randn(5, 3, 8, 5).double(), randn(3, 8, 5, seed=1).double(), 0.7
    contributions = images * weights
    protocol = Protocol("steps", tuple(i / 40 for i in range(41)), "mean", "mean")
    linear = DeletionInsertion(lambda x: (x * weights).sum((1, 2, 3)) + bias, protocol)
    curves = linear(images, weighted_by * contributions)
    shares = contributions.sum(1).flatten(1).sort(descending=weighted_by > 0).values
    removed = torch.cat([torch.zeros(5, 1).double(), shares.cumsum(1)], 1)
    total = removed[:, -1:]
    assert torch.allclose(curves.deletion.score.double(), bias + total - removed, atol=1e-5)
    assert torch.allclose(curves.insertion.score.double(), bias + removed, atol=1e-5)
    # The area: the pixel ranked r is there for r + 1/2 of the 40 steps.
    there = (torch.arange(40).double() + 0.5) / 40
    areas = curves.auc()
    assert torch.allclose(areas["deletion_score"].double(), bias + shares @ there, atol=1e-5)
    assert torch.allclose(areas["insertion_score"].double(), bias + shares @ (1 - there), atol=1e-5)


def test_no_order_deletes_a_linear_function_faster() -> None:
    images, weights = randn(4, 3, 8, 5), randn(3, 8, 5, seed=1)
    linear = DeletionInsertion(lambda x: (x * weights).sum((1, 2, 3)), BLACK)
    black = filled(images[0], "black")
    exact = linear(images, (images - black) * weights)
    for maps in (randn(4, 8, 5, seed=2), images * weights, torch.zeros(4, 8, 5)):
        other = linear(images, maps)
        assert (other.deletion.score > exact.deletion.score - 1e-4).all()
        assert (other.insertion.score < exact.insertion.score + 1e-4).all()
        assert (other.auc()["deletion_score"] > exact.auc()["deletion_score"]).all()


@pytest.mark.parametrize("shape", [(6, 10), (2, 3)])
def test_a_constant_map_scores_like_a_random_one(shape: tuple[int, int]) -> None:
    """On a function that raster order deletes fast: pixels weigh less from row to row."""
    images = 1 + randn(200, 3, 6, 10).abs()
    protocol = Protocol("mean", TENTHS, "mean", "mean")
    weights = torch.linspace(2, 0, 60).view(6, 10)
    function = DeletionInsertion(lambda x: (x * weights).mean((1, 2, 3)), protocol, seed=4)

    def areas(maps: Tensor) -> dict[str, np.ndarray]:
        found = function(images, maps).auc()
        return {side: found[f"{side}_score"].double().numpy() for side in SIDES}

    constant = areas(torch.full((200, *shape), 0.1))
    random = areas(randn(200, 6, 10, seed=5))
    raster = areas(torch.arange(60.0, 0, -1).view(6, 10).expand(200, -1, -1))
    for side in SIDES:
        low, high = paired_interval(constant[side], random[side])
        assert low < 0 < high
        low, high = paired_interval(constant[side], raster[side])
        assert low > 0.2 if side == "deletion" else high < -0.2
    # Any order, on average: half of the whole.
    whole = (images * weights).mean((1, 2, 3)).double().numpy()
    low, high = paired_interval(constant["deletion"], whole / 2)
    assert low < 0 < high


@pytest.mark.parametrize("fill", ["black", "mean", "blur", "uniform-noise"])
def test_the_negated_map_deletes_from_the_bottom(fill: str) -> None:
    """Deleting its first pixels leaves what inserting the others by the map itself gives."""
    images, maps = randn(3, 3, 6, 10), randn(3, 6, 10, seed=1)
    metric = DeletionInsertion(project, Protocol("both", TENTHS, fill, fill))
    curves, negated = metric(images, maps, [0, 4, 2]), metric(images, -maps, [0, 4, 2])
    for measure in MEASURES:
        for one, other in ((curves, negated), (negated, curves)):
            deletion, insertion = getattr(one.deletion, measure), getattr(other.insertion, measure)
            assert torch.allclose(deletion, insertion.flip(1), atol=1e-6)
    ours, theirs = curves.auc(), negated.auc()
    assert torch.allclose(ours["deletion_score"], theirs["insertion_score"], atol=1e-5)
    assert (ours["deletion_score"] - theirs["deletion_score"]).abs().min() > 1e-3


# Patches instead of pixels.


def patch_outputs(classifier: Callable[..., Tensor], image: Tensor, hidden: Tensor) -> Tensor:
    """The outputs of one image under each row of hidden patches, one pass a row: (R, C)."""
    tower, rows = find_vision_tower(classifier), []  # type: ignore[arg-type]
    for row in hidden:
        with torch.no_grad(), tower.hide(row[None]):
            rows.append(classifier(image[None])[0])
    return torch.stack(rows)


def patch_tie_order(classifier: Any, image: Tensor, n: int, side: tuple[int, int]) -> list[int]:
    """The order in which patches of a constant map are hidden, read off the scores."""
    steps = Protocol("steps", tuple(i / n for i in range(n + 1)), None, None, "tokens")
    curve = DeletionInsertion(classifier, steps)(image[None], torch.ones(1, *side), 0)
    order: list[int] = []
    for score in curve.deletion.score[0, 1:]:
        left = [p for p in range(n) if p not in order]
        hidden = torch.zeros(len(left), n, dtype=torch.bool)
        hidden[:, order] = True
        hidden[range(len(left)), left] = True
        distances = (patch_outputs(classifier, image, hidden)[:, 0] - score).abs()
        nearest = int(distances.argmin())
        assert distances[nearest] < 1e-4
        assert len(left) == 1 or distances.sort().values[1] > 1e-3
        order.append(left[nearest])
    return order


@pytest.mark.parametrize("options", [{}, {"pool_type": "avg"}, {"image_size": (16, 24)}])
@pytest.mark.parametrize("kind", ["random", "ties", "coarse", "channels", "pixels"])
def test_tokens_are_hidden_by_hand(make_clip, make_images, tokenizer, options, kind) -> None:
    model, _ = make_clip(seed=6, **{"image_size": (24, 16), **options})
    classifier = ZeroShotClassifier(model, tokenizer, NAMES)
    images, targets = make_images(model, batch=2), [5, 2]
    rows, columns = model.visual.grid_size
    n, size = rows * columns, images.shape[2:]
    maps = {
        "random": randn(2, rows, columns, seed=1),
        "ties": tied(2, rows, columns, seed=1, levels=2),
        "coarse": tied(2, rows, columns, seed=2, levels=3),
        "channels": randn(2, 3, *size, seed=3),
        "pixels": randn(2, *size, seed=4),
    }[kind]
    means = maps.double().mean(1) if maps.ndim == 4 else maps.double()
    if tuple(means.shape[1:]) == tuple(size):
        means = means.view(2, rows, 8, columns, 8).mean((2, 4))
    curves = DeletionInsertion(classifier, "tokens")(images, maps, targets)
    expected: dict[str, list[Any]] = {"deletion": [], "insertion": []}
    for b, image in enumerate(images):
        ties = kind in ("ties", "coarse")
        order = patch_tie_order(classifier, image, n, (rows, columns)) if ties else range(n)
        order = ranked(means[b].flatten().tolist(), order)
        hidden = torch.zeros(11, n, dtype=torch.bool)
        for i, fraction in enumerate(TENTHS):
            hidden[i, order[: n_first(fraction, n)]] = True
        for side, mask in (("deletion", hidden), ("insertion", ~hidden)):
            outputs = patch_outputs(classifier, image, mask)
            expected[side].append([measures(row, targets[b]) for row in outputs])
    assert_curves(curves, expected, TENTHS, 2e-4)  # logits of up to 15, fp32


def test_tokens_of_a_bare_function_and_its_tower(make_clip, make_images) -> None:
    model, _ = make_clip(seed=6, image_size=(24, 16))
    images, maps = make_images(model), randn(3, 3, 2, seed=1)
    direct = DeletionInsertion(model.visual, "tokens")(images, maps, 3)
    given = DeletionInsertion(lambda x: model.encode_image(x), "tokens", vision_tower=model.visual)
    same_curves(given(images, maps, 3), direct, 1e-5)
    adapter = find_vision_tower(model)
    given = DeletionInsertion(model.encode_image, "tokens", vision_tower=adapter)
    same_curves(given(images, maps, 3), direct, 1e-5)
    with pytest.raises(ValueError, match="vision_tower"):
        DeletionInsertion(model.encode_image, "tokens")


# What must not matter.


@pytest.mark.parametrize("name", quick_first(["tokens", "grad-eclip", "rise"]))
@pytest.mark.parametrize("kind", quick_first(["ties", "random"]))
def test_a_batch_is_its_images_one_by_one(make_clip, make_images, tokenizer, name, kind) -> None:
    model, _ = make_clip(seed=3)
    spy = Spy(ZeroShotClassifier(model, tokenizer, NAMES))
    images = make_images(model, batch=6)
    maps, targets = (randn if kind == "random" else tied)(6, 4, 4, seed=2), [0, 1, 2, 3, 4, 6]
    metric = DeletionInsertion(spy, name, vision_tower=model.visual, seed=5)
    together = metric(images, maps, targets)
    for b in range(6):
        alone = metric(images[b : b + 1], maps[b : b + 1], targets[b : b + 1])
        for side in SIDES:
            for measure in MEASURES:
                one = getattr(getattr(alone, side), measure)[0]
                assert (one - getattr(getattr(together, side), measure)[b]).abs().max() < 1e-4
    for size in (1, 4, 7, 100):
        chunks = DeletionInsertion(
            spy, name, vision_tower=model.visual, seed=5, internal_batch_size=size
        )
        spy.batches.clear()
        same_curves(chunks(images, maps, targets), together, 1e-4)
        assert max(spy.batches) <= size
        assert sum(spy.batches) <= 2 * 11 * 6 + 1  # one to learn the patch grid


@pytest.mark.parametrize("size", [None, 1, 4])
def test_further_arguments_stay_with_their_image(size: int | None) -> None:
    """A tensor has one row an image; all else is passed on as it is."""
    images, maps = randn(3, 3, 6, 10), randn(3, 6, 10, seed=1)
    factors, shift = torch.tensor([1.0, -2.0, 0.5]), 0.25

    def scaled(x: Tensor, factor: Tensor, offset: float, nothing: None) -> Tensor:
        assert nothing is None
        return project(x)[:, 0] * factor + offset

    metric = DeletionInsertion(scaled, "rise", internal_batch_size=size)
    curves = metric(images, maps, additional_forward_args=(factors, shift, None))
    plain = DeletionInsertion(project, "rise")(images, maps, 0)
    for side in SIDES:
        expected = getattr(plain, side).score * factors[:, None] + shift
        assert torch.allclose(getattr(curves, side).score, expected, atol=1e-5)


def test_forms_of_a_target() -> None:
    images, maps = randn(3, 3, 6, 10), randn(3, 6, 10, seed=1)
    metric = DeletionInsertion(project, "rise")
    for one in (2, torch.tensor(2), torch.tensor([2]), [2, 2, 2], torch.tensor([2, 2, 2])):
        same_curves(metric(images, maps, one), metric(images, maps, [2, 2, 2]), 0)


def test_one_score_an_image_has_no_classes() -> None:
    images, maps = randn(3, 3, 6, 10), randn(3, 6, 10, seed=1)
    curves = DeletionInsertion(lambda x: project(x)[:, 1], "rise")(images, maps)
    classes = DeletionInsertion(project, "rise")(images, maps, 1)
    for side in SIDES:
        curve = getattr(curves, side)
        assert torch.equal(curve.score, getattr(classes, side).score)
        assert curve.probability is None
        assert curve.top1 is None
        assert curve.top5 is None
    areas = curves.auc()
    assert sorted(areas) == ["deletion_score", "insertion_score"]
    assert torch.equal(areas["deletion_score"], classes.auc()["deletion_score"])


@pytest.mark.parametrize("n_classes", [1, 2, 4, 5])
def test_of_fewer_than_six_classes_all_are_in_the_top_five(n_classes: int) -> None:
    images, maps = randn(8, 3, 6, 10), randn(8, 6, 10, seed=1)
    metric = DeletionInsertion(lambda x: project(x)[:, :n_classes], "rise")
    curves = metric(images, maps, n_classes - 1)
    for curve in (curves.deletion, curves.insertion):
        assert (curve.top5 == 1).all()
        assert (curve.top1 == 1).all() == (n_classes == 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    """Half-precision images: scores of at least float32; counts and areas as exact as ever."""
    images, maps = randn(2, 3, 8, 8).to(dtype), randn(2, 8, 8, seed=1)
    seen = []

    def count(x: Tensor) -> Tensor:
        seen.append(x.dtype)
        return (x == 0).all(1).to(dtype).mean((1, 2))

    for attributions in (maps, maps.to(dtype), maps.double()):
        curves = DeletionInsertion(count, "rise")(images, attributions)
        assert set(seen) == {dtype}
        assert curves.deletion.score.dtype in (torch.float32, torch.float64)
        expected = torch.tensor([n_first(f, 64) / 64 for f in TENTHS])
        assert torch.allclose(curves.deletion.score.float(), expected.expand(2, -1))
        area = trapezoid(expected.tolist(), TENTHS)
        assert curves.auc()["deletion_score"].tolist() == pytest.approx([area] * 2, abs=1e-6)


# Side effects.


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        "modes": [module.training for module in model.modules()],
        "needs": [parameter.requires_grad for parameter in model.parameters()],
        "grads": [parameter.grad for parameter in model.parameters()],
        "hooks": [
            list(hooks.values())
            for module in model.modules()
            for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
        ],
    }


@pytest.mark.parametrize("name", ["grad-eclip", "rise", "tokens"])
@pytest.mark.parametrize("fatal", [None, 0, 3])
def test_everything_is_as_before(make_clip, make_images, tokenizer, name, fatal) -> None:
    """The model, the images and the maps, also when a pass fails; hooks of the user stay."""
    model, _ = make_clip(seed=4)
    classifier = ZeroShotClassifier(model, tokenizer, NAMES)
    model.visual.transformer.resblocks[0].train()
    calls = 0

    def tick(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if fatal is not None and calls > fatal:
            raise Failure

    model.visual.ln_post.register_forward_hook(tick)
    images, maps = make_images(model).requires_grad_(), randn(3, 4, 4).requires_grad_()
    kept, before = [images.detach().clone(), maps.detach().clone()], state_of(model)
    weights = {key: value.clone() for key, value in classifier.state_dict().items()}
    metric = DeletionInsertion(classifier, name, internal_batch_size=4)
    if fatal is None:
        curves = metric(images, maps, 1)
        assert not curves.deletion.score.requires_grad
    else:
        with pytest.raises(Failure):
            metric(images, maps, 1)
    assert calls > (fatal or 0)
    assert state_of(model) == before
    assert all(torch.equal(v, weights[k]) for k, v in classifier.state_dict().items())
    assert torch.equal(images.detach(), kept[0])
    assert torch.equal(maps.detach(), kept[1])
    assert images.grad is None
    assert maps.grad is None
    assert torch.is_grad_enabled()


# Errors.


@pytest.mark.parametrize("protocol", ["rise", "tokens"])
@pytest.mark.parametrize(
    ("maps", "error"),
    [
        (torch.full((3, 32, 32), math.nan), ValueError),
        (randn(3, 32, 32).index_fill(2, torch.tensor([5]), math.nan), ValueError),
        (randn(2, 32, 32), ValueError),
        (randn(2, 3, 32, 32), ValueError),
        (randn(3, 1024), ValueError),
        (randn(3, 3, 3, 32, 32), ValueError),
        (randn(3, 2, 32, 32), ValueError),
        (randn(3, 3, 32, 31), ValueError),
        (randn(3, 0, 4), ValueError),
        (randn(0, 32, 32), ValueError),
        (randn(3, 32, 32).numpy(), TypeError),
        (None, TypeError),
    ],
    ids=lambda value: None if isinstance(value, type) else str(getattr(value, "shape", value)),
)
def test_bad_attributions(make_clip, make_images, protocol, maps, error) -> None:
    model, _ = make_clip(seed=4)
    spy = Spy(model.encode_image)
    metric = DeletionInsertion(spy, protocol, vision_tower=model.visual)
    with pytest.raises(error, match="attributions"):
        metric(make_images(model), maps, 0)
    assert spy.batches == []


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (randn(3, 6, 10), ValueError),
        (randn(0, 3, 6, 10), ValueError),
        (randn(2, 1, 6, 10), ValueError),
        (torch.zeros(2, 3, 6, 10, dtype=torch.uint8), TypeError),
        ([[1.0]], TypeError),
    ],
)
def test_bad_images(images: Any, error: type[Exception]) -> None:
    spy = Spy(project)
    with pytest.raises(error, match=r"images|inputs"):
        DeletionInsertion(spy, "rise")(images, randn(2, 6, 10), 0)
    assert spy.batches == []


def test_the_blur_is_rises() -> None:
    """What one pixel becomes is the kernel; at the border of a grey image part of it is lost."""
    image = torch.zeros(1, 3, 23, 23)
    image[0, 1, 11, 11] = 1
    blur = reveal_start(image)
    kernel = blur[1, 6:17, 6:17]
    assert float(kernel[5, 5]) == pytest.approx(0.00883, abs=5e-6)
    for corner in (kernel[0, 0], kernel[0, -1], kernel[-1, 0], kernel[-1, -1]):
        assert float(corner) == pytest.approx(0.00774, abs=5e-6)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert float(blur.abs().sum()) == pytest.approx(1, abs=1e-6)  # nothing elsewhere
    grey = reveal_start(torch.ones(1, 3, 23, 23))[0]
    sides = kernel.double().sum(1)  # of the outer product
    kept = torch.tensor([float(sides[max(5 - i, 0) :].sum()) for i in range(12)])
    kept = torch.cat([kept, kept[:-1].flip(0)])
    assert torch.allclose(grey, torch.outer(kept, kept), atol=1e-6)
    assert float(grey[0, 0]) == pytest.approx(float(kept[0]) ** 2, abs=1e-6)
    assert float(grey[0, 0]) < 0.31


@pytest.mark.parametrize("size", [(1, 1), (5, 10), (3, 24)])
def test_images_smaller_than_the_window_are_blurred_too(size: tuple[int, int]) -> None:
    image = randn(1, 3, *size)
    assert torch.allclose(reveal_start(image), blurred(image[0]).float(), atol=1e-6)


def reveal_start(image: Tensor) -> Tensor:
    """What insertion under "rise" starts from: (3, H, W)."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return fill_images(image, "blur", mean, std, seed=0)[0]


@pytest.mark.parametrize("target", [7, -8, [0, 7], [-1, 0], torch.tensor([0, 7]), None, "fox"])
def test_targets_out_of_range(target: Any) -> None:
    """Only outputs show how many there are: an error after no more than one pass."""
    spy = Spy(project)
    with pytest.raises((ValueError, TypeError), match="target"):
        DeletionInsertion(spy, "rise")(randn(2, 3, 6, 10), randn(2, 6, 10), target)
    assert len(spy.batches) <= 1


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("target", {"target": [0, 1, 2]}),
        ("target", {"target": torch.tensor([0, 1, 2])}),
        ("additional_forward_args", {"target": 0, "additional_forward_args": torch.zeros(3)}),
    ],
)
def test_rows_that_do_not_fit_the_batch(argument: str, options: dict[str, Any]) -> None:
    spy = Spy(lambda x, *args: project(x))
    with pytest.raises(ValueError, match=argument):
        DeletionInsertion(spy, "rise")(randn(2, 3, 6, 10), randn(2, 6, 10), **options)
    assert spy.batches == []


@pytest.mark.parametrize(
    ("argument", "error", "options"),
    [
        ("protocol", ValueError, {"protocol": "grad-eclipse"}),
        ("protocol", (TypeError, ValueError), {"protocol": 3}),
        ("forward_func", TypeError, {"forward_func": "model"}),
        ("internal_batch_size", ValueError, {"internal_batch_size": 0}),
        ("internal_batch_size", ValueError, {"internal_batch_size": 2.5}),
        ("mean", ValueError, {"mean": (0.5, 0.5)}),
        ("std", ValueError, {"std": (0.5, 0.5, 0.0)}),
    ],
)
def test_bad_options(argument: str, error: Any, options: dict[str, Any]) -> None:
    arguments = {"forward_func": project, "protocol": "rise", **options}
    with pytest.raises(error, match=argument):
        DeletionInsertion(**arguments)(randn(2, 3, 6, 10), randn(2, 6, 10), 0)


def test_an_unknown_protocol_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"grad-eclip.*rise.*tokens"):
        DeletionInsertion(project, "deletion")


def test_bad_outputs_and_fills() -> None:
    images, maps = randn(2, 3, 6, 10), randn(2, 6, 10)
    for outputs in ([1.0, 2.0], torch.ones(3), torch.tensor(1.0)):
        metric = DeletionInsertion(lambda x, outputs=outputs: outputs, "rise")
        with pytest.raises((TypeError, ValueError), match="forward_func"):
            metric(images, maps)
    crop = Protocol("crop", TENTHS, lambda x: x[..., 1:], "black")
    with pytest.raises(ValueError, match="fill"):
        DeletionInsertion(project, crop)(images, maps, 0)


# Ties.


@pytest.mark.parametrize("name", ["grad-eclip", "rise"])
def test_orders_of_ties_are_those_of_a_stable_sort(name: str) -> None:
    """Raster order is that of a stable sort by falling value; reversed is its mirror image."""
    images, maps = randn(2, 3, 6, 10), tied(2, 6, 10)
    for order in ("raster", "reversed"):
        found = deletion_order_of(images, maps, order)
        for values, places in zip(maps.flatten(1).numpy(), found, strict=True):
            if order == "raster":
                expected = np.argsort(-values, kind="stable")
            else:
                expected = 59 - np.argsort(-values[::-1], kind="stable")
            assert places == expected.tolist()
    protocol = replace(PROTOCOLS[name], ties="raster")
    curves = DeletionInsertion(project, protocol)(images, maps, 0)
    assert torch.equal(
        curves.insertion.score,
        DeletionInsertion(project, name).under_ties(images, maps, 0)["raster"].insertion.score,
    )


def deletion_order_of(images: Tensor, maps: Tensor, ties: Any) -> list[list[int]]:
    """As `deletion_order`, with an order of ties."""
    n = maps[0].numel()
    steps = tuple(i / n for i in range(n + 1))
    protocol = Protocol("o", steps, lambda x: torch.full_like(x, 99), "black", ties=ties)

    def deleted(x: Tensor) -> Tensor:
        return ((x[:, 0] == 99).flatten(1).double() * torch.arange(n)).sum(1)

    curves = DeletionInsertion(deleted, protocol)(images, maps)
    return curves.deletion.score.diff(dim=1).long().tolist()


def test_orders_of_ties_cost_the_passes_that_they_decide() -> None:
    """Every order equals a call with it; only points inside a group of equal values are run."""
    images = randn(3, 3, 6, 10)
    values = torch.arange(60.0).flip(0)
    values[6:18] = 50.5  # one group of twelve: of the tenths of 60 only 12 lies inside
    distinct, grouped, constant = torch.arange(60.0), values, torch.ones(60)
    maps = torch.stack([distinct, grouped, constant]).view(3, 6, 10)
    spy = Spy(project)
    protocol = Protocol("tenths", TENTHS, "mean", "black")
    found = DeletionInsertion(spy, protocol).under_ties(images, maps, [0, 1, 2])
    # Constant maps: every point between 0 and 100 %.
    assert sum(spy.batches) == 3 * 22 + 2 * (0 + 2 * 1 + 2 * 9)
    assert list(found) == ["random", "raster", "reversed"]
    assert found["raster"].tied is not None
    assert found["raster"].tied.tolist() == [0.0, 12 / 60, 1.0]
    for order, curves in found.items():
        own = DeletionInsertion(project, replace(protocol, ties=order))(images, maps, [0, 1, 2])
        for side in SIDES:
            actual, expected = getattr(curves, side), getattr(own, side)
            assert torch.allclose(actual.score, expected.score, atol=1e-5)
    scores = {order: curves.deletion.score for order, curves in found.items()}
    for order in ("raster", "reversed"):
        assert torch.equal(scores[order][0], scores["random"][0])
        assert torch.equal(scores[order][1, 3:], scores["random"][1, 3:])
        assert not torch.allclose(scores[order][1, 2], scores["random"][1, 2])
        assert not torch.allclose(scores[order][2, 1:-1], scores["random"][2, 1:-1])


@pytest.mark.parametrize("seed", range(5))
def test_tied_share_and_split_ties_by_counting(seed: int) -> None:
    maps = tied(2, 5, 7, seed=seed, levels=20)
    maps[0, 0, 0] = -0.0
    shares = tied_share(maps).tolist()
    counts = torch.arange(36)
    split = splits_ties(maps, counts)
    for values, share, row in zip(maps.flatten(1).tolist(), shares, split.tolist(), strict=True):
        assert share == pytest.approx(sum(values.count(v) > 1 for v in values) / 35)
        ordered = sorted(values, reverse=True)
        assert row == [0 < c < 35 and ordered[c - 1] == ordered[c] for c in range(36)]


@pytest.mark.parametrize("ties", [(), ("raster", "raster"), ("columns",), "raster"])
def test_bad_orders_of_ties(ties: Any) -> None:
    with pytest.raises(ValueError, match="ties: expected some of random, raster, reversed, each"):
        DeletionInsertion(project, "rise").under_ties(
            randn(1, 3, 6, 6), randn(1, 6, 6), 0, ties=ties
        )


def test_orders_of_ties_of_hidden_patches() -> None:
    """Under "tokens" it is patches that are tied: raster order hides the first rows first."""
    clip = load_clip("tiny")
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
    images, maps = randn(1, 3, 96, 96), torch.ones(1, 12, 12)
    protocol = Protocol("half", (0.0, 0.5, 1.0), None, None, "tokens")
    found = DeletionInsertion(classifier, protocol).under_ties(images, maps, 0)
    tower = find_vision_tower(classifier)
    for order, rows in (("raster", slice(0, 6)), ("reversed", slice(6, 12))):
        hidden = torch.zeros(1, 12, 12, dtype=torch.bool)
        hidden[:, rows] = True
        with torch.no_grad(), tower.hide(hidden.flatten(1)):
            expected = classifier(images)[0, 0]
        assert float(found[order].deletion.score[0, 1]) == pytest.approx(float(expected), rel=1e-4)
        assert found[order].tied is not None and found[order].tied.tolist() == [1.0]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("ties", "columns"),
        ("rounding", "up"),
        ("steps", 0),
        ("insertion_fractions", (0.5,)),
        ("insertion_fractions", (0.5, 0.2)),
        ("insertion_fractions", (0.1, 0.2, 0.3)),
    ],
)
def test_fields_of_protocols_for_released_code(argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=argument):
        replace(Protocol("two", (0.0, 0.5), "mean", "black"), **{argument: value})


def test_enlarging_keeps_what_is_tied() -> None:
    """Weights of four equal values sum to one: a map of two halves has two values and a seam."""
    halves = torch.full((1, 12, 12), 0.1)
    halves[:, 6:] = 0.3
    harness = DeletionInsertion(project, Protocol("half", (0.0, 0.5), "mean", "black"))
    for size in ((96, 96), (224, 224), (100, 90)):
        curves = harness.under_ties(randn(1, 3, *size), halves, 0, ties=("raster",))["raster"]
        assert curves.tied is not None and curves.tied.tolist() == [1.0]
