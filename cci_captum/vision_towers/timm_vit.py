"""Adapters for timm's VisionTransformer and Eva, alone or inside open_clip's TimmModel.

ViT, DeiT, DINOv2, DINOv3, EVA, EVA02, SigLIP, PE-Core, MobileCLIP-B: with or without class
token, any number of registers, learned or rotary positions, pooled by class token, average,
maximum or attention.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from timm.layers import Attention, AttentionPoolLatent, AttentionRope
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ResPostBlock, VisionTransformer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .base import VisionTower
from .blocks import AttentionBlock, AttentionPool, split_heads
from .hiding import Hiding
from .hooks import hide_keys, hook_input, hook_output, skip

_POOLS = ("token", "avg", "avgmax", "max", "map")
_BLOCKS = (Block, ResPostBlock, EvaBlock, EvaBlockPostNorm)
_ATTENTIONS = (Attention, AttentionRope, EvaAttention)


class TimmVisionTower(VisionTower):
    """`timm.models.vision_transformer.VisionTransformer` and `timm.models.eva.Eva`."""

    trunk: Any

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.trunk = self._trunk(module)
        _check_supported(self.trunk)
        self.num_prefix_tokens = self.trunk.num_prefix_tokens
        if self.trunk.attn_pool is not None:
            self.unprojectable = (
                "the image feature is read from an attention pool: a patch token has no feature "
                "of its own in the joint space"
            )
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
        """See `VisionTower.blocks`."""
        make = _EvaBlock if isinstance(self.trunk, Eva) else _Block
        return [make(block) for block in self.trunk.blocks]

    @property
    def attention_pool(self) -> AttentionPool | None:
        """The MAP head; see `VisionTower.attention_pool`."""
        if self.trunk.attn_pool is None:
            return None
        sees_prefix = isinstance(self.trunk, Eva) or getattr(
            self.trunk, "pool_include_prefix", False
        )
        return _Pool(self.trunk.attn_pool, self.num_prefix_tokens if sees_prefix else 0)

    @property
    def entry(self) -> nn.Module:
        """The patch embedding; see `VisionTower.entry`."""
        return self.trunk.patch_embed

    @property
    def input_module(self) -> nn.Module:
        """The norm before the blocks, or what stands in its place."""
        return self.trunk.norm_pre

    def grid(self, images: Tensor) -> tuple[int, int]:
        """The patch grid (h, w); see `VisionTower.grid`."""
        if images.ndim != 4:
            raise ValueError(f"images: expected shape (B, 3, H, W), got {tuple(images.shape)}")
        embed, (height, width) = self.trunk.patch_embed, images.shape[-2:]
        if not self.trunk.dynamic_img_size and tuple(embed.img_size) != (height, width):
            expected_h, expected_w = embed.img_size
            raise ValueError(
                f"images: expected height x width {expected_h} x {expected_w}, the size that the "
                f"model was made for (timm takes others with dynamic_img_size=True), got {height} "
                f"x {width}"
            )
        patch_height, patch_width = embed.feat_ratio(as_scalar=False)
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
        """Final norms and head; see `VisionTower.project`."""
        self.check_projection()
        # .forward, not a call: the final norm may carry the hooks that hide.
        return self._head(self.trunk.fc_norm(self.trunk.norm.forward(tokens)))

    def _head(self, features: Tensor) -> Tensor:
        return self.trunk.head(features)

    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature; see `VisionTower.read_out`."""
        return self.trunk.forward_head(self.trunk.norm.forward(tokens))

    def hide_in_read_out(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """See `VisionTower.hide_in_read_out`."""
        if hiding.strategy == "drop":
            yield hook_input(self.trunk.norm, hiding.restore)
        if self.attention_pool is not None:
            yield from self.attention_pool.hide(hiding)
        elif self.trunk.global_pool != "token":
            include = self._averages_prefix()
            yield hook_output(
                self.trunk.norm,
                lambda tokens: hiding.average_kept(tokens, include_prefix=include),
            )

    def _averages_prefix(self) -> bool:
        return bool(getattr(self.trunk, "pool_include_prefix", False))

    def keep_every_patch(self) -> Iterator[RemovableHandle]:
        """See `VisionTower.keep_every_patch`."""
        dropout = getattr(self.trunk, "patch_drop", None)
        if dropout is None:
            return
        if isinstance(self.trunk, Eva):  # whose patch dropout puts out the kept indices too
            yield dropout.register_forward_hook(lambda module, args, output: (args[0], None))
        else:
            yield skip(dropout)


class OpenCLIPTimmTower(TimmVisionTower):
    """`open_clip.timm_model.TimmModel` around one of timm's image encoders."""

    module: TimmModel

    @staticmethod
    def matches(module: nn.Module) -> bool:
        """Whether `module` is a TimmModel whose trunk `TimmVisionTower` takes."""
        return isinstance(module, TimmModel) and TimmVisionTower.matches(module.trunk)

    @staticmethod
    def _trunk(module: Any) -> Any:
        return module.trunk

    def _head(self, features: Tensor) -> Tensor:
        return self.module.head(super()._head(features))

    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature; see `VisionTower.read_out`."""
        return self.module.head(super().read_out(tokens))


class _Block(AttentionBlock):
    """timm's Block and ResPostBlock."""

    module: Any
    attention: Any

    def __init__(self, module: Any) -> None:
        self.module = module
        self.attention = module.attn
        self.num_heads = module.attn.num_heads
        if getattr(self.attention, "gate", None) is not None:
            self.unreadable = "its attention is gated by what enters it"

    def project_qkv(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        attention, inputs = self.attention, args[0]
        joined = attention.qkv(inputs)
        queries, keys, values = (split_heads(x, self.num_heads) for x in joined.chunk(3, dim=-1))
        return attention.q_norm(queries), attention.k_norm(keys), values

    def project_out(self, context: Tensor) -> Tensor:
        return self.attention.proj_drop(self.attention.proj(self.attention.norm(context)))

    def add_attention(self, tokens: Tensor, attention: Tensor) -> Tensor:
        block = self.module
        if isinstance(block, ResPostBlock):
            return tokens + block.drop_path1(block.norm1(attention))
        return tokens + block.drop_path1(block.ls1(attention))

    def add_mlp(self, tokens: Tensor) -> Tensor:
        block = self.module
        if isinstance(block, ResPostBlock):
            return tokens + block.drop_path2(block.norm2(block.mlp(tokens)))
        return tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))

    def hide(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        yield hide_keys(self.attention, lambda: hiding.key_padding_mask, "attn_mask")


class _EvaBlock(_Block):
    """timm's EvaBlock and EvaBlockPostNorm, with rotary positions or without."""

    def project_qkv(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        attention, inputs = self.attention, args[0]
        parts: Sequence[Tensor]
        if attention.qkv is None:
            parts = (attention.q_proj(inputs), attention.k_proj(inputs), attention.v_proj(inputs))
        elif getattr(attention, "q_bias", None) is None:
            parts = attention.qkv(inputs).chunk(3, dim=-1)
        else:
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
            parts = nn.functional.linear(inputs, attention.qkv.weight, bias).chunk(3, dim=-1)
        width = parts[0].shape[-1] // self.num_heads
        queries, keys, values = (split_heads(x, x.shape[-1] // width) for x in parts)
        queries, keys = attention.q_norm(queries), attention.k_norm(keys)
        rope = kwargs.get("rope")
        if rope is not None:
            queries, keys = (self._rotate(x, rope).type_as(values) for x in (queries, keys))
        if keys.shape[1] < self.num_heads:  # several heads share their keys and values
            shared = self.num_heads // keys.shape[1]
            keys, values = (x.repeat_interleave(shared, dim=1) for x in (keys, values))
        return queries, keys, values

    def _rotate(self, x: Tensor, rope: Tensor) -> Tensor:
        """Rotate the patches of (B, H, T, d) by their positions; prefix tokens have none."""
        prefix = self.attention.num_prefix_tokens
        half = {"half": True} if getattr(self.attention, "rotate_half", False) else {}
        patches = apply_rot_embed_cat(x[:, :, prefix:], rope, **half)
        return torch.cat([x[:, :, :prefix], patches], dim=2)

    def add_attention(self, tokens: Tensor, attention: Tensor) -> Tensor:
        block = self.module
        if isinstance(block, EvaBlockPostNorm):
            return tokens + block.drop_path1(block.norm1(attention))
        scale = 1 if block.gamma_1 is None else block.gamma_1
        return tokens + block.drop_path1(scale * attention)

    def add_mlp(self, tokens: Tensor) -> Tensor:
        block = self.module
        if isinstance(block, EvaBlockPostNorm):
            return tokens + block.drop_path2(block.norm2(block.mlp(tokens)))
        scale = 1 if block.gamma_2 is None else block.gamma_2
        return tokens + block.drop_path2(scale * block.mlp(block.norm2(tokens)))

    def hide(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        yield from super().hide(hiding)
        if hiding.strategy != "drop":
            return

        def shorten_rope(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            """Kept patches keep their own angles: (N, d) or (H, N, d) -> (B, 1 or H, S, d)."""
            rope = kwargs.get("rope")
            if rope is None:
                return None
            prefix = self.attention.num_prefix_tokens
            index = (hiding.kept_index[:, prefix:] - prefix).to(rope.device)
            if rope.ndim == 2:
                rope = rope[None]
            return args, {**kwargs, "rope": rope[:, index].transpose(0, 1)}

        yield self.module.register_forward_pre_hook(shorten_rope, with_kwargs=True)


class _Pool(AttentionPool):
    """timm's AttentionPoolLatent."""

    module: AttentionPoolLatent
    mask_argument = "attn_mask"

    def __init__(self, module: AttentionPoolLatent, num_prefix_tokens: int) -> None:
        self.module = self.attention = module
        self.num_heads = module.num_heads
        self.num_prefix_tokens = num_prefix_tokens

    def project_qkv(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        pool, inputs = self.module, args[0]
        if pool.pos_embed is not None:
            inputs = inputs + pool.pos_embed.unsqueeze(0).to(inputs.dtype)
        probes = pool.q(pool.latent.expand(len(inputs), -1, -1))
        parts = (probes, *pool.kv(inputs).chunk(2, dim=-1))
        queries, keys, values = (split_heads(x, self.num_heads) for x in parts)
        return pool.q_norm(queries), pool.k_norm(keys), values

    def project_out(self, context: Tensor) -> Tensor:
        return self.module.proj_drop(self.module.proj(context))

    def pool(self, queries: Tensor) -> Tensor:
        return queries.mean(dim=1) if self.module.pool == "avg" else queries[:, 0]

    def put_out(self, projected: Tensor, output: Any) -> Any:
        pool = self.module
        if pool.mlp is not None:
            projected = projected + pool.mlp(pool.norm(projected))
        return self.pool(projected)


def _check_supported(trunk: Any) -> None:
    """Raise TypeError, with the reason, for a trunk whose patches cannot be hidden."""
    name = type(trunk).__name__

    def refuse(reason: str) -> None:
        raise TypeError(f"vision_tower: {name}: {reason}")

    for module in trunk.patch_embed.modules():
        if _mixes_patches(module):
            refuse(
                "its convolutional stem mixes the pixels of neighbouring patches: hiding a token "
                "would not hide its patch"
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
    """Whether a module's windows overlap, or reach over the patch they belong to."""
    if not hasattr(module, "kernel_size"):
        return False
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    padding = getattr(module, "padding", 0)
    return kernel != stride or (padding != "valid" and _pair(padding) != (0, 0))


def _pair(size: Any) -> tuple[Any, Any]:
    return tuple(size) if isinstance(size, (tuple, list)) else (size, size)
