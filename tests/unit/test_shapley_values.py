"""Shapley values of games: against averages over permutations, axioms, and errors that cover."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from oracles import relative_error
from torch import Tensor

from cci_captum import ShapleyCCI, ShapleyEffects, all_sets
from cci_captum.shapley_values import drawn_sets, least_sets


def by_permutations(game: dict[frozenset[int], float], count: int) -> list[float]:
    """What each player adds to those before it, averaged over all orders."""
    shares = [0.0] * count
    for order in itertools.permutations(range(count)):
        for place, player in enumerate(order):
            before = frozenset(order[:place])
            shares[player] += game[before | {player}] - game[before]
    return [share / math.factorial(count) for share in shares]


def pair_by_permutations(game: dict[frozenset[int], float], count: int, i: int, j: int) -> float:
    """What i and j add together less what each adds, both placed as one among the others' orders.

    The Shapley interaction index is the marginal interaction averaged over orders of the K - 1
    players that are left when the pair is one of them (Grabisch and Roubens 1999).
    """
    others = [player for player in range(count) if player not in (i, j)]
    total, orders = 0.0, 0
    for order in itertools.permutations(["pair", *others]):
        before = frozenset(order[: order.index("pair")])
        total += game[before | {i, j}] - game[before | {i}] - game[before | {j}] + game[before]
        orders += 1
    return total / orders


def effects_of(games: Tensor, sets: Tensor | None = None, **options: object) -> ShapleyEffects:
    """Of games (B, M) over what is hidden, by default in every set of all_sets; a patch each."""
    if sets is None:
        sets = all_sets(int(math.log2(games.shape[1])))
    count = sets.shape[1]
    return ShapleyEffects(
        labels=torch.arange(count).expand(len(games), 1, -1),
        outputs=games[:, ~sets.any(dim=1)][:, 0],
        masked_outputs=games,
        image_shape=(3, 8, 8 * count),
        sets=sets.expand(len(games), -1, -1),
        clusters=torch.arange(count).expand(len(games), -1),
        **options,  # type: ignore[arg-type]
    )


def played(games: Tensor, image: int, target: int) -> dict[frozenset[int], float]:
    """v by who is seen, of games (B, M, C)."""
    count = int(math.log2(games.shape[1]))
    return {
        frozenset(i for i in range(count) if not m >> i & 1): float(games[image, m, target])
        for m in range(2**count)
    }


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_values_and_interactions_are_averages_over_orders(count: int) -> None:
    games = randn(2, 2**count, 3, seed=count)
    effects = effects_of(games)
    for image in range(2):
        game = played(games, image, 2)
        found = effects.shapley_values(2)[image]
        assert found.tolist() == pytest.approx(by_permutations(game, count), abs=1e-12)
        pairs = effects.interactions(2)[image]
        assert torch.equal(pairs, pairs.T) and torch.equal(pairs.diagonal(), found)
        for i, j in itertools.combinations(range(count), 2):
            expected = pair_by_permutations(game, count, i, j)
            assert float(pairs[i, j]) == pytest.approx(expected, abs=1e-12)
    assert not effects.standard_errors(2).any()


@pytest.mark.parametrize("count", [2, 7, 11])
def test_the_axioms(count: int) -> None:
    """Efficiency; symmetry of players 0 and 1; no value for a null player; linearity."""
    games = randn(4, 2**count, seed=1, dtype=torch.float64)
    seen = ~all_sets(count)
    number = (seen.long() << torch.arange(count)).sum(dim=1)
    twin = (number & ~3) | (number >> 1 & 1) | (number & 1) << 1
    at = torch.empty_like(number)
    at[number] = torch.arange(len(number))
    games = (games + games[:, at[twin]]) / 2
    values = effects_of(games).shapley_values()
    assert (values.sum(dim=1) - (games[:, 0] - games[:, -1])).abs().max() < 1e-12
    assert (values[:, 0] - values[:, 1]).abs().max() < 1e-12
    last = 1 << (count - 1)
    idle = games[:, at[number & ~last]]  # as if the last player were never there
    null = effects_of(idle).shapley_values()
    assert null[:, -1].abs().max() < 1e-12 and null[:, :-1].abs().max() > 0.01 * (count > 2)
    assert effects_of(idle).interactions()[:, -1].abs().max() < 1e-12
    both = effects_of(games + 2 * idle).shapley_values()
    assert relative_error(both, values + 2 * null) < 1e-12


def test_outputs_far_from_zero_lose_nothing() -> None:
    """float32 outputs near 1e4: values come from them as they are, not from rounded differences."""
    games = (randn(3, 64, seed=4) + 1e4).float()
    effects = effects_of(games)
    exact = effects_of(games.double() - 1e4)
    assert (effects.shapley_values() - exact.shapley_values()).abs().max() < 1e-11
    total = games[:, 0].double() - games[:, -1].double()
    assert (effects.shapley_values().sum(dim=1) - total).abs().max() < 1e-11


@pytest.mark.parametrize("order", [0, 1, 2])
def test_unanimity_games_share_among_those_they_need(order: int) -> None:
    """v(S) = 1 where S holds T: 1 / |T| each, and 1 / (|T| - 1) a pair of T; closed forms."""
    members = [{0}, {1, 3}, {0, 2, 4}][order]
    seen = ~all_sets(5)
    game = seen[:, [*members]].all(dim=1).float()[None]
    values, pairs = effects_of(game).shapley_values()[0], effects_of(game).interactions()[0]
    for i in range(5):
        assert float(values[i]) == pytest.approx((i in members) / len(members), abs=1e-14)
        for j in range(i):
            together = {i, j} <= members
            expected = 1 / (len(members) - 1) if together else 0.0
            assert float(pairs[i, j]) == pytest.approx(expected, abs=1e-14)


def test_images_of_fewer_clusters() -> None:
    """An image of two clusters beside one of three: its own game, 0 in the column it lacks."""
    sets = all_sets(3)[None].repeat(2, 1, 1)
    sets[1, :, 2] = False
    games = randn(2, 8, seed=8)
    games[1, 4:] = games[1, :4]
    effects = ShapleyEffects(
        labels=torch.tensor([[[0, 1, 2]], [[0, 1, 1]]]),
        outputs=games[:, 0],
        masked_outputs=games,
        image_shape=(3, 8, 24),
        sets=sets,
        clusters=torch.tensor([[4, 5, 9], [3, 7, -1]]),
    )
    alone = effects_of(games[1:, :4])
    assert torch.equal(effects.shapley_values()[1, :2], alone.shapley_values()[0])
    assert effects.shapley_values()[1, 2] == 0
    assert torch.equal(effects.interactions()[1, :2, :2], alone.interactions()[0])
    assert not effects.interactions()[1, 2].any() and not effects.interactions()[1, :, 2].any()


def test_weights_and_maps() -> None:
    games = torch.tensor([[[3.0], [1.0], [2.5], [0.0]], [[1.0], [1.0], [1.0], [1.0]]])
    relative = effects_of(games)
    values = relative.shapley_values(0)
    assert values.tolist() == [[2.25, 0.75], [0.0, 0.0]]
    assert relative.weights(0).tolist() == [[0.75, 0.25], [0.0, 0.0]]
    assert relative.weights(0).dtype == torch.float32
    assert effects_of(games, normalization="none").weights(0).tolist() == values.tolist()
    assert relative.patch_map(0).tolist() == [[[0.75, 0.25]], [[0.0, 0.0]]]
    maps = relative.attributions(0)
    assert maps.shape == (2, 3, 8, 16)
    assert (maps[0, :, :, :8] == 0.75).all() and (maps[0, :, :, 8:] == 0.25).all()
    with pytest.warns(UserWarning, match="1 of 2 images, whose Shapley values sum to zero"):
        paper = effects_of(games, normalization="paper").weights(0)
    assert paper.tolist() == relative.weights(0).tolist()


def test_several_targets_at_once() -> None:
    effects = effects_of(randn(2, 16, 5, seed=3))
    for name in (
        "shapley_values",
        "standard_errors",
        "interactions",
        "weights",
        "patch_map",
        "attributions",
    ):
        ask = getattr(effects, name)
        expected = torch.stack([ask(3), ask(0)], dim=1)
        assert torch.equal(ask(targets=[3, 0]), expected), name
        each = ask([3, 0])
        assert torch.equal(each, torch.stack([ask(3)[0], ask(0)[1]])), name
        with pytest.raises(ValueError, match="targets: expected no target beside them"):
            ask(1, targets=[0])
    with pytest.raises(ValueError, match="target: expected indices"):
        effects.shapley_values(5)


# estimates


@pytest.mark.parametrize(("count", "n_samples"), [(7, 44), (7, 100), (8, 51), (9, 300), (40, 1024)])
def test_drawn_sets(count: int, n_samples: int) -> None:
    for seed in range(5):
        sets = drawn_sets(count, n_samples, seed)
        rows = {tuple(row) for row in sets.tolist()}
        assert len(rows) == len(sets) <= n_samples
        assert len(sets) >= n_samples - 1 - count // 2  # what rounding leaves
        assert {tuple(not x for x in row) for row in rows} == rows
        sizes = sets.sum(dim=1).bincount(minlength=count + 1)
        assert sizes[0] == sizes[count] == 1 and sizes[1] == sizes[count - 1] == count
        assert (sizes[2 : count - 1] >= 2).all()
        assert torch.equal(sets, drawn_sets(count, n_samples, seed))
    assert not torch.equal(sets, drawn_sets(count, n_samples, seed + 1)[: len(sets)])
    assert len(drawn_sets(5, 32, 0)) == 32 and len(drawn_sets(5, 33, 0)) == 32


@pytest.mark.parametrize("count", [7, 8])
def test_every_set_of_a_size_is_drawn_as_often(count: int) -> None:
    """Chi-square of how often each pair of the middle sizes comes: in 400 draws."""
    tally: dict[tuple[bool, ...], int] = {}
    for seed in range(400):
        for row in drawn_sets(count, 60, seed).tolist():
            if sum(row) == count // 2:
                tally[tuple(row)] = tally.get(tuple(row), 0) + 1
    total = math.comb(count, count // 2)
    assert len(tally) == total
    mean = sum(tally.values()) / total
    square = sum((number - mean) ** 2 / mean for number in tally.values())
    assert square < total + 5 * math.sqrt(2 * total)  # fewer where drawn without replacement


def additive(sets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A game of single players and pairs, over what is hidden, and its Shapley values."""
    count = sets.shape[1]
    alone, pairs = randn(count, seed=seed).double(), randn(count, count, seed=seed + 1).double()
    pairs = (pairs + pairs.T) / 2
    pairs.fill_diagonal_(0)
    seen = (~sets).double()
    game = seen @ alone + ((seen @ pairs) * seen).sum(dim=1) / 2
    return game, alone + pairs.sum(dim=1) / 2


