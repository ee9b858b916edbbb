"""Sets of clusters: outputs against float64 oracles, passes counted, Shapley values known."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from families import FAMILIES
from oracles import families as families_oracle
from oracles import relative_error
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import cci_captum
from cci_captum import CCI, ClusterEffects, Coalitions, KMeans, all_sets, find_vision_tower
from cci_captum.attribution.clusters import compacted
from cci_captum.baselines import ClusterAblation

TOLERANCE = 1e-5  # relative, fp32
WIDE = 100_000  # clusters of a data set
NUMBERS = [[421, 70_003], [5, 421, 99_999], [8], [0, 5, 70_003, 99_998]]  # of four images


class Planted:
    """Clusters of a data set of which each image has few, whatever it looks like.

    Images are counted as they come, so that they may come in parts.
    """

    n_clusters = WIDE

    def __init__(self, numbers: list[list[int]] = NUMBERS, seed: int = 0) -> None:
        self.numbers, self.seed, self.count = numbers, seed, 0

    def __call__(self, embeddings: Tensor) -> Tensor:
        rows = []
        for _ in embeddings:
            image = self.count % len(self.numbers)
            own = torch.tensor(self.numbers[image])
            generator = torch.Generator().manual_seed(self.seed + image)
            places = torch.randperm(embeddings.shape[1], generator=generator)
            rows.append(own[places % len(own)])  # each of them is used
            self.count += 1
        return torch.stack(rows)


@pytest.fixture(scope="module")
def small(make_clip, make_images):
    """A model, its Spec and four images of 4 x 4 patches."""
    model, spec = make_clip(seed=3)
    return model, spec, make_images(model, batch=4)


def random_sets(count: int, columns: int, seed: int = 0) -> Tensor:
    return torch.rand(count, columns, generator=torch.Generator().manual_seed(seed)) < 0.4


def numbered_sets() -> Tensor:
    """Eight sets over the numbers of a data set, some alike for some images, one empty for all."""
    chosen = [[], [5], [421], [5, 421], [99_999, 5], [0, 70_003], [8, 421, 12], [17, 99_000]]
    sets = torch.zeros(len(chosen), WIDE, dtype=torch.bool)
    for row, numbers in zip(sets, chosen, strict=True):
        row[numbers] = True
    return sets


def hidden_patches(labels: Tensor, sets: Tensor, image: int, which: int) -> Tensor:
    """(N,) bool, patch by patch, from labels and sets of the same numbering."""
    return torch.tensor([bool(sets[which, label]) for label in labels[image].flatten()])


def expected_outputs(encode: Callable[[int, Tensor], Tensor], masks: list[list[Tensor]]) -> Tensor:
    """Outputs (B, M, E) with masks[b][m] hidden, a mask at a time."""
    known: dict[tuple[int, bytes], Tensor] = {}
    rows = []
    for image, own in enumerate(masks):
        for mask in own:
            key = (image, mask.numpy().tobytes())
            if key not in known:
                known[key] = encode(image, mask)
        rows.append(torch.stack([known[image, mask.numpy().tobytes()] for mask in own]))
    return torch.stack(rows)


def passes_needed(masks: list[list[Tensor]]) -> int:
    """One of each image, and one for each set of its patches that is hidden."""
    needed = 0
    for own in masks:
        needed += 1 + len({mask.numpy().tobytes() for mask in own if mask.any()})
    return needed


class Spy:
    """What the vision tower was asked to hide, (n, N) masks, a pass at a time."""

    def __init__(self, cci: CCI, monkeypatch: pytest.MonkeyPatch) -> None:
        self.masks: list[Tensor] = []
        hide = cci.vision_tower.hide

        def spied(mask: Tensor, *options: Any) -> Any:
            self.masks.append(mask)
            return hide(mask, *options)

        monkeypatch.setattr(cci.vision_tower, "hide", spied)


@pytest.mark.parametrize("hide", ["mask", "drop"])
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_all_sets_of_images_with_other_numbers_of_clusters(make_clip, make_images, pool, hide):
    model, spec = make_clip(seed=5, pool_type=pool)
    images, clustering = make_images(model, batch=4), Planted()
    found = CCI(model.visual, clustering=clustering, hide=hide).coalitions(images, all_sets)
    labels = Planted()(torch.zeros(4, 16, 1)).view(4, 4, 4)
    masks = []  # row m hides the i-th of an image's numbers where bit i of m is set
    for image, numbers in enumerate(NUMBERS):
        hidden = [[n for i, n in enumerate(numbers) if m >> i & 1] for m in range(16)]
        masks.append([torch.isin(labels[image].flatten(), torch.tensor(h)) for h in hidden])
    expected = expected_outputs(
        lambda image, mask: oracles.encode_image(
            model, spec, images[image : image + 1], mask[None]
        )[0],
        masks,
    )
    assert relative_error(found.masked_outputs, expected) < TOLERANCE
    assert relative_error(found.outputs, expected[:, 0]) < TOLERANCE
    drops = expected[:, :1, 3] - expected[:, :, 3]
    assert relative_error(found.drops(3), drops) < 10 * TOLERANCE
    assert (found.drops(3)[:, 0] == 0).all()
    assert found.clusters.tolist() == [n + [-1] * (4 - len(n)) for n in NUMBERS]
    assert found.num_clusters.tolist() == [2, 3, 1, 4]
    assert found.sizes.tolist() == [[8, 8, 0, 0], [6, 5, 5, 0], [16, 0, 0, 0], [4, 4, 4, 4]]
    assert torch.equal(found.clusters.gather(1, found.labels.flatten(1)), labels.flatten(1))
    for image, numbers in enumerate(NUMBERS):
        own = all_sets(4) & (torch.arange(4) < len(numbers))
        assert torch.equal(found.sets[image], own)


@pytest.mark.parametrize("hide", ["mask", "drop"])
@pytest.mark.parametrize("name", ["SiglipModel", "Eva, rotary"])
def test_sets_over_the_numbers_of_a_data_set(name, hide):
    """An attention pool and an average, against the oracle of their libraries."""
    family = FAMILIES[next(key for key in FAMILIES if name in key)]
    model, images = family.make(7), family.images(4)
    rows, columns = family.grid
    tower = find_vision_tower(model)
    cci = CCI(lambda x: family.run(model, x), tower, clustering=Planted(), hide=hide)
    sets = numbered_sets()
    found = cci.coalitions(images, sets)
    labels = Planted()(torch.zeros(4, rows * columns, 1)).view(4, rows, columns)
    masks = [[hidden_patches(labels, sets, b, m) for m in range(len(sets))] for b in range(4)]

    def encode(image: int, mask: Tensor) -> Tensor:
        with torch.no_grad():
            return families_oracle.features(model, images[image : image + 1], mask[None])[0]

    assert relative_error(found.masked_outputs, expected_outputs(encode, masks)) < TOLERANCE
    for image, numbers in enumerate(NUMBERS):
        columns = sets[:, numbers]
        assert torch.equal(found.sets[image, :, : len(numbers)], columns)
        assert not found.sets[image, :, len(numbers) :].any()


@pytest.mark.parametrize("hide", ["mask", "drop"])
@pytest.mark.parametrize("size", [1, 3, None])
def test_each_set_of_patches_is_one_pass(small, monkeypatch, hide, size):
    """Sets that hide the same patches of an image share it, and what hides none has no pass."""
    model, _, images = small
    rows = []

    def forward(batch: Tensor) -> Tensor:
        rows.append(len(batch))
        return model.encode_image(batch)

    for sets, in_all in ((numbered_sets(), 4 + 2 + 4 + 1 + 2), (all_sets, 4 + 3 + 7 + 1 + 15)):
        rows.clear()
        cci = CCI(forward, find_vision_tower(model), clustering=Planted(), hide=hide)
        spy = Spy(cci, monkeypatch)
        found = cci.coalitions(images, sets, internal_batch_size=size, check=False)
        labels, own = found.labels, found.sets
        masks = [
            [hidden_patches(labels, own[b], b, m) for m in range(own.shape[1])] for b in range(4)
        ]
        assert sum(rows) == passes_needed(masks) == in_all
        assert max(rows) == (size or 4)
        run = torch.cat(spy.masks)
        assert len(run) == in_all - 4 and run.any(dim=1).all()
        if hide == "drop":  # rows of like length stand together
            assert (run.sum(dim=1).diff() >= 0).all()


@pytest.mark.parametrize("hide", ["mask", "drop"])
def test_internal_batch_size_changes_rounding_alone(small, hide):
    model, _, images = small
    cci = CCI(model.visual, clustering=Planted(), hide=hide)
    whole = cci.coalitions(images, all_sets)
    for size in (1, 3, 64):
        parts = cci.coalitions(images, all_sets, internal_batch_size=size)
        assert torch.equal(parts.sets, whole.sets)
        assert torch.equal(parts.labels, whole.labels)
        assert relative_error(parts.masked_outputs, whole.masked_outputs) < TOLERANCE


class Widest(TorchDispatchMode):
    """The longest dimension of any tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, Tensor):
                self.longest = max([self.longest, *value.shape])
        return out


