"""Shapley values and interactions of small games, from all sets of players or from some.

Shapley 1953, "A Value for n-Person Games"; Grabisch and Roubens 1999, "An axiomatic approach to the
concept of interaction among players in cooperative games".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def exact_values(seen: Tensor, outputs: Tensor) -> Tensor:
    """The Shapley value of each player: its mean marginal contribution over all orders.

    With s the size of S: sum over S without i of s! (K - s - 1)! / K! (v(S + i) - v(S)).

    Args:
        seen: (2**K, K) bool, every set of players once.
        outputs: (B, 2**K) float64, the games v.

    Returns:
        (B, K) float64.
    """
    count, sizes = seen.shape[1], seen.sum(dim=1)
    outputs = outputs - outputs[:, sizes == 0]  # same values, less rounding
    weights = _weights(count, 1, seen.device)
    return outputs @ torch.where(seen, weights[1][sizes, None], -weights[0][sizes, None])


def exact_interactions(seen: Tensor, outputs: Tensor) -> Tensor:
    """The Shapley interaction index of each pair of players, and of each player alone.

    With s the size of S: sum over S without i and j of
    s! (K - s - 2)! / (K - 1)! (v(S + i + j) - v(S + i) - v(S + j) + v(S)).

    Args:
        seen: (2**K, K) bool, every set of players once.
        outputs: (B, 2**K) float64, the games v.

    Returns:
        (B, K, K) float64, symmetric; on the diagonal the index of a player alone, its value.
    """
    count, sizes = seen.shape[1], seen.sum(dim=1)
    outputs = outputs - outputs[:, sizes == 0]
    found = torch.diag_embed(exact_values(seen, outputs))
    if count == 1:
        return found
    weights = _weights(count, 2, seen.device)
    signed = torch.stack([weights[0], -weights[1], weights[2]])  # of S: with none, one, both
    for i in range(count - 1):
        among = seen[:, i, None].long() + seen[:, i + 1 :]
        index = outputs @ signed[among, sizes[:, None]]
        found[:, i, i + 1 :] = found[:, i + 1 :, i] = index
    return found


def _weights(count: int, players: int, device: torch.device) -> Tensor:
    """(players + 1, count + 1) float64: of a set of so many, so many of the players among them.

    The others, s of them, weigh s! (count - s - players)! / (count - players + 1)!.
    """
    weights = torch.zeros(players + 1, count + 1, dtype=torch.float64)
    for among in range(players + 1):
        for others in range(count - players + 1):
            ways = math.factorial(others) * math.factorial(count - others - players)
            weights[among, others + among] = ways / math.factorial(count - players + 1)
    return weights.to(device)


def least_sets(count: int) -> int:
    """The fewest sets of so many players from which `estimated_values` estimates."""
    return min(2**count, 6 * count + 2)


def drawn_sets(count: int, n_samples: int, seed: int) -> Tensor:
    """Sets of players from which `estimated_values` estimates; all of them where they are few.

    The empty and the full set, then pairs of a set and its complement, drawn without replacement
    among those of a size: those of a single player all, of the others so many of each size as its
    weight in KernelSHAP asks for (Lundberg and Lee 2017, arXiv 1705.07874), and at least two.

    Args:
        count: Players, K.
        n_samples: Most sets, at least `least_sets`.
        seed: Of the draws.

    Returns:
        (M, K) bool, M at most n_samples.
    """
    if 2**count <= n_samples:
        return (torch.arange(2**count)[:, None] >> torch.arange(count) & 1).bool()
    generator = np.random.default_rng((seed, count))
    halves = []
    for size, take in _shares(count, (n_samples - 2) // 2).items():
        half = np.zeros((take, count), dtype=bool)
        for row, players in zip(half, _some(count, size, take, generator), strict=True):
            row[[*players]] = True
        halves.append(half)
    half = np.concatenate(halves)
    ends = np.array([[False], [True]]).repeat(count, axis=1)
    return torch.from_numpy(np.concatenate([ends, half, ~half]))


def _pairs_of(count: int, size: int) -> int:
    """Pairs of a set of that size and its complement."""
    return math.comb(count, size) // (2 if 2 * size == count else 1)


def _shares(count: int, pairs: int) -> dict[int, int]:
    """How many pairs of each size of the smaller set, in all at most so many."""
    taken, left = {1: count}, pairs - count
    wanted = {
        size: (0.5 if 2 * size == count else 1.0) / (size * (count - size))
        for size in range(2, count // 2 + 1)
    }
    while wanted:
        scale = left / sum(wanted.values())
        whole = [size for size in wanted if wanted[size] * scale >= _pairs_of(count, size)]
        if not whole:
            break
        for size in whole:
            taken[size] = _pairs_of(count, size)
            left -= taken[size]
            del wanted[size]
    for size in sorted(wanted, key=lambda size: wanted[size]):  # the least first: it rounds up
        share = left * wanted[size] / sum(wanted.values())
        taken[size] = min(max(round(share), 2), _pairs_of(count, size))
        left -= taken[size]
        del wanted[size]
    return taken


def _some(
    count: int, size: int, take: int, generator: np.random.Generator
) -> Iterator[tuple[int, ...]]:
    """Different sets of one size; of half of the players, none is another's complement."""
    first = (0,) if 2 * size == count else ()
    among, more = range(len(first), count), size - len(first)
    if 2 * take > _pairs_of(count, size):
        every = [*itertools.combinations(among, more)]
        chosen = [every[place] for place in generator.permutation(len(every))[:take]]
    else:
        found: dict[tuple[int, ...], None] = {}
        while len(found) < take:
            drawn = generator.choice(len(among), more, replace=False) + len(first)
            found[tuple(sorted(drawn.tolist()))] = None
        chosen = [*found]
    yield from ((*first, *rest) for rest in chosen)


