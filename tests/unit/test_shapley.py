"""ShapleyCCI on models: float64 brute force over permutations, passes, batches, two copies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import oracles
import pytest
import torch
from families import FAMILIES
from oracles import families as families_oracle
from oracles import relative_error
from selection import quick_first
from torch import Tensor
from torch.nn import functional as F

from cci_captum import (
    CCI,
    KMeans,
    ShapleyCCI,
    Shared,
    ZeroShotClassifier,
    find_vision_tower,
    load_clip,
)
from cci_captum.benchmarks.scenes import SceneGenerator
from cci_captum.benchmarks.statistics import interval, paired_interval
from cci_captum.tiny import CLASS_NAMES, TEMPLATES

TOLERANCE = 1e-5  # of the largest value, fp32
OWN = [[0, 1, 2], [0, 3], [5], [1, 2, 4, 9]]  # clusters of four images


class Planted:
    """Each image's clusters, whatever it looks like; images are counted as they come."""

    def __init__(self, own: list[list[int]] = OWN, patches: int = 16) -> None:
        self.labels = []
        for image, numbers in enumerate(own):
            generator = torch.Generator().manual_seed(image)
            places = torch.randperm(patches, generator=generator) % len(numbers)
            self.labels.append(torch.tensor(numbers)[places])
        self.count = 0

    def __call__(self, embeddings: Tensor) -> Tensor:
        rows = [self.labels[(self.count + i) % len(self.labels)] for i in range(len(embeddings))]
        self.count += len(embeddings)
        return torch.stack(rows)


def game_of(encode: Callable[[Tensor], Tensor], labels: Tensor) -> dict[frozenset[int], Tensor]:
    """v by the clusters that are seen, with all others hidden patch by patch."""
    numbers = labels.unique().tolist()
    game = {}
    for size in range(len(numbers) + 1):
        for seen in itertools.combinations(numbers, size):
            hidden = torch.tensor([label not in seen for label in labels.tolist()])
            game[frozenset(seen)] = encode(hidden)
    return game


def brute_force(game: dict[frozenset[int], Tensor], numbers: list[int]) -> Tensor:
    """(K, E) float64: what each adds to those before it, averaged over all orders."""
    shares = {number: torch.zeros_like(game[frozenset()]) for number in numbers}
    for order in itertools.permutations(numbers):
        before: frozenset[int] = frozenset()
        for number in order:
            shares[number] = shares[number] + game[before | {number}] - game[before]
            before = before | {number}
    return torch.stack([shares[number] / math.factorial(len(numbers)) for number in numbers])


def pairs_by_force(game: dict[frozenset[int], Tensor], i: int, j: int) -> Tensor:
    """Their interaction, averaged over orders in which the two come as one."""
    others = [number for number in max(game, key=len) if number not in (i, j)]
    total, orders = torch.zeros_like(game[frozenset()]), 0
    for order in itertools.permutations([None, *others]):
        before = frozenset(order[: order.index(None)])
        total = total + game[before | {i, j}] - game[before | {i}]
        total = total - game[before | {j}] + game[before]
        orders += 1
    return total / orders


@pytest.mark.parametrize("hide", ["mask", "drop"])
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_brute_force(make_clip, make_images, pool, hide):
    model, spec = make_clip(seed=5, pool_type=pool)
    images, planted = make_images(model, batch=4), Planted()
    method = ShapleyCCI(model.visual, clustering=planted, hide=hide)
    effects = method.effects(images)
    targets = [0, 7, 23]
    values = effects.shapley_values(targets=targets)
    pairs = effects.interactions(targets=targets)
    assert values.shape == (4, 3, 4) and pairs.shape == (4, 3, 4, 4)
    for image, numbers in enumerate(OWN):

        def encode(hidden: Tensor, image: int = image) -> Tensor:
            return oracles.encode_image(model, spec, images[image : image + 1], hidden[None])[0]

        game = game_of(encode, planted.labels[image])
        expected, own = brute_force(game, numbers)[:, targets].T, len(numbers)
        assert relative_error(values[image, :, :own], expected) < TOLERANCE
        for (a, i), (b, j) in itertools.combinations(enumerate(numbers), 2):
            together = pairs_by_force(game, i, j)[targets]
            error = (pairs[image, :, a, b] - together).abs().max()
            assert error < TOLERANCE * max(v.abs().max() for v in game.values())
        assert not values[image, :, own:].any() and not pairs[image, :, own:].any()
        seen = effects.outputs[image, targets].double()
        nothing = effects.masked_outputs[image, 2**own - 1, targets].double()
        assert (values[image].sum(dim=1) - (seen - nothing)).abs().max() < 1e-12
    assert not effects.standard_errors(targets=targets).any()