@pytest.mark.parametrize("hide", ["mask", "drop"])
def test_no_tensor_is_as_wide_as_the_data_sets_clusters(small, hide):
    model, _, images = small
    cci = CCI(model.visual, clustering=Planted(), hide=hide)
    sets = numbered_sets()
    with Widest() as widest:
        effects = cci.effects(images)
        effects.patch_map(3)
        coalitions = cci.coalitions(images, sets)
        coalitions.drops(3)
    assert widest.longest < 10_000
    assert effects.masked_outputs.shape == (4, 4, 24)
    assert effects.sets.shape == (4, 4, 4)
    for field in fields(coalitions):
        value = getattr(coalitions, field.name)
        assert not isinstance(value, Tensor) or max(value.shape) <= 24, field.name


def test_kmeans_of_more_clusters_than_patches_makes_nothing_wide(small):
    model, _, images = small
    with Widest() as widest:
        effects = CCI(model.visual, clustering=KMeans(WIDE)).effects(images)
    assert widest.longest < 10_000
    assert effects.clusters.tolist() == [list(range(16))] * 4


def test_ablation_is_as_wide_as_its_images_and_runs_their_clusters_alone(small):
    model, _, images = small
    visual, images = copy.deepcopy(model.visual).double(), images.double()
    passes: list[int] = []
    handle = visual.register_forward_hook(lambda *_: passes.append(1))
    with Widest() as widest:
        maps = ClusterAblation(visual, clustering=Planted()).patch_map(images, 3)
    handle.remove()
    checked = 4  # at most, once for a new forward_func
    assert widest.longest < 10_000 and len(passes) <= 4 + 2 + checked
    for image, own in enumerate(NUMBERS):
        alone = Planted([own], seed=image)
        found = ClusterAblation(visual, clustering=alone).patch_map(images[image][None], 3)
        assert relative_error(found[0], maps[image]) < 1e-9
        assert len(found.unique()) == len(own)