def estimated_values(seen: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Shapley values from pairs of a set and its complement, and their standard errors.

    Shapley values depend on v(S) - v(N - S) alone. They are what fits these differences best, as
    sums of the values of S less those of N - S, with KernelSHAP's weights and under the condition
    that all add up to v(N) - v(none) (Lundberg and Lee 2017; Covert and Lee 2021, arXiv
    2012.01536), each pair standing for as many of its size as there are to one drawn. Errors
    follow from the spread of what does not fit among the pairs of a size, as the fit without the
    pair would have it (divided by 1 - its leverage, the jackknife's HC3: MacKinnon and White 1985);
    a size of which every pair is there adds nothing.

    Args:
        seen: (M, K) bool: the empty and the full set, and sets with their complements, drawn
            without replacement among those of a size, at least two pairs of a size.
        outputs: (B, M) float64, the games v.

    Returns:
        (B, K) float64 each.

    Raises:
        ValueError: If a set is not there.
    """
    first, second = _pairs(seen)
    count, size = seen.shape[1], seen[first].sum(dim=1)
    ends = outputs[:, seen.all(dim=1)] - outputs[:, ~seen.any(dim=1)]
    if ends.shape[1] != 1 or not len(first):
        raise ValueError("sets: expected the empty and the full set, and others, each once")
    signs = seen[first].double() * 2 - 1  # (P, K), 1 for who is in
    drawn = size.bincount(minlength=count + 1).tolist()
    factors = [_pairs_of(count, s) / max(drawn[s], 1) for s in range(count // 2 + 1)]
    weights = torch.tensor(
        [factors[s] / (math.comb(count, s) * s * (count - s)) for s in size.tolist()],
        dtype=torch.float64,
        device=seen.device,
    )
    even = ends / count
    free = torch.eye(count, dtype=torch.float64, device=seen.device) - 1 / count
    gram = free @ (signs * weights[:, None]).T @ signs @ free
    pull = signs @ torch.linalg.pinv(gram, hermitian=True)  # (P, K), by a unit of each difference
    rest = outputs[:, first] - outputs[:, second] - even @ signs.sum(dim=1)[None]
    values = even + (rest * weights) @ pull
    misfit = rest - (values - even) @ signs.T
    leverage = weights * (pull * signs).sum(dim=1)
    misfit = misfit * weights / (1 - leverage).clamp(min=1e-6)
    variance = torch.zeros_like(values)
    for s, number in enumerate(drawn):
        if not number or number == _pairs_of(count, s):
            continue
        parts = misfit[:, size == s, None] * pull[size == s]  # (B, P_s, K)
        variance += number * (1 - number / _pairs_of(count, s)) * parts.var(dim=1)
    return values, variance.sqrt()


def _pairs(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of each set that is not larger than its complement, and of that: (P,) int64 each.

    Raises:
        ValueError: If a complement is not there, or a set is twice.
    """
    count = seen.shape[1]
    packed = np.packbits(seen.cpu().numpy(), axis=1)
    opposite = np.packbits((~seen).cpu().numpy(), axis=1)
    places = {row.tobytes(): place for place, row in enumerate(packed)}
    pairs = []
    for place, (row, size) in enumerate(zip(opposite, seen.sum(dim=1).tolist(), strict=True)):
        if size in (0, count):
            continue
        other = places.get(row.tobytes())
        if other is None or len(places) != len(packed):
            raise ValueError("sets: expected each set once, and its complement with it")
        if 2 * size < count or (2 * size == count and place < other):
            pairs.append((place, other))
    found = torch.tensor(pairs, dtype=torch.int64, device=seen.device).view(-1, 2)
    return found[:, 0], found[:, 1]
