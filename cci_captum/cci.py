"""Cluster-based Concept Importance (CCI) as a Captum attribution method.

Agarwal, Karanam, Gandhi: "Concept Regions Matter: Benchmarking CLIP with a New
Cluster-Importance Approach", CVPR 2026, arXiv 2511.12978.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ._checks import check_choice
from .attribution.clusters import ClusterAttribution, Clustering
from .attribution.forward import check_passes
from .attribution.inputs import Inputs, rows_of_args
from .effects import ClusterEffects, Normalization
from .vision_towers import HideStrategy, Layer, VisionTower


class CCI(ClusterAttribution):
    """How much each cluster of patches contributes to a CLIP-like model's output.

    The image encoder's own patch embeddings are clustered, image by image; each cluster in
    turn is hidden from every attention layer (no pixel is replaced); the drop of the output,
    d_k = s - s_k, is the importance of the cluster's patches. Costs K + 1 forward passes,
    whatever the number of targets, and no gradients.

    What else is in the batch changes outputs by rounding alone, and in float32 and float64 no
    cluster, unless a patch lies midway between two to within rounding. In half precision (weights
    in bf16 or fp16, autocast) tokens differ with the number of images in a pass, and some patches
    change their cluster with them; given the labels, drops agree to half precision's rounding. Use
    `internal_batch_size=1`, or float32, where maps must not depend on the batch.

    Where the paper leaves a choice or breaks, this is what happens:
        - Clustered tokens: the output of the last block (`embedding_layer`); the paper does
          not say which tokens it clusters.
        - Negative drops: the paper's weights d_k / sum_j d_j change sign or explode where
          drops are negative. The default divides by sum_j abs(d_j), which is the same where all
          drops are positive and keeps signs and order where not.

    Args:
        forward_func: Module or function from images (B, 3, H, W) and any further arguments to
            (B,) scores or (B, C) outputs.
        vision_tower: The image encoder that forward_func runs, once a call: a module, or its
            adapter from `find_vision_tower`. None finds it in forward_func.
        clustering: From (B, N, D) patch embeddings to (B, N) labels. None is `KMeans(7)`.
        embedding_layer: Whose output is clustered: a block's index (-1 the last), "input" or
            "projected"; see `VisionTower.record`.
        normalization: "relative", "paper" or "none"; see `ClusterEffects`.
        hide: "mask" or "drop", two ways to the same result; see `VisionTower.hide`.

    Raises:
        TypeError: If an argument has the wrong type or the image encoder is of a kind that
            cannot be explained.
        ValueError: If no image encoder or several are found, or a setting is unknown.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> text = clip.tokenizer(["a penguin", "a dog"])
        >>> cci = cci_captum.CCI(cci_captum.ImageTextSimilarity(clip.model))
        >>> cci.attribute(images, additional_forward_args=text).shape
        torch.Size([2, 3, 96, 96])
    """

    _hides_patches = True

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        clustering: Clustering | None = None,
        embedding_layer: Layer = -1,
        normalization: Normalization = "relative",
        hide: HideStrategy = "mask",
    ) -> None:
        super().__init__(
            forward_func, vision_tower, clustering=clustering, embedding_layer=embedding_layer
        )
        check_choice("normalization", normalization, get_args(Normalization))
        check_choice("hide", hide, get_args(HideStrategy))
        self.normalization = normalization
        self.hide = hide

    def effects(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        check: bool = True,
    ) -> ClusterEffects:
        """What hiding each cluster does to every output at once.

        Args:
            inputs: See `attribute`.
            additional_forward_args: See `attribute`.
            internal_batch_size: See `attribute`.
            show_progress: See `attribute`.
            check: See `attribute`.

        Returns:
            A `ClusterEffects`, which gives drops, weights and maps for any target.

        Raises:
            TypeError: See `attribute`.
            ValueError: See `attribute`.
            RuntimeError: See `attribute`.
        """
        with self._explaining(
            inputs, None, additional_forward_args, internal_batch_size, check
        ) as given:
            return self._effects(given, show_progress)

    def _patch_maps(self, given: Inputs, show_progress: bool) -> Tensor:
        """The weight of each patch's cluster."""
        return self._effects(given, show_progress).patch_map(given.target)

    def _effects(self, given: Inputs, show_progress: bool) -> ClusterEffects:
        with tqdm(total=len(given), desc="CCI", unit="img", disable=not show_progress) as progress:
            outputs, labels = self._run_whole(given, progress)
            masked_outputs = self._run_masked(given, outputs, labels, progress)
        _, channels, height, width = given.images.shape
        _, h, w = labels.shape
        return ClusterEffects(
            labels=labels,
            outputs=outputs,
            masked_outputs=masked_outputs,
            image_shape=(channels, height, width),
            normalization=self.normalization,
            covered=self._covered(given.images, (h, w)),
        )

    def _run_whole(self, given: Inputs, progress: tqdm) -> tuple[Tensor, Tensor]:
        """Outputs with nothing hidden, and the clusters (B, h, w)."""
        outputs, labels = [], []
        for places, part in replace(given, target=None).parts():
            with self._running_on(places):
                chunk_outputs, chunk_labels = self._cluster(part.images, part.args)
            outputs.append(chunk_outputs)
            labels.append(chunk_labels)
            progress.update(len(part))
        return torch.cat(outputs), torch.cat(labels)

    def _run_masked(self, given: Inputs, outputs: Tensor, labels: Tensor, progress: tqdm) -> Tensor:
        """Outputs with each cluster hidden, (B, K, ...); absent clusters repeat `outputs`."""
        n_clusters = self.clustering.n_clusters
        masked_outputs = outputs[:, None].repeat(1, n_clusters, *[1] * (outputs.ndim - 1))
        flat_labels = labels.flatten(1)
        batch_size = given.batch_size or len(given)
        for rows, clusters in self._passes(flat_labels, n_clusters, batch_size, progress):
            mask = flat_labels[rows] == clusters[:, None]
            with self.vision_tower.hide(mask, self.hide) as hiding:
                masked_outputs[rows, clusters] = self._run_forward(
                    given.images[rows], rows_of_args(given.args, rows)
                )
            check_passes(hiding.passes)
            progress.update(len(rows))
        return masked_outputs

    def _passes(
        self, labels: Tensor, n_clusters: int, batch_size: int, progress: tqdm
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs (image, cluster) that exist, batch by batch."""
        sizes = nn.functional.one_hot(labels, n_clusters).sum(dim=1)  # (B, K)
        rows, clusters = sizes.nonzero(as_tuple=True)
        if self.hide == "drop":
            # A batch is as long as its longest row: put rows of like length together.
            order = sizes[rows, clusters].argsort(stable=True)
            rows, clusters = rows[order], clusters[order]
        progress.total += len(rows)
        progress.refresh()
        yield from zip(rows.split(batch_size), clusters.split(batch_size), strict=True)