@pytest.mark.parametrize("hide", ["mask", "drop"])
def test_singletons_are_the_effects(small, hide):
    model, _, images = small
    cci = CCI(model.visual, clustering=Planted(), hide=hide)
    effects = cci.effects(images)
    assert isinstance(effects, Coalitions) and isinstance(effects, ClusterEffects)
    alone = cci.coalitions(images, lambda k: torch.eye(k, dtype=torch.bool))
    for name in ("labels", "clusters", "sets", "sizes", "num_clusters"):
        assert torch.equal(getattr(alone, name), getattr(effects, name)), name
    for name in ("outputs", "masked_outputs"):
        assert relative_error(getattr(alone, name), getattr(effects, name)) < TOLERANCE
    assert alone.image_shape == effects.image_shape and alone.covered == effects.covered
    assert relative_error(alone.drops(3), effects.drops(3)) < 10 * TOLERANCE
    assert relative_error(alone.rounding(3), effects.rounding(3)) < TOLERANCE
    powers = 2 ** torch.arange(4)
    among = cci.coalitions(images, all_sets).masked_outputs[:, powers]
    assert relative_error(among, effects.masked_outputs) < TOLERANCE


def test_drops_and_rounding_are_those_of_plain_differences():
    generator = torch.Generator().manual_seed(0)
    coalitions = Coalitions(
        labels=torch.tensor([[[0, 1]], [[0, 0]]]),
        outputs=torch.randn(2, 5, generator=generator),
        masked_outputs=torch.randn(2, 3, 5, generator=generator),
        image_shape=(3, 8, 16),
        sets=torch.tensor([[[1, 0], [1, 1], [0, 0]], [[1, 0], [1, 0], [0, 0]]]).bool(),
        clusters=torch.tensor([[3, 9], [9, -1]]),
    )
    assert len(coalitions) == 2
    assert coalitions.sizes.tolist() == [[1, 1], [2, 0]]
    assert coalitions.num_clusters.tolist() == [2, 1]
    chosen = {(2, 2): 2, (2, 4): [2, 4], (0, 0): torch.tensor([0, 0]), (1, 3): [(1,), (3,)]}
    for columns, target in chosen.items():
        for image, column in enumerate(columns):
            whole = coalitions.outputs[image, column]
            masked = coalitions.masked_outputs[image, :, column]
            assert torch.equal(coalitions.drops(target)[image], whole - masked)
            # Outputs below zero, too: the largest is the largest without its sign.
            largest = max(abs(float(whole)), float(masked.abs().max()))
            rounding = float(coalitions.rounding(target)[image])
            assert rounding == pytest.approx(16 * 2**-23 * largest, rel=1e-6)
    with pytest.raises(ValueError, match="target: expected indices"):
        coalitions.drops(5)


