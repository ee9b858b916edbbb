"""K-means of a batch of images at once, on any device that computes in float64.

Everything is expressed in the Gram matrix of an image's patches, which is computed once. A
centroid is a scaled sum of its members, so all its distances follow from products of the Gram
matrix with the memberships, and one matrix product serves all restarts of all images.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._steps import SAME, choose_seeds, refill


def cluster(points: Tensor, races: Tensor, *, n_iter: int, spherical: bool) -> Tensor:
    """Cluster the patches of each image.

    Args:
        points: `(B, N, D)` float64, centred after scaling to a mean squared norm of 1, or
            with unit rows for spherical K-means.
        races: `(R, K, T, N)` float64, see :func:`~cci_captum.clustering._steps.draw_races`.
        n_iter: the most Lloyd iterations.
        spherical: scale centroids to unit length.

    Returns:
        `(B, N)` int64 labels of the restart with the smallest inertia, below K, not canonical.
    """
    gram = points @ points.mT
    norms = gram.diagonal(dim1=1, dim2=2)  # (B, N)

    def squared_distances(patches: Tensor) -> Tensor:
        rows = gram.take_along_dim(patches[..., None], dim=1)
        return (norms[:, None] - 2 * rows + norms.gather(1, patches)[..., None]).clamp_min(0)

    seeds = choose_seeds(squared_distances, races, len(points))  # (B, R, K)
    to_seeds = squared_distances(seeds.clamp_min(0).flatten(1)).unflatten(1, seeds.shape[1:])
    labels = _nearest(to_seeds.movedim(-1, 1), seeds < 0)  # (B, N, R)

    labels = _lloyd(gram, labels, races.shape[1], n_iter, spherical)
    inertia = _inertia(gram, labels, races.shape[1], spherical)  # (B, R)
    limit = inertia.amin(dim=1, keepdim=True) + SAME * points.shape[1]
    best = (inertia <= limit).int().argmax(dim=1)  # of equally good restarts the first
    return labels.take_along_dim(best[:, None, None], dim=2).squeeze(2)


def _lloyd(gram: Tensor, labels: Tensor, n_clusters: int, n_iter: int, spherical: bool) -> Tensor:
    """Iterate until no label changes; images that have converged drop out of the computation."""
    result = labels.clone()
    active = torch.arange(len(gram), device=gram.device)
    for _ in range(n_iter):
        counts, distances = _distances(gram, labels, n_clusters, spherical)
        updated = _nearest(distances, counts == 0)
        emptied = (counts > 0) & (_one_hot(updated, n_clusters).sum(dim=1) == 0)
        moving = (updated != labels).flatten(1).any(dim=1)
        n_moving, n_emptied = torch.stack([moving.sum(), emptied.sum()]).tolist()
        if n_moving == 0:
            break
        if n_emptied > 0:
            distances += gram.diagonal(dim1=1, dim2=2)[..., None, None]
            updated = _refill_each(updated, distances, emptied)
        labels = updated
        result[active] = labels
        if n_moving <= len(active) // 2:  # copying the Gram matrices pays from here on
            gram, labels, active = gram[moving], labels[moving], active[moving]
    return result


def _refill_each(labels: Tensor, distances: Tensor, emptied: Tensor) -> Tensor:
    """Refill the emptied clusters (B, R, K) of each restart that has any; this is rare."""
    labels = labels.clone()
    for b, r in emptied.any(dim=-1).nonzero().tolist():
        run = labels[b, :, r]
        own = distances[b, :, r].gather(1, run[:, None]).squeeze(1)
        empty = emptied[b, r].nonzero().flatten().tolist()
        labels[b, :, r] = refill(run, own, empty)
    return labels


def _distances(
    gram: Tensor, labels: Tensor, n_clusters: int, spherical: bool
) -> tuple[Tensor, Tensor]:
    """Return cluster sizes (B, R, K) and squared distances (B, N, R, K) less the patch's norm."""
    counts, products, squared_sums = _sums(gram, labels, n_clusters)
    scale = _scale(counts, squared_sums, spherical)
    distances = (scale**2 * squared_sums)[:, None] - 2 * scale[:, None] * products
    return counts, distances


def _inertia(gram: Tensor, labels: Tensor, n_clusters: int, spherical: bool) -> Tensor:
    """Return the sum of squared distances to the centroids, (B, R), less the patches' norms."""
    counts, _, squared_sums = _sums(gram, labels, n_clusters)
    scale = _scale(counts, squared_sums, spherical)
    return (scale * (scale * counts - 2) * squared_sums).sum(dim=-1)


def _sums(gram: Tensor, labels: Tensor, n_clusters: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return counts (B, R, K), patch-times-sum (B, N, R, K) and squared sums (B, R, K)."""
    members = _one_hot(labels, n_clusters).to(gram.dtype)
    products = (gram @ members.flatten(2)).view_as(members)
    return members.sum(dim=1), products, (members * products).sum(dim=1)


def _scale(counts: Tensor, squared_sums: Tensor, spherical: bool) -> Tensor:
    """Return the factor that turns a cluster's sum into its centroid, 0 for a vanishing sum."""
    if not spherical:
        return counts.clamp_min(1).reciprocal()
    vanishing = squared_sums <= 1e-24 * counts**2
    return squared_sums.masked_fill(vanishing, math.inf).rsqrt()


def _nearest(distances: Tensor, dead: Tensor) -> Tensor:
    """Return the nearest cluster (B, N, R); of equally near ones the first, whatever rounding."""
    n_clusters = distances.shape[-1]
    tie_break = SAME / n_clusters * torch.arange(n_clusters, device=distances.device)
    return (distances + tie_break).masked_fill(dead[:, None], math.inf).argmin(dim=-1)


def _one_hot(labels: Tensor, n_clusters: int) -> Tensor:
    return labels[..., None] == torch.arange(n_clusters, device=labels.device)
