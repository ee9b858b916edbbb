"""MaskCLIP, as Grad-ECLIP's authors compare it: patches through the last block's value path.

Zhou, Loy, Dai: "Extract Free Dense Labels from CLIP", arXiv 2112.01071; the weighting by keys
is that of the comparison in arXiv 2502.18816.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum.vision_towers import VisionTower, join_heads

from ._similarity import projected_cosine
from ._text import TextAttribution


class MaskCLIP(TextAttribution):
    """cos(z_i, t) cos(out(k_CLS), out(k_i)), z_i the patch without attention in the last block.

    u_i = x_i + out(v_i), where x_i enters the last block, v_i is its value and out the
    attention's output projection; z_i is u_i through the block's MLP, the final norm and the
    projection to the joint space. One forward pass of the image encoder, no gradients.

    Args:
        forward_func: An `ImageTextSimilarity` or a `ZeroShotClassifier`; of a `LogProbability` or
            `Margin` the classifier inside is explained, with the same map.
        vision_tower: See `PatchAttribution`.
        key_similarity: Multiply by the cosine of the output-projected keys of the class token
            (the mean of the patches' keys where the model averages its patches) and of the
            patch; False is the cosine with the text alone.

    Raises:
        TypeError: If forward_func is of another kind; if patches have no feature of their own in
            the joint space, as with an attention pool (SigLIP, CoCa); see also
            `PatchAttribution`.
        ValueError: See `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import MaskCLIP
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> MaskCLIP(classifier).patch_map(torch.zeros(2, 3, 96, 96), target=1).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        key_similarity: bool = True,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        self.vision_tower.check_projection()
        self.vision_tower.check_attention()
        self.key_similarity = key_similarity

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        tower = self.vision_tower
        text = self._text_features(target, args, len(images))
        with tower.record_attention() as recording:
            encoded = self.clip.encode_images(images)
        (last,) = recording.blocks
        self._read_out(last, encoded)  # patches are to enter the same space
        block = tower.block(-1)
        values = block.project_out(join_heads(last.values))
        tokens = block.add_mlp(block.add_attention(last.tokens, values))
        patches = tower.project(tower.patches(tokens)).to(text.dtype)
        patch_map = F.cosine_similarity(patches, text[:, None], dim=-1)
        if self.key_similarity:
            keys = join_heads(last.keys)
            similarity = projected_cosine(block, tower.pool(keys), tower.patches(keys))
            patch_map = patch_map * similarity
        return patch_map.unflatten(1, recording.grid)
