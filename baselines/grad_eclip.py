"""Grad-ECLIP: channels weighted by their gradient, patches by how the query likes their key.

Zhao, Wang, Hsiao, Chan: "Grad-ECLIP: Gradient-based Visual and Textual Explanations for CLIP",
arXiv 2502.18816.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cci_captum.attribution.base import PatchAttribution
from cci_captum.attribution.derivatives import gradients
from cci_captum.vision_towers import VisionTower, join_heads

from ._similarity import projected_cosine


class GradECLIP(PatchAttribution):
    """ReLU(sum_c g_c v_ic lambda_i), from the attention of the last block.

    o is what that attention puts out before its output projection, g the gradient of the score
    with respect to o at the class token, v_i the value of patch i, and lambda_i the cosine of
    the output-projected query of the class token with the output-projected key of patch i,
    scaled to [0, 1] over the patches. One forward pass, and a backward pass through half a
    block.

    Where it goes beyond the paper: in models that average their patches there is no class
    token that is read out; g is then summed over all tokens, and the query is the mean of the
    patches' queries. With a class token both are the same as in the paper. With an attention pool
    (SigLIP, CoCa), the pool is the last attention: its learned query takes the class token's
    place. Where attention has norms of its own, q and k are taken after theirs, o before the one
    inside the attention, and the output projection includes what stands before it.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        single_head: Compute the last block's attention with one head over the full width, in
            the forward pass too, as the released code does: the explained score is then that
            of the changed model. False keeps the model's own heads.
        key_similarity: Weight patches by lambda; False is the paper's "wo-ksim".

    Raises:
        TypeError: If the attention cannot be read; see also `PatchAttribution`.
        ValueError: See `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import GradECLIP
        >>> clip = cci_captum.load_clip("tiny")
        >>> method = GradECLIP(cci_captum.ImageTextSimilarity(clip.model))
        >>> text = clip.tokenizer(["a penguin", "a dog"])
        >>> method.attribute(torch.zeros(2, 3, 96, 96), additional_forward_args=text).shape
        torch.Size([2, 3, 96, 96])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        single_head: bool = True,
        key_similarity: bool = True,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        self.vision_tower.check_attention()
        self.single_head = single_head
        self.key_similarity = key_similarity

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        tower = self.vision_tower
        with tower.record_attention(single_head=self.single_head, requires_grad=True) as recording:
            scores = self._score(images, target, args)
            last = recording.last
            (gradient,) = gradients(scores, [last.context])
        channel_weights = gradient.sum(dim=1, keepdim=True)  # (B, 1, D)
        values = last.patches(join_heads(last.values)).detach()
        patch_map = (channel_weights * values).sum(dim=-1)  # (B, N)
        if self.key_similarity:
            query = last.pool(join_heads(last.queries))
            keys = last.patches(join_heads(last.keys))
            patch_map = patch_map * _min_max(projected_cosine(last.block, query, keys))
        return patch_map.relu().unflatten(1, recording.grid)


def _min_max(values: Tensor) -> Tensor:
    """Rows of (B, N) scaled to [0, 1]; 1 where all values of a row are the same."""
    low, high = values.aminmax(dim=1, keepdim=True)
    return torch.where(high > low, (values - low) / (high - low), 1.0)
