"""Captum's FeatureAblation with CCI's clusters as features."""

from __future__ import annotations

from typing import Any

import torch
from captum.attr import FeatureAblation
from torch import Tensor

from cci_captum.attribution.clusters import compacted

from ._cluster_pixels import ClusterPixels, without_rounding


class ClusterAblation(ClusterPixels):
    """By how much the score drops when a cluster's pixels are replaced by a baseline.

    CCI's question, asked in pixels: s - s_k without any scaling. K + 2 forward passes, where K is
    the most clusters that an image of the batch has.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        clustering: From (B, N, D) patch embeddings to (B, N) labels. None is `KMeans(7)`.
        embedding_layer: Whose output is clustered, as in `CCI`.
        baseline: What replaces pixels, in the units of inputs: a number, or a tensor that
            broadcasts to (3, H, W). 0 is the mean colour of normalised images.

    Raises:
        TypeError: See `CCI`.
        ValueError: See `CCI`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import ClusterAblation
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> ClusterAblation(classifier).patch_map(torch.rand(2, 3, 96, 96), target=1).shape
        torch.Size([2, 12, 12])
    """

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        _, labels = self._cluster(images, args)
        labels, clusters = compacted(labels)
        feature_mask, seen = self._feature_mask(labels, images), list[Tensor]()
        attributions = FeatureAblation(self._score_of(target, seen)).attribute(
            images,
            baselines=self._baselines(images),
            additional_forward_args=args,
            feature_mask=feature_mask,
        )
        attributions = without_rounding(attributions, torch.stack(seen, dim=1))
        # All pixels of a cluster have its value; a cluster without pixels changes nothing.
        values = attributions.new_zeros(clusters.shape)
        values.scatter_(1, feature_mask[:, 0].flatten(1), attributions[:, 0].flatten(1))
        return values.gather(1, labels.flatten(1)).view(labels.shape)
