"""Captum's KernelShap with CCI's clusters as features.

Lundberg, Lee: "A Unified Approach to Interpreting Model Predictions", arXiv 1705.07874.
"""

from __future__ import annotations

from collections.abc import Callable

from captum.attr import KernelShap
from torch import Tensor

from ._cluster_pixels import LeastSquares, SampledClusters


class ClusterKernelShap(SampledClusters):
    """Shapley values of the clusters' pixels, estimated by a weighted linear model.

    Captum's KernelShap with its own sampling; values add up to the score of the image less
    that of the baseline. n_samples + 1 forward passes. With few clusters all 2^K sets could be
    tried; this is the published estimate.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        clustering: From (B, N, D) patch embeddings to (B, N) labels. None is `KMeans(7)`.
        embedding_layer: Whose output is clustered, as in `CCI`.
        baseline: What replaces pixels, in the units of inputs: a number, or a tensor that
            broadcasts to (3, H, W). 0 is the mean colour of normalised images.
        n_samples: Sets of kept clusters that are tried, the full and the empty one among them.
        seed: Of the sets, the same for every image.

    Raises:
        TypeError: See `CCI`.
        ValueError: See `CCI`; or if n_samples is not positive.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import ClusterKernelShap
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> method = ClusterKernelShap(classifier, n_samples=20)
        >>> method.patch_map(torch.rand(2, 3, 96, 96), target=1).shape
        torch.Size([2, 12, 12])
    """

    def _explainer(self, scores: Callable[..., Tensor]) -> KernelShap:
        explainer = KernelShap(scores)
        explainer.interpretable_model = LeastSquares()
        return explainer
