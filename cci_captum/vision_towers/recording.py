"""What one forward pass of a tower leaves behind: patch tokens, or the attention of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .blocks import AttentionLayer
from .hooks import first_output


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
        all_tokens: (B, T, D) all tokens of the layer as what follows it sees them; with
            `requires_grad` the leaf that gradients flow to.
        grid: (h, w), the patch grid of the images that the tower itself received.

    Raises:
        RuntimeError: On reading before the tower ran, or when it runs twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tokens: Tensor | None = None
        self._all_tokens: Tensor | None = None

    @property
    def tokens(self) -> Tensor:
        """(B, h * w, D) patch tokens."""
        return _recorded(self._tokens)

    @property
    def all_tokens(self) -> Tensor:
        """(B, T, D) all tokens."""
        return _recorded(self._all_tokens)

    def _set_tokens(self, tokens: Tensor, all_tokens: Tensor) -> None:
        self._tokens = tokens.detach().clone()  # blocks may write to what they were given
        self._all_tokens = all_tokens


@dataclass(eq=False)
class BlockAttention:
    """What the attention of one block, or of the attention pool, computed in one forward pass.

    T counts the tokens that are looked at, prefix tokens first, and Q the queries: in a block
    Q = T, in a pool the learned queries. H is the number of heads, 1 where the attention was
    computed with a single head, and d = D / H the width of a head.

    Attributes:
        block: The block or pool itself.
        tokens: (B, T, D) what entered it, before its norm.
        queries: (B, H, Q, d) as they enter the dot product.
        keys: (B, H, T, d) as they enter the dot product.
        values: (B, H, T, d).
        probabilities: (B, H, Q, T) attention of query (third dimension) to key, at least float32.
        context: (B, Q, D) weighted sums of the values, head after head, before the output
            projection.
    """

    block: AttentionLayer
    tokens: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor
    probabilities: Tensor
    context: Tensor
    _pool: Callable[[Tensor], Tensor]
    _num_prefix_tokens: int
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def pool(self, queries: Tensor) -> Tensor:
        """What the image feature is read out from: (B, Q, ...) -> (B, ...)."""
        return self._pool(queries)

    def patches(self, keys: Tensor) -> Tensor:
        """Without the prefix tokens: (B, T, ...) -> (B, h * w, ...)."""
        return keys[:, self._num_prefix_tokens :]

    def run(self, tokens: Tensor) -> Tensor:
        """The block on other tokens, (n, T, D) -> (n, T, D), with all else as it was called."""
        args, kwargs = self._arguments
        return first_output(self.block.module(tokens, *args, **kwargs))


class AttentionRecording(_Recording):
    """The attention of one forward pass, filled in by `VisionTower.record_attention`.

    Attributes:
        blocks: One `BlockAttention` for each block asked for, in that order.
        pool: The attention pool's `BlockAttention`; None where there is none, or it was not asked
            for.
        last: The attention that the image feature is read from: the pool's where it was
            recorded, else that of the last block asked for.
        grid: (h, w), the patch grid of the images that the tower itself received.

    Raises:
        RuntimeError: On reading before the tower ran, or when it runs twice.
    """

    def __init__(self, indices: Sequence[int], pool: bool) -> None:
        super().__init__()
        self._indices = indices
        self._with_pool = pool
        self._recorded: dict[int | None, BlockAttention] = {}  # None is the pool

    @property
    def blocks(self) -> list[BlockAttention]:
        """The recorded blocks."""
        return [_recorded(self._recorded.get(index)) for index in self._indices]

    @property
    def pool(self) -> BlockAttention | None:
        """The recorded attention pool."""
        return _recorded(self._recorded.get(None)) if self._with_pool else None

    @property
    def last(self) -> BlockAttention:
        """The attention that the image feature is read from: the pool's, or the last block's."""
        return self.pool or self.blocks[-1]


def _recorded(value: Any) -> Any:
    if value is None:
        raise RuntimeError(
            "nothing was recorded: forward_func did not run the vision tower (in the same thread); "
            "pass the vision_tower that forward_func calls"
        )
    return value
