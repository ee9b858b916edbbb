"""Images prepared once for several maps: the same curves, drawn once, and never those of others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import randn
from PIL import Image
from selection import quick_first
from torch import Tensor, nn
from torchvision import transforms

from cci_captum import ZeroShotClassifier
from cci_captum.attribution.forward import run_forward
from cci_captum.attribution.inputs import rows_of_args
from cci_captum.benchmarks.faithfulness import (
    PROTOCOLS,
    DeletionInsertion,
    FaithfulnessCurves,
    PreparedImages,
    Protocol,
    perturbation,
)
from cci_captum.benchmarks.faithfulness.protocols import Ties
from cci_captum.benchmarks.faithfulness.strategies import STRATEGIES, Jobs, Perturbation
from cci_captum.benchmarks.faithfulness.strategies.inputs import OfInputs, PreparedInputs

NAMES = ["cat", "dog", "fox", "ship"]
MEAN, STD = (0.48, 0.45, 0.4), (0.26, 0.27, 0.28)
MEASURES = ("score", "probability", "top1", "top5")
TARGETS = [1, 0, 3]
NOISE = Protocol("noise", (0.0, 0.3, 0.6), "uniform-noise", "blur")
PREPROCESS = transforms.Compose(
    [
        transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(32),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)


def photo_of(seed: int, width: int = 32, height: int = 32) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def project(images: Tensor) -> Tensor:
    """Seven outputs, in which each pixel counts: (B, 7)."""
    weights = randn(7, 3, *images.shape[2:], seed=11).to(images)
    return torch.tanh(images[:, None] * weights).sum((2, 3, 4))


def maps_of(kind: str) -> Tensor:
    """Three maps on a grid of 4 x 4."""
    if kind == "random":
        return randn(3, 4, 4, seed=5)
    return torch.ones(3, 4, 4) if kind == "constant" else randn(3, 4, 4, seed=6).round()


def same(one: FaithfulnessCurves, other: FaithfulnessCurves) -> bool:
    pairs = [(one.tied, other.tied)]
    for side in ("deletion", "insertion"):
        for measure in MEASURES:
            pairs.append(tuple(getattr(getattr(c, side), measure) for c in (one, other)))
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def classifier(make_clip: Any, tokenizer: Any) -> nn.Module:
    model, _ = make_clip(1)
    return ZeroShotClassifier(model, tokenizer, NAMES, templates=["{}"])


def given(protocol: str | Protocol) -> Any:
    """Three images of the kind that a protocol takes."""
    found = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    if found.resolution != "original":
        return randn(3, 3, 32, 32, seed=1)
    return [photo_of(1), photo_of(2, 41, 41), photo_of(3, 36, 36).convert("L")]


def harness_of(
    classifier: Callable[..., Tensor], protocol: str | Protocol, **options: Any
) -> DeletionInsertion:
    options = {"seed": 3, "mean": MEAN, "std": STD, "preprocess": PREPROCESS} | options
    return DeletionInsertion(classifier, protocol, **options)


# The same curves.


@pytest.mark.parametrize("protocol", [*PROTOCOLS, NOISE], ids=lambda p: getattr(p, "name", p))
@pytest.mark.parametrize("size", quick_first([4, None]))
def test_curves_are_those_of_the_images(classifier, protocol, size) -> None:
    """In the first call, which draws, and in those that use what it drew."""
    harness, images = harness_of(classifier, protocol, internal_batch_size=size), given(protocol)
    prepared = harness.prepare(images)
    assert isinstance(prepared, PreparedImages) and len(prepared) == 3
    for kind in ("ties", "random", "constant"):
        maps = maps_of(kind)
        assert same(harness(prepared, maps, TARGETS), harness(images, maps, TARGETS))
    orders: tuple[Ties, ...] = ("reversed", "random", "raster")
    found, expected = (
        harness.under_ties(each, maps_of("ties"), TARGETS, ties=orders)
        for each in (prepared, images)
    )
    assert list(found) == list(orders)
    assert all(same(found[order], expected[order]) for order in orders)


def test_further_arguments_and_sizes_of_maps() -> None:
    """What depends on the maps is not kept."""
    harness = DeletionInsertion(lambda x, factor: project(x) * factor[:, None], NOISE)
    images = randn(3, 3, 8, 8)
    prepared, factors = harness.prepare(images), torch.tensor([1.0, -2.0, 0.5])
    for maps in (randn(3, 8, 8), randn(3, 2, 4).round(), randn(3, 3, 8, 8), randn(3, 16, 16)):
        found, expected = (harness(each, maps, 2, factors) for each in (prepared, images))
        assert same(found, expected)


@pytest.mark.parametrize("protocol", quick_first(["tokens", "grad-eclip", "grad-eclip-original"]))
def test_other_models_take_them_too(make_clip, tokenizer, classifier, protocol) -> None:
    """Nothing that was drawn depends on forward_func, not even on its grid of patches."""
    prepared = harness_of(classifier, protocol).prepare(given(protocol))
    finer, _ = make_clip(2, patch_size=4)
    other = ZeroShotClassifier(finer, tokenizer, NAMES, templates=["{}"])
    for model in (classifier, other, classifier):
        harness, maps = harness_of(model, protocol), maps_of("ties")
        assert same(harness(prepared, maps, 1), harness(given(protocol), maps, 1))


@pytest.mark.parametrize("rounding", quick_first(["nearest", "down"]))
def test_copies_of_photos_are_as_large_as_need_be(rounding: Any) -> None:
    """At most 640 pixels on the shorter side; the map is still held to the photo's own shape."""
    protocol = replace(
        PROTOCOLS["grad-eclip-original"], fractions=(0.1, 0.4), rounding=rounding, ties="raster"
    )
    harness = harness_of(project, protocol)
    photos, maps = [photo_of(4, 700, 643)], [randn(7, 7, seed=1)]
    prepared = harness.prepare(photos)
    for each in (prepared, photos):
        with pytest.raises(ValueError, match=r"of the whole photo, 700 x 643, got one of 7 x 7"):
            harness(each, maps, 1)
    maps = [randn(64, 70, seed=1).round()]
    assert same(harness(prepared, maps, 1), harness(photos, maps, 1))