@pytest.mark.parametrize("shape", [(), (1,), (24,), (6, 4)])
def test_outputs_of_any_shape(small, shape):
    model, _, images = small

    def forward(batch: Tensor) -> Tensor:
        features = model.encode_image(batch)
        return features[:, : math.prod(shape)].view(len(batch), *shape)

    cci = CCI(forward, find_vision_tower(model), clustering=Planted())
    found = cci.coalitions(images, all_sets)
    assert found.masked_outputs.shape == (4, 16, *shape)
    whole = CCI(model.visual, clustering=Planted()).coalitions(images, all_sets).masked_outputs
    flat = found.masked_outputs.flatten(2) if shape else found.masked_outputs[..., None]
    assert relative_error(flat, whole[..., : math.prod(shape)]) < TOLERANCE


def test_no_gradients_and_further_arguments_by_row(small):
    model, _, images = small
    factors = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    images = images.clone().requires_grad_()

    def forward(batch: Tensor, factor: Tensor) -> Tensor:
        return model.encode_image(batch) * factor[:, None]

    tower = find_vision_tower(model)
    found = CCI(forward, tower, clustering=Planted()).coalitions(images, all_sets, factors)
    plain = CCI(model.visual, clustering=Planted()).coalitions(images, all_sets)
    expected = plain.masked_outputs * factors.detach()[:, None, None]
    assert not found.masked_outputs.requires_grad and not found.outputs.requires_grad
    assert relative_error(found.masked_outputs, expected) < TOLERANCE
    assert all(parameter.grad is None for parameter in model.parameters())


def shapley_values(hidden: Tensor, values: Tensor) -> Tensor:
    """Shapley values (K,) of the game values (M,) in which all sets (M, K) are hidden once."""
    count = hidden.shape[1]
    game = {tuple(row.tolist()): value for row, value in zip(~hidden, values, strict=True)}
    shares = []
    for player in range(count):
        share = torch.tensor(0.0, dtype=torch.float64)
        for kept in itertools.product((False, True), repeat=count):
            if kept[player]:
                continue
            size = sum(kept)
            weight = math.factorial(size) * math.factorial(count - size - 1)
            joined = (*kept[:player], True, *kept[player + 1 :])
            share += weight / math.factorial(count) * (game[joined] - game[kept])
        shares.append(share)
    return torch.stack(shares)


