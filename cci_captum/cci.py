"""Cluster-based Concept Importance (CCI) as a Captum attribution method.

Agarwal, Karanam, Gandhi: "Concept Regions Matter: Benchmarking CLIP with a New
Cluster-Importance Approach", CVPR 2026, arXiv 2511.12978.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ._checks import check_choice
from ._progress import Progress, progress_bar
from .attribution.clusters import ClusterAttribution, Clustering, compacted
from .attribution.inputs import Inputs
from .clustering import KMeans
from .coalitions import Coalitions, Sets, check_sets, own_sets, run_sets
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

    @classmethod
    def paper(
        cls,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        embedding_layer: Layer = -1,
    ) -> CCI:
        """CCI with every choice as published, where this package has others.

        K-means of 7 clusters, of patch embeddings as they are; each hidden by -inf in every
        attention layer; weights d_k / sum_j d_j (arXiv 2511.12978). The paper explains cosines:
        give an `ImageTextSimilarity`, or a `ZeroShotClassifier` of `logit_scale` 1.0; and keeps the
        patches' borders, as `attribute` does.

        Args:
            forward_func: See `CCI`.
            vision_tower: See `CCI`.
            embedding_layer: Which tokens are "patch embeddings", which the paper leaves open: -1,
                the last block's; "input", those that enter the first block, as public code that is
                not the authors' has it; "projected", as arXiv 2609.27356 has it.

        Raises:
            TypeError: See `CCI`.
            ValueError: See `CCI`.

        Example:
            >>> import cci_captum
            >>> clip = cci_captum.load_clip("tiny")
            >>> method = cci_captum.CCI.paper(cci_captum.ImageTextSimilarity(clip.model))
            >>> method.normalization, method.clustering.n_clusters
            ('paper', 7)
        """
        return cls(
            forward_func,
            vision_tower,
            clustering=KMeans(7, max_length=None),
            embedding_layer=embedding_layer,
            normalization="paper",
        )

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

    def coalitions(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        sets: Sets,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        check: bool = True,
    ) -> Coalitions:
        """What hiding sets of clusters does to every output at once.

        Costs one plain pass of an image, and one for each set that hides other patches of it: sets
        that are alike in the clusters that it has share a pass, and one that hides none needs none.

        Args:
            inputs: See `attribute`.
            sets: (M, n_clusters) bool over the clustering's own numbers, True where a cluster is
                hidden. Or a function from K, the most clusters of an image in inputs, to (M, K)
                bool over the clusters that each image has, such as `all_sets`; an image with fewer
                has the first of the columns, and the others hide nothing.
            additional_forward_args: See `attribute`.
            internal_batch_size: See `attribute`.
            show_progress: See `attribute`.
            check: See `attribute`.

        Returns:
            A `Coalitions`, which gives the drop of each set for any target.

        Raises:
            TypeError: If sets, or what the function gives, is no bool tensor; see also
                `attribute`.
            ValueError: If its shape does not fit, or it holds no set; see also `attribute`.
            RuntimeError: See `attribute`.
        """
        if not callable(sets):
            n_clusters = getattr(self.clustering, "n_clusters", None)
            if n_clusters is None:
                raise ValueError(
                    "sets: expected a function from K to (M, K) bool, got a tensor, "
                    f"whose columns are unknown: {type(self.clustering).__name__} has no n_clusters"
                )
            check_sets(sets, n_clusters)
        with self._explaining(
            inputs, None, additional_forward_args, internal_batch_size, check
        ) as given:
            return self._coalitions(given, partial(own_sets, sets), show_progress)

    def _patch_maps(self, given: Inputs, show_progress: bool) -> Tensor:
        """The weight of each patch's cluster."""
        return self._effects(given, show_progress).patch_map(given.target)

    def _effects(self, given: Inputs, show_progress: bool) -> ClusterEffects:
        alone = partial(torch.eye, dtype=torch.bool)
        found = self._coalitions(given, partial(own_sets, alone), show_progress)
        return ClusterEffects(
            labels=found.labels,
            outputs=found.outputs,
            masked_outputs=found.masked_outputs,
            image_shape=found.image_shape,
            normalization=self.normalization,
            clusters=found.clusters,
            covered=found.covered,
        )

    def _coalitions(
        self, given: Inputs, sets_of: Callable[[Tensor], Tensor], show_progress: bool
    ) -> Coalitions:
        """What the sets do, (B, M, K) bool, that a function of the clusters (B, K) gives."""
        with progress_bar(show_progress, len(given), "CCI", unit="img") as progress:
            outputs, labels = self._run_whole(given, progress)
            labels, clusters = compacted(labels)
            own = sets_of(clusters)
            masked_outputs = run_sets(
                self.forward_func,
                self.vision_tower,
                given,
                outputs,
                labels,
                own,
                hide=self.hide,
                progress=progress,
            )
        _, channels, height, width = given.images.shape
        _, h, w = labels.shape
        return Coalitions(
            labels=labels,
            outputs=outputs,
            masked_outputs=masked_outputs,
            image_shape=(channels, height, width),
            sets=own,
            clusters=clusters,
            covered=self._covered(given.images, (h, w)),
        )

    def _run_whole(self, given: Inputs, progress: Progress) -> tuple[Tensor, Tensor]:
        """Outputs with nothing hidden, and the clusters (B, h, w)."""
        outputs, labels = [], []
        for places, part in replace(given, target=None).parts():
            with self._running_on(places):
                chunk_outputs, chunk_labels = self._cluster(part.images, part.args)
            outputs.append(chunk_outputs)
            labels.append(chunk_labels)
            progress.update(len(part))
        return torch.cat(outputs), torch.cat(labels)
