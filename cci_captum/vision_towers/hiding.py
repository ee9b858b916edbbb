"""Which patches are hidden, and how shortened sequences map back to the patch grid."""

from __future__ import annotations

from collections.abc import Callable
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
        mask: (B, N) bool, as given.
        token_mask: (B, prefix + N) bool, the same for all tokens.
        key_padding_mask: (B, S) over the sequence as the blocks see it: bool, True where no query
            may look, or under a gate what is added to the logits of each key; None where all may
            be looked at. A row in which nothing is kept looks everywhere: attention to nothing
            has no value, and what comes of that row is thrown away by the read-out.
        passes: How often the tower has run so far with these patches hidden.
        replace: None, or a function that all tokens go through before the first block,
            (B, prefix + N, D) -> the same shape. For checks.
        copies: Whether `average_kept` fills hidden places with copies of kept tokens in turn,
            in place of their mean. Where each kept token stands equally often, any average of
            any function of single tokens is then that of the kept ones. For checks.
    """

    key_padding_mask: Tensor | None
    replace: Callable[[Tensor], Tensor] | None = None
    copies: bool = False

    def __init__(self, mask: Tensor, num_prefix_tokens: int, strategy: HideStrategy) -> None:
        self.strategy = strategy
        self.passes = 0
        self.mask = mask
        self.token_mask = self._with_prefix(num_prefix_tokens)
        if strategy == "mask":
            self.key_padding_mask = _unless_all(self.token_mask)
            return
        kept = (~self.token_mask).sum(dim=1)  # (B,)
        # A stable sort of the mask lists each row's kept tokens first, in raster order.
        order = self.token_mask.to(torch.uint8).argsort(dim=1, stable=True)
        longest = max(1, int(kept.max())) if len(kept) else 0
        self.kept_index = order[:, :longest]
        padding = torch.arange(longest, device=mask.device) >= kept[:, None]
        self.key_padding_mask = _unless_all(padding) if bool(padding.any()) else None

    def enter(self, tokens: Tensor) -> Tensor:
        """What the first block sees of the tokens that reach it.

        Args:
            tokens: (B, prefix + N, D).

        Raises:
            ValueError: See `begin`.
        """
        self.begin(tokens)
        if self.replace is not None:
            tokens = self.replace(tokens)
        return self.shorten(tokens) if self.strategy == "drop" else tokens

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

    def zero_hidden(self, tokens: Tensor, num_prefix_tokens: int | None = None) -> Tensor:
        """Zero the hidden tokens of (B, prefix + N, D).

        Args:
            tokens: All tokens.
            num_prefix_tokens: How many of them come before the patches; None is all the
                tower's.
        """
        prefix = num_prefix_tokens
        mask = self.token_mask if prefix is None else self._with_prefix(prefix)
        return tokens.masked_fill(mask.to(tokens.device)[..., None], 0.0)

    def average_kept(self, tokens: Tensor, *, include_prefix: bool = False) -> Tensor:
        """Give hidden patches the mean of the kept ones.

        The mean over all is then the mean over the kept, and so is the maximum. Where nothing
        is kept, the mean is the zero vector.

        Args:
            tokens: (B, prefix + N, D).
            include_prefix: Whether prefix tokens are averaged too.
        """
        hidden = self.mask.to(tokens.device)[..., None]
        prefix, patches = tokens.split([tokens.shape[1] - hidden.shape[1], hidden.shape[1]], dim=1)
        if self.copies and not include_prefix:
            return torch.cat([prefix, self._copied(patches)], dim=1)
        kept = patches.masked_fill(hidden, 0.0)
        wide = torch.promote_types(tokens.dtype, torch.float32)
        total = kept.sum(dim=1, keepdim=True, dtype=wide)
        count = (~hidden).sum(dim=1, keepdim=True)
        if include_prefix:
            total = total + prefix.sum(dim=1, keepdim=True, dtype=wide)
            count = count + prefix.shape[1]
        mean = total / count.clamp(min=1)
        return torch.cat([prefix, torch.where(hidden, mean.to(tokens.dtype), kept)], dim=1)

    def _copied(self, patches: Tensor) -> Tensor:
        """Patches (B, N, D), the hidden ones copies of the kept ones, in turn."""
        rows = []
        for row, hidden in zip(patches, self.mask.to(patches.device), strict=True):
            (kept,) = (~hidden).nonzero(as_tuple=True)
            index = torch.arange(len(hidden), device=hidden.device)
            index[hidden] = kept.repeat(len(hidden))[: int(hidden.sum())]
            rows.append(row[index])
        return torch.stack(rows)

    def pool_mask(self, num_prefix_tokens: int) -> Tensor:
        """(B, prefix + N), where an attention pool may not look; see `key_padding_mask`.

        Args:
            num_prefix_tokens: Tokens before the patches among those that the pool sees.
        """
        return _unless_all(self._with_prefix(num_prefix_tokens))

    def _with_prefix(self, num_prefix_tokens: int) -> Tensor:
        """(B, prefix + N) bool, the mask of patches after so many tokens that are kept."""
        prefix = self.mask.new_zeros(self.mask.shape[0], num_prefix_tokens)
        return torch.cat([prefix, self.mask], dim=1)


def _unless_all(mask: Tensor) -> Tensor:
    """(B, S) bool, False in rows where everything is True."""
    return mask & ~mask.all(dim=1, keepdim=True)
