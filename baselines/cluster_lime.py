"""Captum's Lime with CCI's clusters as features.

Ribeiro, Singh, Guestrin: "Why Should I Trust You? Explaining the Predictions of Any
Classifier", arXiv 1602.04938.
"""

from __future__ import annotations

from collections.abc import Callable

from captum.attr import Lime
from torch import Tensor

from ._cluster_pixels import LeastSquares, SampledClusters


class ClusterLime(SampledClusters):
    """Coefficients of a linear model of the score over which clusters' pixels are kept.

    Captum's Lime with its own sampling (every cluster kept with probability 1/2) and weights
    (by the cosine of the images); the linear model is weighted least squares without a
    penalty, since a handful of clusters needs none. n_samples + 1 forward passes.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        clustering: From (B, N, D) patch embeddings to (B, N) labels. None is `KMeans(7)`.
        embedding_layer: Whose output is clustered, as in `CCI`.
        baseline: What replaces pixels, in the units of inputs: a number, or a tensor that
            broadcasts to (3, H, W). 0 is the mean colour of normalised images.
        n_samples: Sets of kept clusters that are tried.
        seed: Of the sets, the same for every image.

    Raises:
        TypeError: See `CCI`.
        ValueError: See `CCI`; or if n_samples is not positive.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import ClusterLime
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> method = ClusterLime(classifier, n_samples=20)
        >>> method.patch_map(torch.rand(2, 3, 96, 96), target=1).shape
        torch.Size([2, 12, 12])
    """

    def _explainer(self, scores: Callable[..., Tensor]) -> Lime:
        return Lime(scores, interpretable_model=LeastSquares())
