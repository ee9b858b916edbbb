"""What one forward pass of a tower leaves behind: patch tokens, or the attention of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .blocks import AttentionBlock


class _Recording:
    """What one forward pass leaves behind; filled in while its context is active."""

    def __init__(self) -> None:
        self._grid: tuple[int, int] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the patch grid."""
        return _recorded(self._grid)

    def _enter(self, grid: tuple[int, int]) -> None:
        """Note that the tower starts a pass on images of this patch grid."""
        if self._grid is not None:
            raise RuntimeError(
                "the vision tower ran more than once in one call of forward_func; "
                "expected exactly one pass over the whole batch"
            )
        self._grid = grid


class TokenRecording(_Recording):
    """The patch tokens of one forward pass, filled in while `VisionTower.record` is active.

    Attributes:
        tokens: (B, h * w, D) patch tokens in raster order, prefix tokens left out, detached.
        grid: (h, w), the patch grid of the images that the tower itself received.

    Raises:
        RuntimeError: On reading before the tower ran, or when it runs twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tokens: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """(B, h * w, D) patch tokens."""
        return _recorded(self._tokens)

    def _set_tokens(self, tokens: Tensor) -> None:
        self._tokens = tokens.detach()


@dataclass(eq=False)
class BlockAttention:
    """What the attention of one block computed in one forward pass.

    T counts every token, prefix tokens first; H is the number of heads, 1 where the block was
    computed with a single head, and d = D / H the width of a head.

    Attributes:
        block: The block itself.
        tokens: (B, T, D) what entered the block, before its norm.
        queries: (B, H, T, d) as they enter the dot product.
        keys: (B, H, T, d) as they enter the dot product.
        values: (B, H, T, d).
        probabilities: (B, H, T, T) attention of query (third dimension) to key, at least float32.
        context: (B, T, D) weighted sums of the values, head after head, before the output
            projection.
    """

    block: AttentionBlock
    tokens: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor
    probabilities: Tensor
    context: Tensor


class AttentionRecording(_Recording):
    """The attention of one forward pass, filled in by `VisionTower.record_attention`.

    Attributes:
        blocks: One `BlockAttention` for each block asked for, in that order.
        grid: (h, w), the patch grid of the images that the tower itself received.

    Raises:
        RuntimeError: On reading before the tower ran, or when it runs twice.
    """

    def __init__(self, indices: Sequence[int]) -> None:
        super().__init__()
        self._indices = indices
        self._blocks: dict[int, BlockAttention] = {}

    @property
    def blocks(self) -> list[BlockAttention]:
        """The recorded blocks."""
        return [_recorded(self._blocks.get(index)) for index in self._indices]


def _recorded(value: Any) -> Any:
    if value is None:
        raise RuntimeError(
            "nothing was recorded: forward_func did not run the vision tower; "
            "pass the vision_tower that forward_func calls"
        )
    return value
