"""Adapter for timm's VisionTransformer and Eva.

ViT, DeiT, DINOv2, DINOv3, EVA, EVA02, SigLIP, PE-Core, MobileCLIP-B: with or without class
token, any number of registers, learned or rotary positions, pooled by class token, average,
maximum or attention.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from timm.layers import Attention, AttentionPoolLatent, AttentionRope, SqueezeExcite, to_2tuple
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .base import VisionTower
from .blocks import AttentionBlock, AttentionPool
from .hiding import Hiding
from .hooks import after, hook_input, hook_output, skip
from .layout import READ_BY_POOL, check_as_released
from .timm_blocks import TimmBlock, TimmEvaBlock, TimmPool

_POOLS = ("token", "avg", "avgmax", "max", "map")
_BLOCKS = (Block, ResPostBlock, EvaBlock, EvaBlockPostNorm)
_ATTENTIONS = (Attention, AttentionRope, EvaAttention)


class TimmVisionTower(VisionTower):
    """`timm.models.vision_transformer.VisionTransformer` and `timm.models.eva.Eva`."""

    trunk: Any

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.trunk = self._trunk(module)
        check_as_released(
            self.trunk,
            "timm",
            ("forward", "forward_features", "forward_head", "pool", "_pos_embed"),
        )
        _check_supported(self.trunk)
        self.num_prefix_tokens = self.trunk.num_prefix_tokens
        if self.trunk.attn_pool is not None:
            self.unprojectable = READ_BY_POOL
        elif isinstance(self.trunk, VisionTransformerDistilled):
            self.unprojectable = "two tokens are read out, each by a classifier of its own"

    @staticmethod
    def matches(module: nn.Module) -> bool:
        """Whether `module` is timm's VisionTransformer or Eva."""
        return isinstance(module, (VisionTransformer, Eva))

    @staticmethod
    def _trunk(module: Any) -> Any:
        """The module with the blocks."""
        return module

    @property
    def blocks(self) -> Sequence[AttentionBlock]:
        """See `TowerLayout.blocks`."""
        make = TimmEvaBlock if isinstance(self.trunk, Eva) else TimmBlock
        return [make(block) for block in self.trunk.blocks]

    @property
    def attention_pool(self) -> AttentionPool | None:
        """The MAP head; see `TowerLayout.attention_pool`."""
        if self.trunk.attn_pool is None:
            return None
        sees_prefix = isinstance(self.trunk, Eva) or getattr(
            self.trunk, "pool_include_prefix", False
        )
        return TimmPool(self.trunk.attn_pool, self.num_prefix_tokens if sees_prefix else 0)

    @property
    def entry(self) -> nn.Module:
        """The patch embedding; see `TowerLayout.entry`."""
        return self.trunk.patch_embed

    @property
    def input_module(self) -> nn.Module:
        """The norm before the blocks, or what stands in its place."""
        return self.trunk.norm_pre

    @property
    def patch_size(self) -> tuple[int, int]:
        """See `TowerLayout.patch_size`."""
        return tuple(self.trunk.patch_embed.feat_ratio(as_scalar=False))

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid (h, w); see `TowerLayout.grid_of`."""
        embed = self.trunk.patch_embed
        if not self.trunk.dynamic_img_size and tuple(embed.img_size) != (height, width):
            expected_h, expected_w = embed.img_size
            raise ValueError(
                f"images: expected height x width {expected_h} x {expected_w}, the size that the "
                f"model was made for (timm takes others with dynamic_img_size=True), got {height} "
                f"x {width}"
            )
        patch_height, patch_width = self.patch_size
        if getattr(embed, "dynamic_img_pad", False):
            return math.ceil(height / patch_height), math.ceil(width / patch_width)
        return height // patch_height, width // patch_width

    def pool(self, tokens: Tensor) -> Tensor:
        """The class token, or the mean of the patches (also where a maximum is taken)."""
        if self.trunk.global_pool == "token":
            return tokens[:, 0]
        averaged = tokens if self._averages_prefix() else self.patches(tokens)
        return averaged.mean(dim=1)

    def project(self, tokens: Tensor) -> Tensor:
        """Final norms and head; see `TowerLayout.project`."""
        self.check_projection()
        # .forward, not a call: the final norm may carry the hooks that hide.
        return self._head(self.trunk.fc_norm(self.trunk.norm.forward(tokens)))

    def _head(self, features: Tensor) -> Tensor:
        return self.trunk.head(features)

    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature; see `TowerLayout.read_out`."""
        return self.trunk.forward_head(self.trunk.norm.forward(tokens))

    def hide_in_read_out(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """See `TowerLayout.hide_in_read_out`."""
        if hiding.strategy == "drop":
            yield hook_input(self.trunk.norm, hiding.restore)
        # The caller may average patches of `forward_features`, also where the tower does not.
        include = self._averages_prefix()
        yield hook_output(
            self.trunk.norm, lambda tokens: hiding.average_kept(tokens, include_prefix=include)
        )
        if self.attention_pool is not None:
            yield from self.attention_pool.hide(hiding)

    def _averages_prefix(self) -> bool:
        return bool(getattr(self.trunk, "pool_include_prefix", False))

    def keep_every_patch(self) -> Iterator[RemovableHandle]:
        """See `TowerLayout.keep_every_patch`."""
        dropout = getattr(self.trunk, "patch_drop", None)
        if dropout is None:
            return
        if isinstance(self.trunk, Eva):  # whose patch dropout puts out the kept indices too
            yield after(dropout, lambda module, args, output: (args[0], None))
        else:
            yield skip(dropout)


def _check_supported(trunk: Any) -> None:
    """Raise TypeError, with the reason, for a trunk whose patches cannot be hidden."""
    name = type(trunk).__name__

    def refuse(reason: str) -> None:
        raise TypeError(f"vision_tower: {name}: {reason}")

    if any(map(_mixes_patches, trunk.patch_embed.modules())):
        refuse(
            "its convolutional stem mixes the pixels of different patches: hiding a token would "
            "not hide its patch"
        )
    for block in trunk.blocks:
        if type(block) not in _BLOCKS:
            refuse(f"blocks of type {type(block).__name__} are not supported")
        if type(block.attn) not in _ATTENTIONS:
            refuse(f"attention of type {type(block.attn).__name__} is not supported")
    if trunk.global_pool not in _POOLS:
        expected = ", ".join(map(repr, _POOLS))
        refuse(f"expected global_pool to be one of {expected}, got {trunk.global_pool!r}")
    if trunk.attn_pool is not None and not isinstance(trunk.attn_pool, AttentionPoolLatent):
        refuse(f"attention pool of type {type(trunk.attn_pool).__name__} is not supported")


def _mixes_patches(module: nn.Module) -> bool:
    """Whether a module's windows overlap or reach over their patch, or it looks at all patches."""
    if isinstance(module, (nn.GroupNorm, SqueezeExcite)):
        return True
    if not hasattr(module, "kernel_size"):
        return False
    kernel, stride = to_2tuple(module.kernel_size), to_2tuple(module.stride)
    padding = getattr(module, "padding", 0)
    return kernel != stride or (padding != "valid" and to_2tuple(padding) != (0, 0))
