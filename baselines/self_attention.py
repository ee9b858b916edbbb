"""The last block's attention of the class token, as a map.

Caron et al.: "Emerging Properties in Self-Supervised Vision Transformers", arXiv 2104.14294.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from cci_captum.attribution.base import PatchAttribution
from cci_captum.vision_towers import VisionTower


class SelfAttention(PatchAttribution):
    """How much the class token attends to each patch in the last block.

    The same for every target: it says where the encoder looks, not what for. In models that
    average their patches, the mean over the patches' attention; with an attention pool (SigLIP),
    the attention of the pool. One forward pass.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        single_head: Compute that attention with one head over the full width, as in the
            comparison of arXiv 2502.18816; False is the mean over the model's own heads.

    Raises:
        TypeError: If the attention cannot be read; see also `PatchAttribution`.
        ValueError: See `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import SelfAttention
        >>> clip = cci_captum.load_clip("tiny")
        >>> method = SelfAttention(clip.model.encode_image, clip.model.visual)
        >>> method.patch_map(torch.zeros(2, 3, 96, 96)).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        single_head: bool = True,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        self.vision_tower.check_attention()
        self.single_head = single_head

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        tower = self.vision_tower
        with tower.record_attention(single_head=self.single_head) as recording:
            self._run_forward(images, args)
        last = recording.last
        row = last.pool(last.probabilities.mean(dim=1))  # (B, T)
        return last.patches(row).unflatten(1, recording.grid)
