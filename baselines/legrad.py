"""LeGrad: how much each layer's reading of the image would gain from looking at a patch.

Bousselham, Boggust, Chaybouti, Strobelt, Kuehne: "LeGrad: An Explainability Method for Vision
Transformers via Feature Formation Sensitivity", ICCV 2025, arXiv 2404.03214.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum._checks import check_choice, check_positive_int
from cci_captum.attribution.derivatives import gradients
from cci_captum.vision_towers import BlockAttention, VisionTower, join_heads

from ._text import TextAttribution, check_one_text

ReadOut = Literal["mean", "model"]
"""What a layer's score is read from: the mean of its tokens, or what the model reads."""

_EMPTY = 0.8  # of the range of an empty text's map


class LeGrad(TextAttribution):
    """mean over layers l, heads h and queries i of ReLU(d s_l / d A_l[h, i, j]), at each patch j.

    A_l is the attention of block l, and s_l the block's own score: the cosine of the text with
    what its output tokens are read out to, through the model's final norm and projection. No
    gradient passes from one layer's score to another layer. With an attention pool (SigLIP, CoCa)
    every layer's tokens are read out through the pool, and A_l is the pool's attention in that
    reading, of the query that the image feature is read from. One forward pass, and for each layer
    half a block forward and backward.

    The defaults are those of the released code (github.com/WalBouss/LeGrad), `layer_index=-2`: the
    last two blocks, s_l of the mean over all tokens, the class token among them. The paper takes
    the mean over layers, and finds that small models want the last few, large ones more;
    `n_blocks=None` takes all. The released map is scaled to [0, 1] over the image, which changes no
    order; maps are not scaled here. It reads SigLIP's and CoCa's tokens through the pool without
    the model's final norm; here the model's read-out is whole, so that the last layer's score is
    the model's.

    Args:
        forward_func: An `ImageTextSimilarity` or a `ZeroShotClassifier`; of a `LogProbability` or
            `Margin` the classifier inside is explained, with the same map.
        vision_tower: See `PatchAttribution`.
        n_blocks: Blocks whose attention counts, the last ones; all of them in a model with fewer.
            None is all.
        read_out: "mean" reads a layer's score from the mean of its tokens, "model" as the model
            reads its last layer's: the class token, or its own mean. Not for attention pools.
        empty_text: (1, L) tokens of a text that names nothing. Patches whose map for it is above
            0.8 of that map's range over the image get 0: they are looked at whatever is asked. The
            released code does so for SigLIP alone, with "a photo of a"; the paper does not.

    Raises:
        TypeError: If forward_func is of another kind; if the attention cannot be read; see also
            `PatchAttribution`.
        ValueError: If an option is out of range or unknown; see also `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import LeGrad
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> LeGrad(classifier).patch_map(torch.zeros(2, 3, 96, 96), target=1).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        n_blocks: int | None = 2,
        read_out: ReadOut = "mean",
        empty_text: Tensor | None = None,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        if n_blocks is not None:
            check_positive_int("n_blocks", n_blocks)
        check_choice("read_out", read_out, get_args(ReadOut))
        if empty_text is not None:
            check_one_text("empty_text", empty_text)
        self.vision_tower.check_attention(all_blocks=True)
        if read_out == "mean" and self.vision_tower.attention_pool is None:
            self.vision_tower.check_projection()
        self.n_blocks = n_blocks
        self.read_out = read_out
        self.empty_text = empty_text

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        tower = self.vision_tower
        text = self._text_features(target, args, len(images))
        count = min(self.n_blocks or tower.num_blocks, tower.num_blocks)
        with tower.record_attention(range(-count, 0)) as recording:
            encoded = self.clip.encode_images(images)
        self._read_out(recording.last, encoded)  # what is differentiated is to be what is compared
        maps = self._maps(recording.blocks, text)
        if self.empty_text is not None:
            empty = self.clip.encode_texts(self.empty_text.to(images.device)).expand_as(text)
            maps = maps.masked_fill(_scaled(self._maps(recording.blocks, empty)) > _EMPTY, 0.0)
        return maps.unflatten(1, recording.grid)

    def _maps(self, blocks: list[BlockAttention], text: Tensor) -> Tensor:
        """(B, N) of texts (B, E), the mean over these blocks."""
        of_layer = self._of_block if self.vision_tower.attention_pool is None else self._of_pool
        with self.vision_tower.watch_gradients(), torch.enable_grad():
            return torch.stack([of_layer(block, text) for block in blocks]).mean(dim=0)

    def _of_block(self, recorded: BlockAttention, text: Tensor) -> Tensor:
        """(B, N) of a block's own attention."""
        tower = self.vision_tower
        attention = recorded.probabilities.detach().requires_grad_()
        context = join_heads(attention.to(recorded.values.dtype) @ recorded.values)
        tokens = _output(recorded, context)
        if self.read_out == "mean":
            features = tower.project(tokens.mean(dim=1))
        else:
            features = tower.read_out(tokens)
        (gradient,) = gradients(_cosines(features, text), [attention])
        return tower.patches(gradient.relu().mean(dim=(1, 2)))

    def _of_pool(self, recorded: BlockAttention, text: Tensor) -> Tensor:
        """(B, N) of the attention pool, reading a block's tokens."""
        tokens = _output(recorded, recorded.context).detach()  # no further than the pool
        with self.vision_tower.record_attention((), pool=True, requires_grad=True) as reading:
            with torch.no_grad():  # up to the pool, where the graph begins
                features = self.vision_tower.read_out(tokens)
            pool = reading.last
            (gradient,) = gradients(_cosines(features, text), [pool.probabilities])
        return pool.patches(pool.pool(gradient.relu().mean(dim=1)))


def _output(recorded: BlockAttention, context: Tensor) -> Tensor:
    """All tokens (B, T, D) that a block puts out where its attention gave this context."""
    block: Any = recorded.block
    return block.add_mlp(block.add_attention(recorded.tokens, block.project_out(context)))


def _cosines(features: Tensor, text: Tensor) -> Tensor:
    """(B,) cosines of features (B, E), not normalised, with unit texts."""
    return (F.normalize(features.to(text.dtype), dim=-1) * text).sum(dim=-1)


def _scaled(maps: Tensor) -> Tensor:
    """Rows of (B, N) scaled to [0, 1]; 0 where all values of a row are the same."""
    low, high = maps.aminmax(dim=1, keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1.0)