@pytest.mark.parametrize(("count", "n_samples"), [(7, 44), (20, 122), (60, 512)])
def test_estimates_are_exact_without_interactions_of_three(count: int, n_samples: int) -> None:
    """Sets come with their complements: pairs cancel, whatever is drawn; closed form."""
    sets = drawn_sets(count, n_samples, seed=3)
    game, expected = additive(sets, seed=5)
    effects = effects_of(game[None], sets)
    assert relative_error(effects.shapley_values()[0], expected) < 1e-9
    assert effects.standard_errors().max() < 1e-9 * expected.abs().max()
    assert effects.weights().shape == (1, count)
    with pytest.raises(ValueError, match="interactions: expected all"):
        effects.interactions()


def rough(count: int, seed: int) -> Tensor:
    """Games (6, 2**K) with interactions of every order, the higher the smaller."""
    seen = (~all_sets(count)).double() * 2 - 1
    hidden = torch.tanh(seen @ randn(count, 30, seed=seed).double() / 2 + 0.5)
    return (hidden @ randn(30, 6, seed=seed + 1).double()).T


@pytest.mark.exhaustive
def test_errors_cover_the_truth_and_efficiency_stays() -> None:
    """Of 150 draws of six games, by 1.96 standard errors: 95 %, and the root mean squares agree."""
    games = rough(9, seed=2)
    exact = effects_of(games).shapley_values()
    missed, errors = [], []
    for seed in range(150):
        sets = drawn_sets(9, 128, seed)
        rows = (sets.long() << torch.arange(9)).sum(dim=1)
        effects = effects_of(games[:, rows], sets)
        values = effects.shapley_values()
        assert (values.sum(dim=1) - (games[:, 0] - games[:, -1])).abs().max() < 1e-10
        missed.append(values - exact)
        errors.append(effects.standard_errors())
    off, error = torch.stack(missed), torch.stack(errors)
    assert float((off.abs() < 1.96 * error).double().mean()) == pytest.approx(0.95, abs=0.02)
    ratio = float(error.square().mean().sqrt() / off.square().mean().sqrt())
    assert ratio == pytest.approx(1.0, abs=0.1)
    assert off.abs().max() > 0.01  # there is something to estimate
    # Draws average out: what is left of a bias is a fraction of one draw's error.
    assert off.mean(dim=0).square().mean() < 0.05 * off.square().mean()


def test_sets_that_give_no_estimate() -> None:
    sets = drawn_sets(7, 44, seed=0)
    game = randn(1, len(sets))
    for wrong, message in (
        (torch.arange(len(sets)) != 20, "its complement with it"),
        (torch.arange(len(sets)) != 1, "the empty and the full set"),
    ):
        effects = effects_of(game[:, wrong], sets[wrong])
        with pytest.raises(ValueError, match=message):
            effects.shapley_values()


@pytest.mark.parametrize("n_samples", [0, 1, -3, 2.5, True, "all"])
def test_samples_are_a_number(classifier, n_samples) -> None:
    with pytest.raises(ValueError, match=f"n_samples: expected an int .* got {n_samples!r}"):
        ShapleyCCI(classifier, n_samples=n_samples)


def test_least_sets() -> None:
    assert [least_sets(count) for count in (1, 3, 5, 6, 7)] == [2, 8, 32, 38, 44]
