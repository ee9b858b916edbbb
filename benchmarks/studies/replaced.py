"""Clusters taken away in another way than out of attention: their embeddings are overwritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cci_captum._checks import check_choice
from cci_captum.attribution.clusters import ClusterAttribution, compacted
from cci_captum.attribution.targets import select_target
from cci_captum.vision_towers import VisionTower

Fill = Literal["zero", "mean"]


class EmbeddingAblation(ClusterAttribution):
    """CCI with each cluster's tokens overwritten before the first block, and attended to.

    The tokens, with their places added and after the norm before the blocks where there is one,
    become zeros or the mean of the image's patch tokens; s - s_k is spread over cluster k as CCI
    spreads it. K + 1 forward passes.

    Args:
        forward_func: See `CCI`.
        vision_tower: See `CCI`.
        fill: What overwrites them.
        options: `clustering` and `embedding_layer`, see `CCI`.

    Raises:
        TypeError: See `CCI`.
        ValueError: See `CCI`; or if fill is unknown.
    """

    _hides_patches = True

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        fill: Fill = "zero",
        **options: Any,
    ) -> None:
        super().__init__(forward_func, vision_tower, **options)
        check_choice("fill", fill, get_args(Fill))
        self.fill = fill

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        outputs, labels = self._cluster(images, args)
        whole, (labels, clusters) = select_target(outputs, target), compacted(labels)
        patch_map = torch.zeros(labels.shape, dtype=whole.dtype, device=whole.device)
        for cluster in range(clusters.shape[1]):
            inside = labels == cluster
            drops = whole - self._overwritten(images, target, args, inside.flatten(1))
            patch_map = torch.where(inside, drops[:, None, None], patch_map)
        return patch_map

    def _overwritten(
        self, images: Tensor, target: Any, args: tuple[Any, ...], inside: Tensor
    ) -> Tensor:
        """Scores (B,) with the tokens of patches (B, N) overwritten."""
        tower = self.vision_tower

        def overwrite(tokens: Tensor) -> Tensor:
            patches = tower.patches(tokens)
            fill = torch.zeros_like(patches)
            if self.fill == "mean":
                fill = patches.mean(dim=1, keepdim=True).expand_as(patches)
            prefix = tokens[:, : tokens.shape[1] - patches.shape[1]]
            return torch.cat([prefix, torch.where(inside[..., None], fill, patches)], dim=1)

        with tower.hide(torch.zeros_like(inside)) as hiding:
            hiding.replace = overwrite
            return self._score(images, target, args)
