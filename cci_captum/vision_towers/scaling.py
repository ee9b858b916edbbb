"""Attention to chosen patches weakened: the logits of their keys, multiplied."""

from __future__ import annotations

import torch
from torch import Tensor

from .hiding import Hiding
from .in_thread import InThread


class KeyScaling:
    """By what the logits of the current batch's keys are multiplied.

    Args:
        factors: (B, N) of the patches; prefix tokens keep their logits.
        from_minimum: Whether what is multiplied is a logit less the least of its query.

    Attributes:
        factors: (B, N), as given.
        from_minimum: As given.
        passes: How often the tower has run so far with these factors.
    """

    def __init__(self, factors: Tensor, from_minimum: bool) -> None:
        self.factors = factors
        self.from_minimum = from_minimum
        self.passes = 0

    def begin(self, grid: tuple[int, int]) -> None:
        """Count a pass, and refuse a patch grid that the factors were not made for.

        Args:
            grid: (h, w).

        Raises:
            ValueError: If it has another number of patches.
        """
        if self.factors.shape[1] != grid[0] * grid[1]:
            raise ValueError(
                f"factors: expected {grid[0] * grid[1]} patches an image, got shape "
                f"{tuple(self.factors.shape)}"
            )
        self.passes += 1

    def scale(self, logits: Tensor, hiding: Hiding | None) -> Tensor:
        """Logits (B, H, Q, prefix + N), those of the patches multiplied.

        Args:
            logits: Of all keys.
            hiding: What is hidden in the same pass.

        Raises:
            ValueError: If the batch has another size than the factors.
            RuntimeError: If anything is hidden: its logits would count in the least of a query.
        """
        if hiding is not None:
            raise RuntimeError(
                "hide: expected no scaled keys, got patches to hide inside `scale_keys`; a factor "
                "does not hide, and what is hidden has no factor"
            )
        if len(logits) != len(self.factors):
            raise ValueError(
                f"factors: expected {len(logits)} rows for this batch, got shape "
                f"{tuple(self.factors.shape)}"
            )
        factors = self.factors.to(logits)
        prefix = factors.new_ones(len(factors), logits.shape[-1] - factors.shape[1])
        if self.from_minimum:
            logits = logits - logits.amin(dim=-1, keepdim=True)
        return logits * torch.cat([prefix, factors], dim=1)[:, None, None]


SCALED = InThread[KeyScaling]()
"""By what keys are scaled now."""
