"""The steps of K-means that both backends share: seeding and refilling emptied clusters."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SAME = 1e-12
"""Squared distances up to this count as zero; points have a mean squared norm of at most 1."""


def draw_races(n_redo: int, n_clusters: int, n_patches: int, seed: int) -> Tensor:
    """Draw the exponential variables that decide the seeding, the same for every image.

    They come from uniform draws of a CPU generator: the same on every device and platform.

    Returns:
        `(R, K, T, N)` float64, positive: R restarts, K seeds, T candidates for each seed.
    """
    n_candidates = 2 + int(math.log(n_clusters))
    shape = (n_redo, n_clusters, n_candidates, n_patches)
    generator = torch.Generator().manual_seed(seed)
    return -torch.rand(shape, dtype=torch.float64, generator=generator).log()


def choose_seeds(
    squared_distances: Callable[[Tensor], Tensor], races: Tensor, batch: int
) -> Tensor:
    """Choose patches as first centroids by greedy k-means++.

    Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", SODA 2007: each seed
    is drawn with probability proportional to its squared distance from the seeds before it. Of T
    such candidates the one that leaves the smallest sum of squared distances is kept. Sampling is
    an exponential race: the patch with the smallest `race / weight` wins with probability
    proportional to its weight, so that no cumulative sum is needed.

    Args:
        squared_distances: maps patch indices `(B, M)` to squared distances from them to every
            patch, `(B, M, N)`.
        races: `(R, K, T, N)`, from :func:`draw_races`.
        batch: the number of images B.

    Returns:
        `(B, R, K)` int64 patch indices; -1 where no patch differs from the seeds already chosen.
    """
    n_redo, n_clusters, n_candidates, n_patches = races.shape
    # of equally good candidates the first wins, whatever the rounding
    tie_break = SAME * n_patches * torch.arange(n_candidates, device=races.device)
    nearest = races.new_full((batch, n_redo, n_patches), math.inf)
    seeds = []
    for k in range(n_clusters):
        weights = torch.ones_like(nearest) if k == 0 else nearest.where(nearest > SAME, 0)
        drawn = (races[:, k] / weights[:, :, None]).argmin(dim=-1)  # (B, R, T)
        distances = squared_distances(drawn.flatten(1)).unflatten(1, drawn.shape[1:])
        left = torch.minimum(distances, nearest[:, :, None])  # (B, R, T, N)
        best = (left.sum(dim=-1) + tie_break).argmin(dim=-1, keepdim=True)  # (B, R, 1)
        exhausted = (weights == 0).all(dim=-1)
        seeds.append(drawn.gather(-1, best).squeeze(-1).masked_fill(exhausted, -1))
        nearest = left.take_along_dim(best[..., None], dim=2).squeeze(2)
    return torch.stack(seeds, dim=-1)


def refill(labels: Tensor, distances: Tensor, empty: list[int]) -> Tensor:
    """Give each emptied cluster the patch that lies farthest from its own centroid.

    Patches that are alone in their cluster are not taken. When every patch coincides with its
    centroid there is nothing to give, and the cluster stays empty.

    Args:
        labels: `(N,)` int64, one restart of one image.
        distances: `(N,)` squared distance of each patch to its centroid.
        empty: the clusters to refill.

    Returns:
        `(N,)` int64, the new labels; the argument is left as it is.
    """
    labels = labels.clone()
    for cluster in empty:
        alone = labels.bincount()[labels] == 1
        free = distances.masked_fill(alone, 0)
        farthest = free.max()
        if farthest <= SAME:
            break
        patch = (free >= farthest - SAME).nonzero()[0]  # equally far patches: the first
        labels[patch] = cluster
    return labels
