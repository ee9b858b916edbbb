"""Attention rollout: attention followed through all blocks.

Abnar, Zuidema: "Quantifying Attention Flow in Transformers", arXiv 2005.00928, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cci_captum.attribution.base import PatchAttribution
from cci_captum.vision_towers import VisionTower

from ._relevance import patches_read


class AttentionRollout(PatchAttribution):
    """The class token's row of A_L ... A_1, A_l = W_l / 2 + I / 2 with rows summing to 1.

    W_l is the mean over heads of block l's attention, I stands for the residual connection.
    The same for every target. In models that average their patches, the mean over the patches'
    rows; with an attention pool, the mean over its heads, followed on through the blocks. One
    forward pass.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.

    Raises:
        TypeError: If the attention cannot be read; see also `PatchAttribution`.
        ValueError: See `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import AttentionRollout
        >>> clip = cci_captum.load_clip("tiny")
        >>> method = AttentionRollout(clip.model.encode_image, clip.model.visual)
        >>> method.patch_map(torch.zeros(2, 3, 96, 96)).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        self.vision_tower.check_attention(all_blocks=True)

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        tower = self.vision_tower
        with tower.record_attention(range(tower.num_blocks), pool=True) as recording:
            self._run_forward(images, args)
        rollout: Tensor | None = None
        for block in recording.blocks:
            attention = block.probabilities.mean(dim=1)
            identity = torch.eye(attention.shape[-1], device=attention.device)
            attention = (attention + identity) / 2
            attention = attention / attention.sum(dim=-1, keepdim=True)
            rollout = attention if rollout is None else attention @ rollout
        assert rollout is not None  # a tower has at least one block
        pool = recording.pool
        looks = None if pool is None else pool.pool(pool.probabilities.mean(dim=1))
        return patches_read(tower, rollout, looks).unflatten(1, recording.grid)