@pytest.mark.parametrize("hide", ["mask", "drop"])
def test_shapley_values_of_an_average_are_known(make_clip, make_images, hide):
    """Patches that do not see one another, averaged: a game whose Shapley values are known.

    Clusters k of one size have the means a_k, and what is kept scores the mean of its a_k, 0 where
    nothing is kept. Cluster k then adds a_k to the empty set, and to s others (a_k - mean of the
    others) / (s + 1) on average, so that with H_n = 1 + 1/2 + ... + 1/n its share is

        (a_k + (H_n - 1) (a_k - mean of the other a_i)) / n.
    """
    model, spec = make_clip(seed=2, pool_type="avg")
    for block in model.visual.transformer.resblocks:
        block.attn.out_proj.weight.data.zero_()
    images = make_images(model, batch=2)

    class Fours:
        n_clusters = 4

        def __call__(self, embeddings: Tensor) -> Tensor:
            return (torch.arange(16) % 4).expand(len(embeddings), -1)

    cci = CCI(model.visual, clustering=Fours(), hide=hide)
    found = cci.coalitions(images, all_sets)
    harmonic = sum(1 / n for n in range(1, 5))
    for image in range(2):
        only = []  # (E,) float64 outputs with one cluster kept
        for cluster in range(4):
            mask = (torch.arange(16) % 4 != cluster)[None]
            only.append(oracles.encode_image(model, spec, images[image : image + 1], mask)[0])
        means = torch.stack(only)
        others = (means.sum(dim=0) - means) / 3
        known = (means + (harmonic - 1) * (means - others)) / 4
        for target in (0, 7, 23):
            values = found.masked_outputs[image, :, target].double()
            shares = shapley_values(found.sets[image], values)
            assert relative_error(shares, known[:, target]) < TOLERANCE
            whole, nothing = found.outputs[image, target], values[-1]
            assert float(shares.sum()) == pytest.approx(float(whole - nothing), abs=1e-6)
    # A cluster alone is not its share here: the average of the others is left.
    assert relative_error(found.drops(0)[1, 2 ** torch.arange(4)], known[:, 0]) > 0.1


@pytest.mark.parametrize("k", [1, 2, 5])
def test_all_sets(k):
    sets = all_sets(k)
    assert sets.dtype == torch.bool
    counted = [tuple(reversed(bits)) for bits in itertools.product((False, True), repeat=k)]
    assert [tuple(row) for row in sets.tolist()] == counted


def test_the_most_sets():
    assert all_sets(16).shape == (65_536, 16)
    assert all_sets(16).sum() == 65_536 * 8


@pytest.mark.parametrize("k", [0, -1, 17, 10**9, 2.0, True, "3", None])
def test_all_sets_of_too_many(k):
    with pytest.raises(ValueError, match=rf"k: expected 1 to 16 clusters.*65,536.*got {k!r}"):
        all_sets(k)


@pytest.mark.parametrize("top", [1, 3, 50, 2**40])
def test_compacted_is_numpys_unique(top):
    labels = torch.randint(0, top, (5, 6, 7), generator=torch.Generator().manual_seed(0))
    compact, clusters = compacted(labels)
    assert compact.shape == labels.shape and compact.dtype == clusters.dtype == torch.int64
    most = 0
    for image in range(5):
        numbers, places = np.unique(labels[image].numpy(), return_inverse=True)
        most = max(most, len(numbers))
        assert np.array_equal(compact[image].numpy(), places.reshape(6, 7))
        assert clusters[image, : len(numbers)].tolist() == numbers.tolist()
        assert (clusters[image, len(numbers) :] == -1).all()
    assert clusters.shape == (5, most)


def test_many_sets_of_many_clusters(small, monkeypatch):
    """Each patch its own cluster; 300 random sets, one in three of them given twice."""
    model, spec, images = small
    cci = CCI(model.visual, clustering=KMeans(16))
    spy = Spy(cci, monkeypatch)
    sets = random_sets(300, 16)
    sets[2::3] = sets[1::3]
    found = cci.coalitions(images, sets, internal_batch_size=50, check=False)
    distinct = len({tuple(row) for row in sets.tolist() if any(row)})
    assert sum(map(len, spy.masks)) == 4 * distinct
    assert distinct <= 200 and max(map(len, spy.masks)) == 50
    assert torch.equal(found.masked_outputs[:, 2::3], found.masked_outputs[:, 1::3])
    for which in (0, 2, 299):
        hidden = torch.stack([hidden_patches(found.labels, sets, b, which) for b in range(4)])
        expected = oracles.encode_image(model, spec, images, hidden)
        assert relative_error(found.masked_outputs[:, which], expected) < TOLERANCE


