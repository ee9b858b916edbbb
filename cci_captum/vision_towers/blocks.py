"""What every family's attention must answer: in a block, and in an attention pool."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .hiding import Hiding
from .hooks import after, hide_keys, hook_input, key_bias


class AttentionLayer(ABC):
    """A layer with attention, in the terms of Vaswani et al. 2017.

    Attributes:
        module: The layer, called with all tokens, (B, T, D), as its first argument.
        attention: Its attention module, which every pass calls once.
        num_heads: Heads of the attention.
        unreadable: Why the projections below do not say what the attention computes; None
            where they do.
    """

    module: nn.Module
    attention: nn.Module
    num_heads: int
    unreadable: str | None = None

    @abstractmethod
    def project_qkv(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, Q, d), keys and values (B, H, T, d) as they enter the dot product.

        Everything that comes before it is done: norms of queries and keys, rotation.

        Args:
            args: What the attention was called with.
            kwargs: What the attention was called with by name.
        """

    @abstractmethod
    def project_out(self, context: Tensor) -> Tensor:
        """The attention's output projection, (B, Q, H * d) -> (B, Q, D)."""

    def put_out(self, projected: Tensor, output: Any) -> Any:
        """What `attention` would put out for this projected context; `output` is what it did."""
        return (projected, *output[1:]) if isinstance(output, tuple) else projected


class AttentionBlock(AttentionLayer):
    """One attention block of a tower: tokens in, tokens out, (B, T, D) -> (B, T, D)."""

    @abstractmethod
    def add_attention(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """The residual step: tokens plus the attention's projected output, both (B, T, D)."""

    @abstractmethod
    def add_mlp(self, tokens: Tensor) -> Tensor:
        """The block's second half, tokens + mlp(norm(tokens)), (B, T, D) -> (B, T, D)."""

    def hide(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """Register the hooks by which no query attends to a hidden key.

        This one lets the attention run and computes it once more, with the keys hidden: it
        serves any attention that the projections describe. Adapters override it where the
        attention takes a mask.
        """

        def attend(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
            mask = hiding.key_padding_mask
            if mask is None:
                return output
            queries, keys, values = self.project_qkv(*args, **kwargs)
            bias = key_bias(mask, queries)[:, None, None]
            context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
            return self.put_out(self.project_out(join_heads(context)), output)

        yield after(self.attention, attend, with_kwargs=True)


class AttentionPool(AttentionLayer):
    """A pool whose learned queries attend to the tokens of the last block (MAP head).

    Attributes:
        num_prefix_tokens: Tokens before the patches among those that the pool sees.
        mask_argument: The name of its attention's mask argument; see `hooks.hide_keys`.
    """

    num_prefix_tokens: int
    mask_argument: str

    def pool(self, queries: Tensor) -> Tensor:
        """The query that the image feature is read from, (B, Q, ...) -> (B, ...)."""
        return queries[:, 0]

    def hide(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """Register the hooks by which the pool does not attend to hidden patches.

        Where it has nothing left to attend to, it sees tokens of zeros.
        """
        prefix = self.num_prefix_tokens
        yield hook_input(self.module, lambda tokens: hiding.zero_hidden(tokens, prefix))
        yield hide_keys(self.attention, lambda: hiding.pool_mask(prefix), self.mask_argument)


class MultiheadPool(AttentionPool):
    """A pool around `nn.MultiheadAttention`, which is called with (queries, tokens, tokens).

    Args:
        module: The pool.
        attention: Its attention.
        num_prefix_tokens: See `AttentionPool`.
    """

    attention: nn.MultiheadAttention
    mask_argument = "key_padding_mask"

    def __init__(
        self, module: nn.Module, attention: nn.MultiheadAttention, num_prefix_tokens: int
    ) -> None:
        self.module = module
        self.attention = attention
        self.num_heads = attention.num_heads
        self.num_prefix_tokens = num_prefix_tokens
        self.unreadable = unread_projection(attention)

    def project_qkv(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """See `AttentionLayer.project_qkv`."""
        return multihead_qkv(self.attention, *args[:3])

    def project_out(self, context: Tensor) -> Tensor:
        """See `AttentionLayer.project_out`."""
        return self.attention.out_proj(context)


def unread_projection(attention: nn.MultiheadAttention) -> str | None:
    """Why the output projection is not what nn.MultiheadAttention computes with; None if it is.

    PyTorch reads out_proj's weight and never calls it: what LoRA adds there does not run.
    """
    if type(attention.out_proj).forward is nn.Linear.forward:
        return None
    return not_called(attention.out_proj, "out_proj", "PyTorch's MultiheadAttention")


def not_called(layer: nn.Module, name: str, caller: str) -> str:
    """The reason for `AttentionLayer.unreadable` where an attention takes a layer's weight alone.

    Args:
        layer: What stands in the place of a linear layer.
        name: Of the layer in the attention.
        caller: The attention, in words.
    """
    return (
        f"{caller} takes the weight of {name} and never calls it, so that "
        f"{type(layer).__module__.split('.')[0]}'s {type(layer).__name__} there does not run; "
        "explain a model into which it is merged (peft: model.merge_and_unload())"
    )


def multihead_qkv(
    attention: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, (B, H, T, d) each, of nn.MultiheadAttention, batch first."""
    if attention.in_proj_weight is None:
        weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
    else:
        weights = attention.in_proj_weight.chunk(3)
    bias = attention.in_proj_bias
    biases = (None, None, None) if bias is None else bias.chunk(3)
    queries, keys, values = (
        split_heads(F.linear(x, w, b), attention.num_heads)
        for x, w, b in zip((query, key, value), weights, biases, strict=True)
    )
    return queries, keys, values


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Put heads apart: (B, T, H * d) -> (B, H, T, d)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """Put heads side by side: (B, H, T, d) -> (B, T, H * d)."""
    return x.transpose(1, 2).flatten(2)