# Once.


@pytest.mark.parametrize(
    ("protocol", "drawn"),
    quick_first([("grad-eclip", 2), ("rise", 1), ("tokens", 1), ("grad-eclip-original", 2)], 3),
)
def test_each_image_is_hashed_once(classifier, monkeypatch, protocol, drawn) -> None:
    """For noise and for random ties, whatever the number of maps."""
    hashed, generator_of = [], perturbation.generator_of

    def spy(image: Tensor, seed: int) -> torch.Generator:
        hashed.append(seed)
        return generator_of(image, seed)

    monkeypatch.setattr(perturbation, "generator_of", spy)
    harness, images = harness_of(classifier, protocol), given(protocol)
    prepared = harness.prepare(images)
    for kind in ("ties", "random", "constant"):
        harness.under_ties(prepared, maps_of(kind), TARGETS)
    assert len(hashed) == 3 * drawn
    harness(images, maps_of("ties"), TARGETS)
    assert len(hashed) == 2 * 3 * drawn


def test_fills_are_painted_once() -> None:
    calls = []

    def fill(images: Tensor) -> Tensor:
        calls.append(len(images))
        return -images

    harness = DeletionInsertion(project, Protocol("fill", (0.0, 0.5), fill, fill))
    prepared = harness.prepare(randn(3, 3, 8, 8))
    for _ in range(3):
        harness(prepared, maps_of("ties"), 0)
    assert calls == [3, 3]


# Never those of other images.


@pytest.mark.parametrize("protocol", ["grad-eclip", "rise", "tokens"])
def test_images_that_change_afterwards(classifier, protocol) -> None:
    harness, images, maps = harness_of(classifier, protocol), given(protocol), maps_of("ties")
    before, prepared = harness(images, maps, 1), harness.prepare(images)
    images[1, :, :7] += 0.5
    assert same(harness(prepared, maps, 1), before)
    again, after = harness.prepare(images), harness(images, maps, 1)
    assert same(harness(again, maps, 1), after)
    changed = [
        not torch.equal(one, other)
        for one, other in zip(before.deletion.score, after.deletion.score, strict=True)
    ]
    assert changed == [False, True, False]


def test_photos_that_change_afterwards(classifier, tmp_path: Path) -> None:
    """Also where they would have been read from their files only later."""
    harness, maps = harness_of(classifier, "grad-eclip-original"), maps_of("ties")
    photos = given("grad-eclip-original")
    before = harness(photos, maps, 1)
    for number, photo in enumerate(photos):
        photo.save(tmp_path / f"{number}.png")
    lazy = [Image.open(tmp_path / f"{number}.png") for number in range(3)]
    prepared, own = harness.prepare(lazy), harness.prepare(photos)
    for photo in (*photos, *lazy):
        photo.paste(0, (0, 0, 10, 10))
    assert same(harness(prepared, maps, 1), before)
    assert same(harness(own, maps, 1), before)
    assert not same(harness(photos, maps, 1), before)


# Some of them.


@pytest.mark.parametrize("protocol", ["grad-eclip", "tokens", "grad-eclip-original"])
@pytest.mark.parametrize("drawn", [False, True])
def test_some_of_the_images(classifier, protocol, drawn) -> None:
    harness, images, maps = harness_of(classifier, protocol), given(protocol), maps_of("ties")
    prepared = harness.prepare(images)
    if drawn:
        harness(prepared, maps, TARGETS)
    rows, targets = [2, 0], [3, 1]
    some = [images[row] for row in rows]
    expected = harness(torch.stack(some) if protocol != "grad-eclip-original" else some,
                       maps[rows], targets)  # fmt: skip
    assert same(harness(prepared.only(rows), maps[rows], targets), expected)
    assert len(prepared.only(rows)) == 2 and len(prepared) == 3
    for bad in ([], [3], [-1, 0]):
        with pytest.raises(ValueError, match="rows: expected some of 0 to 2, got"):
            prepared.only(bad)


