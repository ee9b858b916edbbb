"""Which patches are hidden, and how shortened sequences map back to the patch grid."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

HideStrategy = Literal["mask", "drop"]


class Hiding:
    """Which patches of the current batch are hidden, and how tokens map back to the grid.

    Args:
        mask: (B, N) bool, True where the patch is hidden.
        num_prefix_tokens: Tokens before the patches; they are never hidden.
        strategy: "mask" keeps the sequence as it is; "drop" shortens it to the kept tokens.

    Attributes:
        passes: How often the tower has run so far with these patches hidden.
    """

    def __init__(self, mask: Tensor, num_prefix_tokens: int, strategy: HideStrategy) -> None:
        self.strategy = strategy
        self.passes = 0
        prefix = mask.new_zeros(mask.shape[0], num_prefix_tokens)
        self.mask = mask
        self.token_mask = torch.cat([prefix, mask], dim=1)  # (B, prefix + N)
        if strategy == "drop":
            kept = (~self.token_mask).sum(dim=1)  # (B,)
            # A stable sort of the mask lists each row's kept tokens first, in raster order.
            order = self.token_mask.to(torch.uint8).argsort(dim=1, stable=True)
            longest = int(kept.max()) if len(kept) else 0
            self.kept_index = order[:, :longest]
            padding = torch.arange(longest, device=mask.device) >= kept[:, None]
            self.padding: Tensor | None = padding if bool(padding.any()) else None

    @property
    def key_padding_mask(self) -> Tensor | None:
        """(B, S) bool over the sequence as the blocks see it, True where no query may look."""
        return self.token_mask if self.strategy == "mask" else self.padding

    def begin(self, tokens: Tensor) -> None:
        """Count a pass, and refuse a batch that the mask was not made for.

        Args:
            tokens: (B, prefix + N, D) tokens before the first block.

        Raises:
            ValueError: If batch size or number of tokens differ from the mask's.
        """
        if tuple(tokens.shape[:2]) != tuple(self.token_mask.shape):
            prefix = self.token_mask.shape[1] - self.mask.shape[1]
            raise ValueError(
                f"mask: expected shape {(tokens.shape[0], tokens.shape[1] - prefix)} for this "
                f"batch (images, patches), got {tuple(self.mask.shape)}"
            )
        self.passes += 1

    def shorten(self, tokens: Tensor) -> Tensor:
        """Gather the kept tokens: (B, prefix + N, D) -> (B, S, D), S the most kept in a row."""
        index = self.kept_index.to(tokens.device)[..., None].expand(-1, -1, tokens.shape[-1])
        return tokens.gather(1, index)

    def restore(self, tokens: Tensor) -> Tensor:
        """Put a block's tokens (B, S, D) back: (B, prefix + N, D), zero where hidden."""
        if self.strategy == "drop":
            index = self.kept_index.to(tokens.device)[..., None].expand(-1, -1, tokens.shape[-1])
            full = tokens.new_zeros(*self.token_mask.shape, tokens.shape[-1])
            tokens = full.scatter(1, index, tokens)
        return self.zero_hidden(tokens)

    def zero_hidden(self, tokens: Tensor) -> Tensor:
        """Zero the hidden tokens of (B, prefix + N, D)."""
        return tokens.masked_fill(self.token_mask.to(tokens.device)[..., None], 0.0)