def test_progress_counts_images(small, capsys):
    model, _, images = small
    cci = CCI(model.visual, clustering=Planted())
    cci.coalitions(images, all_sets, internal_batch_size=4, show_progress=True)
    _, shown = capsys.readouterr()
    assert "100%" in shown and "30/30" in shown  # 4 images, 3 + 7 + 1 + 15 sets
    cci.effects(images, show_progress=True)
    _, shown = capsys.readouterr()
    assert "100%" in shown and "14/14" in shown  # 4 images, 2 + 3 + 1 + 4 clusters


def test_what_is_not_finite_names_its_images(small):
    model, _, images = small

    def forward(batch: Tensor) -> Tensor:
        outputs = model.encode_image(batch)
        spoilt = (batch == images[2]).flatten(1).all(dim=1)
        outputs[spoilt, 0] = math.nan
        return outputs

    cci = CCI(forward, find_vision_tower(model), clustering=Planted())
    found = cci.coalitions(images, all_sets, check=False)
    with pytest.raises(ValueError, match=r"CCI: expected finite scores.* images \[2\]"):
        found.drops(0)
    assert found.drops(1).isfinite().all()


@pytest.mark.parametrize(
    ("sets", "error", "message"),
    [
        (None, TypeError, r"sets: expected a bool tensor \(M, 7\).* function .*got NoneType"),
        ([[True] * 7], TypeError, r"sets: expected a bool tensor \(M, 7\).*got list"),
        (torch.ones(2, 7), TypeError, r"sets: expected a bool tensor.*got torch\.float32"),
        (torch.ones(2, 6).bool(), ValueError, r"sets: expected shape \(M, 7\).*got \(2, 6\)"),
        (torch.ones(7).bool(), ValueError, r"sets: expected shape \(M, 7\).*got \(7,\)"),
        (torch.ones(0, 7).bool(), ValueError, r"sets: expected shape.*at least 1.*got \(0, 7\)"),
    ],
)
def test_sets_that_do_not_fit_are_refused_before_any_pass(small, sets, error, message):
    model, _, images = small

    def forward(batch: Tensor) -> Tensor:
        raise AssertionError("no pass is to be run")

    with pytest.raises(error, match=message):
        CCI(forward, find_vision_tower(model)).coalitions(images, sets)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda k: torch.eye(k), TypeError, r"sets: expected a bool tensor \(M, 3\).*float32"),
        (lambda k: [[True] * k], TypeError, r"sets: expected a bool tensor \(M, 3\).*got list"),
        (lambda k: all_sets(k + 1), ValueError, r"sets: expected shape \(M, 3\).*got \(16, 4\)"),
        (lambda k: all_sets(k)[:0], ValueError, r"sets: expected shape.*got \(0, 3\)"),
        (lambda k: all_sets(6 * k), ValueError, "k: expected 1 to 16 clusters.*got 18"),
    ],
)
def test_functions_whose_sets_do_not_fit(small, function, error, message):
    model, _, images = small
    with pytest.raises(error, match=message):
        CCI(model.visual, clustering=KMeans(3)).coalitions(images, function)


def test_effects_made_by_hand():
    """Without `clusters` the labels are the numbers; a column without a patch has none."""
    given = {
        "labels": torch.tensor([[[0, 0, 2]], [[1, 0, 2]]]),
        "outputs": torch.zeros(2),
        "masked_outputs": torch.zeros(2, 3),
        "image_shape": (3, 8, 24),
    }
    effects = ClusterEffects(**given)
    assert effects.clusters.tolist() == [[0, -1, 2], [0, 1, 2]]
    assert effects.num_clusters.tolist() == [2, 3]
    assert effects.sets.int().tolist() == [
        [[1, 0, 0], [0, 0, 0], [0, 0, 1]],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ]
    numbered = ClusterEffects(**given, clusters=torch.tensor([[7, -1, 9], [7, 8, 9]]))
    assert torch.equal(numbered.sets, effects.sets)
    with pytest.raises(ValueError, match=r"clusters: expected shape \(2, 3\).* got \(3, 2\)"):
        ClusterEffects(**given, clusters=torch.zeros(3, 2, dtype=torch.int64))


def test_public_names():
    assert {"Coalitions", "all_sets"} <= set(cci_captum.__all__)