# Errors.


@pytest.mark.parametrize(
    ("protocol", "options", "message"),
    [
        ("rise", {}, "this harness's protocol, rise, got ones prepared with grad-eclip;"),
        ("tokens", {}, "this harness's protocol, tokens, got"),
        ("grad-eclip-original", {}, "this harness's protocol, grad-eclip-original, got"),
        (
            replace(PROTOCOLS["grad-eclip"], steps=7),
            {},
            r"this harness's protocol, Protocol.* steps=7",
        ),
        ("grad-eclip", {"seed": 4}, "this harness's seed, 4, got ones prepared with 3;"),
        ("grad-eclip", {"mean": (0.5,) * 3}, r"this harness's mean, \[0.5, 0.5, 0.5\], got"),
        ("grad-eclip", {"std": (0.5,) * 3}, r"this harness's std, \[0.5, 0.5, 0.5\], got"),
    ],
)
def test_images_prepared_otherwise_are_refused(classifier, protocol, options, message) -> None:
    prepared = harness_of(classifier, "grad-eclip").prepare(given("grad-eclip"))
    harness = harness_of(classifier, protocol, **options)
    with pytest.raises(ValueError, match=f"images: expected images prepared with {message}"):
        harness(prepared, maps_of("ties"), 1)
    with pytest.raises(ValueError, match="images: expected images prepared with"):
        harness.under_ties(prepared, maps_of("ties"), 1)


@pytest.mark.parametrize(
    ("protocol", "images", "error", "message"),
    [
        ("rise", torch.zeros(2, 1, 8, 8), ValueError, "images: expected three channels"),
        ("rise", torch.zeros(3, 8, 8), ValueError, "images: expected images of shape"),
        ("rise", [photo_of(1)], TypeError, "images: .*PIL images, which only"),
        ("tokens", torch.full((1, 3, 8, 8), torch.nan), ValueError, "expected finite images"),
        ("grad-eclip-original", torch.zeros(1, 3, 8, 8), TypeError, "images: .*Tensor"),
        ("grad-eclip-original", [photo_of(1), None], TypeError, r"images\[1\]: .*NoneType"),
    ],
)
def test_wrong_images_are_refused_at_once(classifier, protocol, images, error, message) -> None:
    with pytest.raises(error, match=message):
        harness_of(classifier, protocol).prepare(images)


@pytest.mark.parametrize("protocol", ["grad-eclip", "tokens", "grad-eclip-original"])
def test_what_does_not_fit_prepared_images(classifier, protocol) -> None:
    harness = harness_of(classifier, protocol)
    prepared = harness.prepare(given(protocol))
    with pytest.raises(ValueError, match="attributions"):
        harness(prepared, maps_of("ties")[:2], 1)
    with pytest.raises(ValueError, match="target"):
        harness(prepared, maps_of("ties"), [0, 1])
    with pytest.raises(TypeError, match=r"images: .*Prepared"):
        harness.prepare(prepared)


# A further strategy.


class Mirrored(OfInputs):
    """Replaced pixels change their sign."""

    resolution = "model"

    def perturbation(
        self, images: PreparedInputs, maps: Tensor, args: tuple[Any, ...], ties: Sequence[Ties]
    ) -> Perturbation:
        size = (images.images.shape[2], images.images.shape[3])
        ranking = images.ranking(maps, size, ties)

        def scores(jobs: Jobs) -> Tensor:
            replaced = ranking.ranks_of(jobs) < ranking.counts_of(jobs)[:, None, None]
            turned = replaced ^ (jobs.insertion == 1)[:, None, None]
            shown = images.images[jobs.row] * torch.where(turned, -1, 1)[:, None]
            return run_forward(self.forward_func, shown, rows_of_args(args, jobs.row))

        return Perturbation(scores, ranking.tied, ranking.split)


def test_a_further_strategy_is_one_class(monkeypatch) -> None:
    images, maps = randn(3, 3, 8, 8), maps_of("ties")
    protocol = Protocol("mirror", (0.0, 0.4, 1.0), torch.neg, torch.neg)
    expected = DeletionInsertion(project, protocol)(images, maps, 2)
    monkeypatch.setitem(STRATEGIES, "model", Mirrored)
    harness = DeletionInsertion(project, replace(protocol, deletion_fill="mean"))
    assert same(harness(images, maps, 2), expected)
    assert same(harness(harness.prepare(images), maps, 2), expected)
