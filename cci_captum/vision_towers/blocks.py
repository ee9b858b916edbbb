"""What every family's attention block must answer."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class AttentionBlock(ABC):
    """One attention block of a tower, in the terms of Vaswani et al. 2017.

    Attributes:
        module: The block: tokens in, tokens out.
        attention: Its attention module, which every pass calls once.
        num_heads: Heads of the attention.
    """

    module: nn.Module
    attention: nn.Module
    num_heads: int

    @abstractmethod
    def project_qkv(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, H, T, d), of what enters the attention, (B, T, D).

        Everything that comes before the dot product is done (norms of queries and keys).
        """

    @abstractmethod
    def project_out(self, context: Tensor) -> Tensor:
        """The attention's output projection, (B, T, D) -> (B, T, D)."""

    @abstractmethod
    def add_attention(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """The residual step: tokens plus the attention's projected output, both (B, T, D)."""

    @abstractmethod
    def add_mlp(self, tokens: Tensor) -> Tensor:
        """The block's second half, tokens + mlp(norm(tokens)), (B, T, D) -> (B, T, D)."""


def join_heads(x: Tensor) -> Tensor:
    """Put heads side by side: (B, H, T, d) -> (B, T, H * d)."""
    return x.transpose(1, 2).flatten(2)
