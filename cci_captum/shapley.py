"""Shapley values of clusters of patches, as a Captum attribution method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ._checks import check_choice, check_seed
from .attribution.clusters import ClusterAttribution, Clustering
from .attribution.inputs import Inputs
from .cci import CCI
from .cluster_maps import Normalization
from .coalitions import all_sets
from .shapley_effects import ShapleyEffects
from .shapley_values import drawn_sets, least_sets
from .vision_towers import HideStrategy, Layer, VisionTower


class ShapleyCCI(ClusterAttribution):
    """How much each cluster of patches contributes, shared out fairly where clusters overlap.

    `CCI` hides one cluster while all others are seen, so that of two regions either of which is
    enough neither matters. A Shapley value is what a cluster adds on average over all orders in
    which clusters may appear: values add up to the output less that with every patch hidden,
    clusters that do the same have the same, and those that do nothing have none (Shapley 1953;
    Lundberg and Lee 2017, arXiv 1705.07874). Clusters and hiding are those of `CCI`.

    An image of K clusters takes 2**K forward passes, the plain one among them, whatever the number
    of targets, and no gradients: 128 for 7. Where that is more than `n_samples`, values are
    estimated from so many passes, with standard errors. Passes an image follow the clusters that it
    has, and results do not depend on the others of a batch, but for rounding.

    Args:
        forward_func: See `CCI`.
        vision_tower: See `CCI`.
        clustering: See `CCI`.
        embedding_layer: See `CCI`.
        normalization: "relative", "paper" or "none"; see `ClusterEffects`.
        hide: "drop" or "mask", two ways to the same result; see `VisionTower.hide`. Half of all
            patches are hidden on average, so that dropping them is the faster.
        n_samples: The most passes of an image, at least 6 K + 2 where that is fewer than 2**K.
            None is 2**K, for images of at most 16 clusters.
        seed: Of the sets that are drawn, the same for all images of as many clusters.

    Raises:
        TypeError: See `CCI`.
        ValueError: See `CCI`; or if n_samples or seed is no such number.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> method = cci_captum.ShapleyCCI(classifier, clustering=cci_captum.KMeans(3))
        >>> effects = method.effects(images)
        >>> values = effects.shapley_values(target=1)
        >>> whole = effects.drops(target=1)[:, -1]  # with every patch hidden
        >>> torch.allclose(values.sum(dim=1), whole.double(), atol=1e-4)
        True
        >>> effects.interactions(target=1).shape
        torch.Size([2, 3, 3])
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
        hide: HideStrategy = "drop",
        n_samples: int | None = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(
            forward_func, vision_tower, clustering=clustering, embedding_layer=embedding_layer
        )
        check_choice("normalization", normalization, get_args(Normalization))
        check_choice("hide", hide, get_args(HideStrategy))
        known = isinstance(n_samples, int) and not isinstance(n_samples, bool)
        if n_samples is not None and (not known or n_samples < 2):
            raise ValueError(f"n_samples: expected an int from 2 on, or None, got {n_samples!r}")
        check_seed(seed)
        self.normalization = normalization
        self.hide = hide
        self.n_samples = n_samples
        self.seed = seed

    def effects(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        check: bool = True,
    ) -> ShapleyEffects:
        """What showing sets of clusters does to every output at once.

        Args:
            inputs: See `attribute`.
            additional_forward_args: See `attribute`.
            internal_batch_size: See `attribute`.
            show_progress: See `attribute`.
            check: See `attribute`.

        Returns:
            A `ShapleyEffects`, which gives values, their errors, interactions, weights and maps
            for any target.

        Raises:
            TypeError: See `attribute`.
            ValueError: See `attribute`; or if n_samples are too few for an image's clusters.
            RuntimeError: See `attribute`.
        """
        with self._explaining(
            inputs, None, additional_forward_args, internal_batch_size, check
        ) as given:
            return self._effects(given, show_progress)

    def _patch_maps(self, given: Inputs, show_progress: bool) -> Tensor:
        """The weight of each patch's cluster."""
        return self._effects(given, show_progress).patch_map(given.target)

    def _effects(self, given: Inputs, show_progress: bool) -> ShapleyEffects:
        cci = CCI(
            self.forward_func,
            self.vision_tower,
            clustering=self.clustering,
            embedding_layer=self.embedding_layer,
            hide=self.hide,
        )
        with self._running_on(range(len(given))):
            found = cci._coalitions(given, self._sets, show_progress)
        return ShapleyEffects(
            labels=found.labels,
            outputs=found.outputs,
            masked_outputs=found.masked_outputs,
            image_shape=found.image_shape,
            normalization=self.normalization,
            sets=found.sets,
            clusters=found.clusters,
            covered=found.covered,
        )

    def _sets(self, clusters: Tensor) -> Tensor:
        """(B, M, K) bool, what is hidden: each image's own sets, then empty ones."""
        counts = (clusters >= 0).sum(dim=1).tolist()
        own = {count: self._hidden(count) for count in {*counts}}
        most = max(map(len, own.values()))
        sets = clusters.new_zeros(len(clusters), most, clusters.shape[1], dtype=torch.bool)
        for image, count in enumerate(counts):
            sets[image, : len(own[count]), :count] = own[count]
        return sets

    def _hidden(self, count: int) -> Tensor:
        """The sets of so many clusters that are hidden in turn, (M, count) bool."""
        if self.n_samples is None:
            return all_sets(count)
        if self.n_samples < least_sets(count):
            raise ValueError(
                f"n_samples: expected at least {least_sets(count)} for an image of {count} "
                f"clusters, or None, got {self.n_samples}"
            )
        return drawn_sets(count, self.n_samples, self.seed)