@pytest.mark.parametrize(
    "name", [pytest.param("SiglipModel", marks=pytest.mark.exhaustive), "Eva, rotary"]
)
def test_brute_force_on_other_towers(name):
    """An attention pool and an average: hidden patches are simply absent from the oracle."""
    family = FAMILIES[next(key for key in FAMILIES if name in key)]
    model, images = family.make(7), family.images(2)
    rows, columns = family.grid
    planted = Planted([[0, 1, 2], [3, 8]], rows * columns)
    method = ShapleyCCI(
        lambda x: family.run(model, x), find_vision_tower(model), clustering=planted
    )
    values = method.effects(images).shapley_values(targets=[0, 5])
    for image, numbers in enumerate([[0, 1, 2], [3, 8]]):

        def encode(hidden: Tensor, image: int = image) -> Tensor:
            with torch.no_grad():
                one = images[image : image + 1]
                return families_oracle.features(model, one, hidden[None])[0].double()

        expected = brute_force(game_of(encode, planted.labels[image]), numbers)[:, [0, 5]].T
        assert relative_error(values[image, :, : len(numbers)], expected) < TOLERANCE


@pytest.fixture(scope="module")
def small(make_clip, make_images):
    model, _ = make_clip(seed=3)
    return model, make_images(model, batch=4)


@pytest.mark.parametrize("size", [1, 3, None])
def test_passes(small, size):
    """2**K of an image of K clusters; of one with more than n_samples sets, at most n_samples."""
    model, images = small
    rows: list[int] = []

    def forward(batch: Tensor) -> Tensor:
        rows.append(len(batch))
        return model.encode_image(batch)

    tower = find_vision_tower(model)
    for clustering, n_samples, expected in (
        (Planted(), 1024, 8 + 4 + 2 + 16),
        (Planted(), None, 8 + 4 + 2 + 16),
        (Planted(), 16, 8 + 4 + 2 + 16),
        (Planted([[*range(8)], [1], [*range(8)], [2, 3]]), 50, 50 + 2 + 50 + 4),
    ):
        rows.clear()
        method = ShapleyCCI(forward, tower, clustering=clustering, n_samples=n_samples)
        method.effects(images, internal_batch_size=size, check=False)
        assert sum(rows) == expected and max(rows) == (size or 4)


@pytest.mark.exhaustive
def test_estimates_on_a_model(small):
    """The sets that are run give what the exact game gives for them; errors are of its size."""
    model, images = small
    exact = ShapleyCCI(model.visual, clustering=KMeans(8), n_samples=None).effects(images)
    some = ShapleyCCI(model.visual, clustering=KMeans(8), n_samples=120, seed=4).effects(images)
    assert torch.equal(some.labels, exact.labels)
    off = (some.shapley_values(3) - exact.shapley_values(3)).abs()
    errors = some.standard_errors(3)
    assert (errors > 0).all() and (off <= 5 * errors).all()
    assert off.max() < 0.2 * exact.shapley_values(3).abs().max()
    whole = some.outputs[:, 3].double()
    none = exact.masked_outputs[:, -1, 3].double()
    assert (some.shapley_values(3).sum(dim=1) - (whole - none)).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"n_samples: expected at least 50 .* 8 clusters.*got 49"):
        ShapleyCCI(model.visual, clustering=KMeans(8), n_samples=49).effects(images)


@pytest.mark.parametrize("n_samples", quick_first([60, 1024]))
def test_an_image_alone_and_among_others(small, n_samples):
    """Its own sets, however many clusters the others have."""
    model, images = small
    own = [[0, 1], [*range(5)], [4], [*range(7)]]
    together = ShapleyCCI(model.visual, clustering=Planted(own), n_samples=n_samples)
    effects = together.effects(images, check=False)
    rounding = 1e-6 * effects.outputs.abs().max()  # values are differences of outputs
    for image, numbers in enumerate(own):
        planted = Planted(own)
        planted.count = image
        alone = ShapleyCCI(model.visual, clustering=planted, n_samples=n_samples)
        found = alone.effects(images[image : image + 1], check=False)
        values = effects.shapley_values(2)[image]
        assert (values[: len(numbers)] - found.shapley_values(2)[0]).abs().max() < rounding
        assert not values[len(numbers) :].any()
        errors = effects.standard_errors(2)[image, : len(numbers)]
        assert (errors - found.standard_errors(2)[0]).abs().max() < TOLERANCE * values.abs().max()


