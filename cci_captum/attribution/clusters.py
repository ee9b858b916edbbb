"""What CCI and its controls share: clusters of an image's own patch embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..clustering import KMeans
from ..vision_towers import Layer, VisionTower
from .base import PatchAttribution
from .finite import check_finite


class Clustering(Protocol):
    """Anything that puts patches into groups, image by image.

    Where it has an attribute `n_clusters`, the most groups an image can have, its labels are held
    to be below that.
    """

    def __call__(self, embeddings: Tensor, /) -> Tensor:
        """(B, N, D) patch embeddings -> (B, N) int64 labels from 0 on."""
        ...


class ClusterAttribution(PatchAttribution):
    """A method that gives every cluster of patches one value.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        clustering: From (B, N, D) patch embeddings to (B, N) labels. None is `KMeans(7)`.
        embedding_layer: Whose output is clustered: a block's index (-1 the last), "input" or
            "projected"; see `VisionTower.record`.

    Raises:
        TypeError: See `PatchAttribution`; or if clustering is not callable.
        ValueError: See `PatchAttribution`; or if the layer does not exist.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        clustering: Clustering | None = None,
        embedding_layer: Layer = -1,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        self.vision_tower.check_layer(embedding_layer, "embedding_layer")
        if clustering is not None and not callable(clustering):
            raise TypeError(
                "clustering: expected a callable from (B, N, D) patch embeddings to (B, N) labels, "
                f"such as cci_captum.KMeans(7), got {clustering!r}"
            )
        self.clustering: Clustering = KMeans() if clustering is None else clustering
        self.embedding_layer = embedding_layer

    def _cluster(self, images: Tensor, args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """One plain pass: outputs (B, ...) and each patch's cluster (B, h, w), int64."""
        with self.vision_tower.record(self.embedding_layer) as recording:
            outputs = self._run_forward(images, args)
        if len(recording.tokens) != len(images):
            raise ValueError(
                f"forward_func: expected it to run the vision tower on its {len(images)} images, "
                f"it ran it on {len(recording.tokens)}"
            )
        check_finite(recording.tokens, "patch embeddings")
        labels = self.clustering(recording.tokens).to(images.device)
        _check_labels(labels, recording.tokens, getattr(self.clustering, "n_clusters", None))
        return outputs, labels.view(len(images), *recording.grid)


def _check_labels(labels: Tensor, tokens: Tensor, n_clusters: int | None) -> None:
    if labels.shape != tokens.shape[:2] or labels.dtype != torch.int64:
        raise ValueError(
            f"clustering: expected int64 labels of shape {tuple(tokens.shape[:2])}, got "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (n_clusters is not None and high >= n_clusters):
        last = "" if n_clusters is None else f" to {n_clusters - 1} (n_clusters - 1)"
        raise ValueError(f"clustering: expected labels from 0{last}, got {low} to {high}")


def compacted(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's clusters, numbered without gaps in the order of the numbers that they have.

    Nothing is as large as the number of clusters that a clustering may give, which for one that is
    shared by many images is far more than an image has patches.

    Args:
        labels: (B, h, w) int64, any numbers from 0.

    Returns:
        The new numbers, (B, h, w) int64, image b's from 0 to K_b - 1, all of them used; and the
        old number of each new one, (B, K) int64, K the most clusters of an image, -1 from K_b on.

    Example:
        >>> compacted(torch.tensor([[[70, 5], [70, 9]], [[8, 8], [8, 8]]]))
        (tensor([[[2, 0],
                 [2, 1]],
        <BLANKLINE>
                [[0, 0],
                 [0, 0]]]), tensor([[ 5,  9, 70],
                [ 8, -1, -1]]))
    """
    ordered, places = labels.flatten(1).sort(dim=1)
    steps = (ordered.diff(dim=1) != 0).cumsum(dim=1)
    numbers = nn.functional.pad(steps, (1, 0))  # of the patches in this order
    compact = torch.empty_like(numbers).scatter_(1, places, numbers).view(labels.shape)
    clusters = labels.new_full((len(labels), int(numbers.max()) + 1), -1)
    return compact, clusters.scatter_(1, numbers, ordered)
