"""Gate gradient: what hiding every patch a little does to the score, all at once."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .attribution.base import PatchAttribution
from .attribution.derivatives import gradients


class GateGradient(PatchAttribution):
    """The slope of the score as each patch begins to be hidden, for one backward pass.

    A gate m_j in [0, 1] decides how much patch j counts (`VisionTower.gate`): in every block and
    head, for every query i,

        a_ij = m_j exp(q_i k_j / sqrt d) / sum_l m_l exp(q_i k_l / sqrt d),

    and the attention pool or the average that reads the image feature out has the same gates. With
    all gates at 1 the model is as it is; m_j = 0 hides patch j as `CCI` hides a cluster. The map is

        g_j = d score / d m_j  at m = 1,

    positive where the patch supports the score. It costs one forward and one backward pass,
    whatever the number of patches; another target costs both again. Where classes compete, explain
    a `LogProbability` of the classifier: g is then d log p / d m, and what lifts all classes alike
    does not count.

    g is the limit of `CCI`: gates a little below 1 lower the score by sum_j g_j (1 - m_j). That
    is not what hiding wholly does. Patches that show the same have small slopes, since the others
    stand in for each; a saturated score has small slopes everywhere; and g says nothing of the
    model where most of an image is hidden. Nor do slopes along the way there help much, all gates
    at t from 1 down to 0: since a softmax knows ratios alone, all patches at t are looked at as at
    1 until t is so small that the class token outweighs them all.

    AtMan (Deiseroth et al. 2023, arXiv 2301.08110) multiplies the logits of one token's keys, and
    those of tokens like it, by a factor in all blocks and takes the rise of the loss, in one
    forward pass a token. With log m_j added in place of the factor, and -log p as the loss, that is
    score(1) - score(m), whose limit is g_j (1 - m_j): all tokens in one backward pass.

    LeGrad (Bousselham et al. 2025, arXiv 2404.03214) differentiates a score s_b, which is read from
    block b's tokens, by that block's attention A_b, and sums relu(ds_b / dA_b) over blocks, and
    over heads and queries as means. Without pools, and with s the score of the output,

        g_j = sum over b, heads and i of A_ij (G_ij - sum_l A_il G_il),  A = A_b, G = ds / dA_b:

    the same sum over keys' columns with one score, each entry weighted by its attention, against
    what else its query would look at, and with both signs.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.

    Raises:
        TypeError: See `PatchAttribution`.
        ValueError: See `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> method = cci_captum.GateGradient(cci_captum.LogProbability(classifier))
        >>> method.patch_map(torch.zeros(2, 3, 96, 96), target=1).shape
        torch.Size([2, 12, 12])
    """

    _hides_patches = True

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        with self.vision_tower.gate() as gating:
            scores = self._score(images, target, args)
            (slopes,) = gradients(scores, [gating.gates])
        return slopes.unflatten(1, gating.grid)
