"""Adapter for open_clip's own VisionTransformer (OpenAI, LAION, DataComp, DFN, CLIPA, CoCa...).

Class-token, average and attentional pooling, final norm before or after the pool, any patch
size, non-square grids, and both of open_clip's block types.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from open_clip.transformer import (
    Attention,
    CustomResidualAttentionBlock,
    ResidualAttentionBlock,
    VisionTransformer,
)
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .base import VisionTower
from .blocks import AttentionBlock, MultiheadPool, multihead_qkv, split_heads, unread_projection
from .hiding import Hiding
from .hooks import hide_keys, hook_output, skip
from .layout import READ_BY_POOL, check_as_released, refuse_part

_BLOCKS = (ResidualAttentionBlock, CustomResidualAttentionBlock)
_ATTENTIONS = (nn.MultiheadAttention, Attention)


class OpenCLIPVisionTower(VisionTower):
    """`open_clip.transformer.VisionTransformer`: one class token, then the patches."""

    num_prefix_tokens = 1
    module: VisionTransformer

    def __init__(self, module: VisionTransformer) -> None:
        if module.attn_pool is None and module.pool_type not in ("tok", "avg"):
            raise TypeError(
                "vision_tower: expected an open_clip VisionTransformer with pool_type 'tok' or "
                f"'avg', got pool_type {module.pool_type!r}, which gives no image feature"
            )
        check_as_released(module, "open_clip", ("forward", "_embeds", "_pool", "_global_pool"))
        for block in module.transformer.resblocks:
            for part, known in ((block, _BLOCKS), (block.attn, _ATTENTIONS)):
                if type(part) not in known:
                    refuse_part(part, "a block of VisionTransformer", "open_clip's")
        super().__init__(module)
        for pool in (module.attn_pool, getattr(module, "attn_pool_contrastive", None)):
            if pool is not None and type(pool.attn) is not nn.MultiheadAttention:
                refuse_part(pool.attn, "the attention pool", "open_clip's")
        if module.attn_pool is not None:
            self.unprojectable = READ_BY_POOL

    @staticmethod
    def matches(module: nn.Module) -> bool:
        """Whether `module` is open_clip's VisionTransformer."""
        return isinstance(module, VisionTransformer)

    @property
    def blocks(self) -> Sequence[AttentionBlock]:
        """See `TowerLayout.blocks`."""
        return [_Block(block) for block in self.module.transformer.resblocks]

    @property
    def attention_pool(self) -> MultiheadPool | None:
        """CoCa's pool, or the one of its two that image features come from."""
        if self.module.attn_pool is None:
            return None
        return _Pool(self.module)

    @property
    def entry(self) -> nn.Module:
        """The patch embedding; see `TowerLayout.entry`."""
        return self.module.conv1

    @property
    def input_module(self) -> nn.Module:
        """The norm before the blocks; see `TowerLayout.input_module`."""
        return self.module.ln_pre

    @property
    def patch_size(self) -> tuple[int, int]:
        """See `TowerLayout.patch_size`."""
        return self.module.patch_size

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid (h, w); see `TowerLayout.grid_of`."""
        patch_height, patch_width = self.patch_size
        h, w = height // patch_height, width // patch_width
        expected_h, expected_w = self.module.grid_size
        if (h, w) != (expected_h, expected_w):
            raise ValueError(
                f"images: expected height x width {expected_h * patch_height} x "
                f"{expected_w * patch_width}, the size of the model's positional embedding, got "
                f"{height} x {width}"
            )
        return h, w

    def pool(self, tokens: Tensor) -> Tensor:
        """The class token, or the mean of the patches; see `TowerLayout.pool`."""
        return _global_pool(tokens, self.module.pool_type)

    def project(self, tokens: Tensor) -> Tensor:
        """The final norm and the projection; see `TowerLayout.project`."""
        self.check_projection()
        # .forward, not a call: the final norm may carry the hooks that hide.
        return self._into_joint_space(self.module.ln_post.forward(tokens))

    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature; see `TowerLayout.read_out`."""
        module, norm = self.module, self.module.ln_post.forward
        if module.attn_pool is None and module.final_ln_after_pool:
            return self._into_joint_space(norm(self.pool(tokens)))
        if module.attn_pool is None:
            return self._into_joint_space(self.pool(norm(tokens)))
        if module.attn_pool_contrastive is None:
            return self._into_joint_space(self.pool(norm(module.attn_pool(tokens))))
        tokens = norm(tokens)
        if module.attn_pool_type == "cascade":
            tokens = module.attn_pool(tokens)
        return self._into_joint_space(module.attn_pool_contrastive(tokens)[:, 0])

    def _into_joint_space(self, features: Tensor) -> Tensor:
        return features if self.module.proj is None else features @ self.module.proj

    def hide_in_read_out(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """See `TowerLayout.hide_in_read_out`."""
        module, last = self.module, self.module.transformer.resblocks[-1]
        if hiding.strategy == "drop":
            yield hook_output(last, hiding.restore)
        if module.attn_pool is not None:
            yield from MultiheadPool(module.attn_pool, module.attn_pool.attn, 1).hide(hiding)
            if module.attn_pool_contrastive is not None and module.attn_pool_type == "parallel":
                pool = module.attn_pool_contrastive
                yield from MultiheadPool(pool, pool.attn, 1).hide(hiding)
        else:
            # What averages patches, the pool or the caller, averages what the final norm (or,
            # where the norm comes after the pool, the last block) puts out.
            averaged = last if module.final_ln_after_pool else module.ln_post
            yield hook_output(averaged, hiding.average_kept)

    def keep_every_patch(self) -> Iterator[RemovableHandle]:
        """See `TowerLayout.keep_every_patch`."""
        yield skip(self.module.patch_dropout)


class _Block(AttentionBlock):
    """open_clip's ResidualAttentionBlock and CustomResidualAttentionBlock."""

    module: Any
    attention: Any

    def __init__(self, module: Any) -> None:
        self.module = module
        self.attention = module.attn
        self.num_heads = module.attn.num_heads
        if isinstance(self.attention, nn.MultiheadAttention):
            self.unreadable = unread_projection(self.attention)

    def project_qkv(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        if not isinstance(self.attention, Attention):
            return multihead_qkv(self.attention, *args[:3])
        joined = nn.functional.linear(
            args[0], self.attention.in_proj_weight, self.attention.in_proj_bias
        )
        queries, keys, values = (split_heads(x, self.num_heads) for x in joined.chunk(3, dim=-1))
        return self.attention.ln_q(queries), self.attention.ln_k(keys), values

    def project_out(self, context: Tensor) -> Tensor:
        if isinstance(self.attention, Attention):
            if self.attention.head_scale is not None:
                heads = context.unflatten(-1, (self.num_heads, -1))
                context = (heads * self.attention.head_scale.view(-1, 1)).flatten(-2)
            context = self.attention.ln_inner(context)
        return self.attention.out_proj(context)

    def add_attention(self, tokens: Tensor, attention: Tensor) -> Tensor:
        if isinstance(self.module, CustomResidualAttentionBlock):
            attention = self.module.ln_attn(attention)
        return tokens + self.module.ls_1(attention)

    def add_mlp(self, tokens: Tensor) -> Tensor:
        return tokens + self.module.ls_2(self.module.mlp(self.module.ln_2(tokens)))

    def hide(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        own = isinstance(self.attention, Attention)
        argument = "attn_mask" if own else "key_padding_mask"
        yield hide_keys(self.attention, lambda: hiding.key_padding_mask, argument)


class _Pool(MultiheadPool):
    """CoCa's attentional pooling, as the image feature is read from it."""

    def __init__(self, module: VisionTransformer) -> None:
        pool = module.attn_pool
        self._pool_type = module.pool_type
        reason = None
        if module.attn_pool_contrastive is not None:
            if module.attn_pool_type == "cascade":
                reason = (
                    "the image feature is read through two attention pools, one after the other"
                )
            else:
                pool = module.attn_pool_contrastive
            self._pool_type = "tok"  # its only query
        super().__init__(pool, pool.attn, num_prefix_tokens=1)
        self.unreadable = reason or self.unreadable

    def pool(self, queries: Tensor) -> Tensor:
        return _global_pool(queries, self._pool_type)


def _global_pool(tokens: Tensor, pool_type: str) -> Tensor:
    """open_clip's pool of (B, T, ...): the first token, or the mean of the others."""
    return tokens[:, 0] if pool_type == "tok" else tokens[:, 1:].mean(dim=1)