def test_attribute_is_the_effects_map(small):
    model, images = small
    for normalization in ("relative", "none"):
        method = ShapleyCCI(model.visual, clustering=KMeans(3), normalization=normalization)
        effects = method.effects(images)
        assert torch.equal(method.attribute(images, 3), effects.attributions(3))
        assert torch.equal(method.patch_map(images, [0, 1, 2, 3]), effects.patch_map([0, 1, 2, 3]))


def test_further_arguments(small):
    model, images = small
    factors, bias = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.arange(24.0)

    def forward(batch: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
        return model.encode_image(batch) * factor[:, None] + shift

    method = ShapleyCCI(forward, find_vision_tower(model), clustering=Planted())
    values = method.effects(images, (factors, Shared(bias))).shapley_values(5)
    plain = ShapleyCCI(model.visual, clustering=Planted()).effects(images).shapley_values(5)
    assert relative_error(values, plain * factors[:, None]) < TOLERANCE


def test_two_clusters_that_look_the_same_have_the_same_value(small):
    """Patches that do not see one another, averaged: equal patches are symmetric players."""
    model, images = small
    patch = model.visual.conv1.kernel_size[0]
    images = images[:1, :, :patch, :patch].repeat(1, 1, 4, 4)
    images[:, :, : 2 * patch] *= -1  # the upper half
    saved = model.visual.positional_embedding.data.clone()
    model.visual.positional_embedding.data[1:] = 0
    quarters = torch.arange(16) // 8 * 2 + torch.arange(16) % 2

    class Quarters:
        def __call__(self, embeddings: Tensor) -> Tensor:
            return quarters.expand(len(embeddings), -1)

    try:
        values = ShapleyCCI(model.visual, clustering=Quarters()).effects(images).shapley_values(3)
    finally:
        model.visual.positional_embedding.data.copy_(saved)
    (a, b, c, d), largest = values[0].tolist(), float(values.abs().max())
    assert abs(a - b) < TOLERANCE * largest and abs(c - d) < TOLERANCE * largest
    assert abs(a - c) > 0.01 * largest


def test_an_output_that_no_patch_changes_has_no_values(small):
    """Every cluster is a null player."""
    model, images = small
    tower = find_vision_tower(model)

    def forward(batch: Tensor) -> Tensor:
        return model.encode_image(batch) * 0 + 3

    effects = ShapleyCCI(forward, tower, clustering=Planted()).effects(images, check=False)
    assert not effects.shapley_values(0).any() and not effects.interactions(0).any()
    assert not effects.patch_map(0).any()


class Masks:
    """The scenes' masks as clusters: 0 the background, then an object each."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def __call__(self, embeddings: Tensor) -> Tensor:
        assert len(embeddings) == len(self.labels)
        return self.labels


@pytest.mark.exhaustive
def test_two_copies_of_the_object():
    """Hiding one of two copies changes nothing, since the other remains; Shapley values do.

    CCI's drop of a copy is zero within its interval and below the background's, the Shapley value
    is near half of what both do together, and the copies' interaction is negative.
    """
    clip = load_clip("tiny")
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, CLASS_NAMES, TEMPLATES)
    scenes = SceneGenerator(seed=4242).scenes(range(16), kind="copies")
    masks = torch.stack([scene.masks for scene in scenes]).float()  # (B, 2, H, W)
    share, copy = F.adaptive_avg_pool2d(masks, 12).flatten(2).max(dim=1)
    labels = torch.where(share > 0.25, copy + 1, 0)
    images = clip.preprocess.transforms[-1](torch.stack([scene.image for scene in scenes]))
    target = [scene.classes[0] for scene in scenes]
    effects = ShapleyCCI(classifier, clustering=Masks(labels)).effects(images, check=False)
    cci = CCI(classifier, clustering=Masks(labels)).effects(images, check=False)
    assert (effects.num_clusters == 3).all()
    values, drops = effects.shapley_values(target), cci.drops(target).double()
    both = effects.drops(target)[:, 6].double()  # bits 1 and 2: both copies hidden
    copies, alone = values[:, 1:].mean(dim=1), drops[:, 1:].mean(dim=1)
    low, high = interval(alone.numpy())
    assert high < 0.15 * float(both.mean())
    low, _ = paired_interval(copies.numpy(), alone.numpy())
    assert low > 0.25 * float(both.mean())
    assert float(copies.mean()) == pytest.approx(float(both.mean()) / 2, rel=0.2)
    assert interval(effects.interactions(target)[:, 1, 2].numpy())[1] < 0
