"""GAME, generic attention-model explainability: attention weighted by its gradient.

Chefer, Gur, Wolf: "Generic Attention-model Explainability for Interpreting Bi-Modal and
Encoder-Decoder Transformers", arXiv 2103.15679, equations 5 and 6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cci_captum._checks import check_choice
from cci_captum.attribution.base import PatchAttribution
from cci_captum.attribution.derivatives import gradients
from cci_captum.vision_towers import VisionTower

from ._relevance import patches_read

Layers = Literal["last", "all"]


class GAME(PatchAttribution):
    """The class token's row of R, where R = I and then R = R + M_l R block by block.

    M_l is the mean over heads of ReLU(A_l * d score / d A_l), A_l the block's attention. In
    models that average their patches, the mean over the patches' rows. With an attention pool,
    the pool is the last layer of attention, without a residual connection: its query's row of M
    times R. One forward and one backward pass through the blocks concerned.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        layers: "last" starts with R = I before the last block, as the authors do for CLIP's
            image encoder and arXiv 2502.18816 compares it; "all" follows every block, as the
            paper writes it, and keeps the graph of all of them in memory; the map then depends
            on the score's scale, since M_l enters it in powers up to the number of blocks.

    Raises:
        TypeError: If the attention cannot be read; see also `PatchAttribution`.
        ValueError: See `PatchAttribution`; or if layers is unknown.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import GAME
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> GAME(classifier).patch_map(torch.zeros(2, 3, 96, 96), target=[0, 1]).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        layers: Layers = "last",
    ) -> None:
        super().__init__(forward_func, vision_tower)
        check_choice("layers", layers, get_args(Layers))
        self.vision_tower.check_attention(all_blocks=layers == "all")
        self.layers = layers

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        tower = self.vision_tower
        blocks = None if self.layers == "last" else range(tower.num_blocks)
        with tower.record_attention(blocks, pool=True, requires_grad=True) as recording:
            scores = self._score(images, target, args)
            pool = recording.pool
            recorded = recording.blocks if pool is None else [*recording.blocks, pool]
            attentions = [layer.probabilities for layer in recorded]
            found = gradients(scores, attentions)
        relevant = [
            (attention.detach() * gradient).relu().mean(dim=1)
            for attention, gradient in zip(attentions, found, strict=True)
        ]
        looks = None if pool is None else pool.pool(relevant.pop())
        h, w = recording.grid
        size = tower.num_prefix_tokens + h * w
        identity = torch.eye(size, dtype=found[0].dtype, device=images.device)
        relevance = identity.expand(len(images), size, size)
        for block in relevant:
            relevance = relevance + block @ relevance
        return patches_read(tower, relevance, looks).unflatten(1, recording.grid)
