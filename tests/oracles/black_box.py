"""Methods that ask the model alone, in closed form or from all their coalitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor


def rise_expectation(
    image: Tensor, slope: Tensor, offset: float, *, p: float, grid: int, baseline: float
) -> Tensor:
    """The mean (H, W) of RISE's map of f(x) = sum(slope * x) + offset over all its masks.

    Petsiuk et al. 2018: S(y) = E[f(x M + baseline (1 - M)) M(y)] / E[M]. A mask is M = W z with
    independent cells z of mean p and a matrix W of bilinear weights that depends on the shift, so
    that E[M(y) M(y')] is p^2 + p (1 - p) (W W^T)(y, y') averaged over all shifts.
    """
    _, height, width = image.shape
    kernels = [w @ w.T for w in mask_weights(height, width, grid)]
    second = p**2 + p * (1 - p) * torch.stack(kernels).mean(0)  # E[M(y) M(y')]
    per_pixel = (slope * (image.double() - baseline)).sum(0).flatten()
    constant = offset + baseline * slope.sum()
    return (constant * p + second @ per_pixel).reshape(height, width) / p


def rise_samples(
    image: Tensor, slope: Tensor, offset: float, *, p: float, grid: int, baseline: float, n: int
) -> Tensor:
    """``n`` draws (n, H, W) of f(x M + baseline (1 - M)) M / p, with masks of its own."""
    _, height, width = image.shape
    shifts = list(mask_weights(height, width, grid))
    generator = torch.Generator().manual_seed(77)
    image = image.double()
    draws = []
    for shift in torch.randint(len(shifts), (n,), generator=generator).tolist():
        cells = (torch.rand(grid * grid, generator=generator) < p).double()
        mask = (shifts[shift] @ cells).reshape(height, width)
        value = (slope * (image * mask + baseline * (1 - mask))).sum() + offset
        draws.append(value * mask / p)
    return torch.stack(draws)


def mask_weights(height: int, width: int, grid: int) -> list[Tensor]:
    """For every shift, the weights (H * W, grid * grid) of the cells in each pixel of a mask."""
    rows, columns = math.ceil(height / grid), math.ceil(width / grid)
    down = _enlarge(grid, (grid + 1) * rows)
    across = _enlarge(grid, (grid + 1) * columns)
    return [
        torch.kron(down[top : top + height], across[left : left + width])
        for top, left in itertools.product(range(rows), range(columns))
    ]


def _enlarge(size: int, new_size: int) -> Tensor:
    """Bilinear enlargement in one dimension, corners not aligned, as a matrix (new_size, size)."""
    weights = torch.zeros(new_size, size, dtype=torch.float64)
    for i in range(new_size):
        at = max((i + 0.5) * size / new_size - 0.5, 0.0)
        low = min(int(at), size - 1)
        high = min(low + 1, size - 1)
        weights[i, low] += 1 - (at - low)
        weights[i, high] += at - low
    return weights


def shapley_values(value: Callable[[tuple[bool, ...]], float], n: int) -> Tensor:
    """Exact Shapley values (n,) of a game, from all its coalitions."""
    worth = {players: value(players) for players in itertools.product((False, True), repeat=n)}
    shares = torch.zeros(n, dtype=torch.float64)
    for players, before in worth.items():
        size = sum(players)
        for i in range(n):
            if not players[i]:
                after = worth[(*players[:i], True, *players[i + 1 :])]
                chance = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
                shares[i] += chance * (after - before)
    return shares
