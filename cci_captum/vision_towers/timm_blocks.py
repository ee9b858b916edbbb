"""Attention of timm's VisionTransformer and Eva: blocks and attention pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from timm.layers import AttentionPoolLatent
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.eva import EvaBlockPostNorm
from timm.models.vision_transformer import ResPostBlock
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .blocks import AttentionBlock, AttentionPool, not_called, split_heads
from .hiding import Hiding
from .hooks import before, hide_keys


class TimmBlock(AttentionBlock):
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
        """See `AttentionLayer.project_qkv`."""
        attention, inputs = self.attention, args[0]
        joined = attention.qkv(inputs)
        queries, keys, values = (split_heads(x, self.num_heads) for x in joined.chunk(3, dim=-1))
        return attention.q_norm(queries), attention.k_norm(keys), values

    def project_out(self, context: Tensor) -> Tensor:
        """See `AttentionLayer.project_out`."""
        return self.attention.proj_drop(self.attention.proj(self.attention.norm(context)))

    def add_attention(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """See `AttentionBlock.add_attention`."""
        block = self.module
        if isinstance(block, ResPostBlock):
            return tokens + block.drop_path1(block.norm1(attention))
        return tokens + block.drop_path1(block.ls1(attention))

    def add_mlp(self, tokens: Tensor) -> Tensor:
        """See `AttentionBlock.add_mlp`."""
        block = self.module
        if isinstance(block, ResPostBlock):
            return tokens + block.drop_path2(block.norm2(block.mlp(tokens)))
        return tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))

    def hide(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """See `AttentionBlock.hide`."""
        yield hide_keys(self.attention, lambda: hiding.key_padding_mask, "attn_mask")


class TimmEvaBlock(TimmBlock):
    """timm's EvaBlock and EvaBlockPostNorm, with rotary positions or without."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        qkv = self.attention.qkv
        if self._adds_bias() and type(qkv).forward is not nn.Linear.forward:
            self.unreadable = not_called(qkv, "qkv", "timm's EvaAttention")

    def _adds_bias(self) -> bool:
        """Whether the weight of qkv and biases of its own are taken, and qkv is not called."""
        attention = self.attention
        own = attention.qkv is not None and getattr(attention, "q_bias", None) is not None
        return own and not getattr(attention, "qkv_bias_separate", False)

    def project_qkv(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """See `AttentionLayer.project_qkv`."""
        attention, inputs = self.attention, args[0]
        parts: Sequence[Tensor]
        if attention.qkv is None:
            parts = (attention.q_proj(inputs), attention.k_proj(inputs), attention.v_proj(inputs))
        else:
            bias = None
            if getattr(attention, "q_bias", None) is not None:
                bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
            if self._adds_bias():
                joined = nn.functional.linear(inputs, attention.qkv.weight, bias)
            else:
                joined = attention.qkv(inputs)
                joined = joined if bias is None else joined + bias
            parts = joined.chunk(3, dim=-1)
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
        """See `AttentionBlock.add_attention`."""
        block = self.module
        if isinstance(block, EvaBlockPostNorm):
            return tokens + block.drop_path1(block.norm1(attention))
        scale = 1 if block.gamma_1 is None else block.gamma_1
        return tokens + block.drop_path1(scale * attention)

    def add_mlp(self, tokens: Tensor) -> Tensor:
        """See `AttentionBlock.add_mlp`."""
        block = self.module
        if isinstance(block, EvaBlockPostNorm):
            return tokens + block.drop_path2(block.norm2(block.mlp(tokens)))
        scale = 1 if block.gamma_2 is None else block.gamma_2
        return tokens + block.drop_path2(scale * block.mlp(block.norm2(tokens)))

    def hide(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """See `AttentionBlock.hide`."""
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

        yield before(self.module, shorten_rope, with_kwargs=True)


class TimmPool(AttentionPool):
    """timm's AttentionPoolLatent."""

    module: AttentionPoolLatent
    mask_argument = "attn_mask"

    def __init__(self, module: AttentionPoolLatent, num_prefix_tokens: int) -> None:
        self.module = self.attention = module
        self.num_heads = module.num_heads
        self.num_prefix_tokens = num_prefix_tokens

    def project_qkv(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """See `AttentionLayer.project_qkv`."""
        pool, inputs = self.module, args[0]
        if pool.pos_embed is not None:
            inputs = inputs + pool.pos_embed.unsqueeze(0).to(inputs.dtype)
        probes = pool.q(pool.latent.expand(len(inputs), -1, -1))
        parts = (probes, *pool.kv(inputs).chunk(2, dim=-1))
        queries, keys, values = (split_heads(x, self.num_heads) for x in parts)
        return pool.q_norm(queries), pool.k_norm(keys), values

    def project_out(self, context: Tensor) -> Tensor:
        """See `AttentionLayer.project_out`."""
        return self.module.proj_drop(self.module.proj(context))

    def pool(self, queries: Tensor) -> Tensor:
        """See `AttentionPool.pool`."""
        return queries.mean(dim=1) if self.module.pool == "avg" else queries[:, 0]

    def put_out(self, projected: Tensor, output: Any) -> Any:
        """See `AttentionLayer.put_out`."""
        pool = self.module
        if pool.mlp is not None:
            projected = projected + pool.mlp(pool.norm(projected))
        return self.pool(projected)
