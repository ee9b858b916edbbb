"""Derivatives of a score with respect to what a tower recorded or gated."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gradients(scores: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Derivatives of each image's score with respect to its rows, at least float32.

    Args:
        scores: (B,) scores; score b depends on row b alone, as in any model without batch
            statistics.
        tensors: Tensors of B rows that the scores were computed from.

    Returns:
        One gradient a tensor, of its shape; zero where the scores were computed from it and do not
        depend on it.

    Raises:
        RuntimeError: If no gradient reaches the scores, or one of the tensors.

    Example:
        >>> import torch
        >>> from cci_captum.attribution import gradients
        >>> tokens = torch.ones(2, 3, requires_grad=True)
        >>> (slopes,) = gradients((tokens**2).sum(dim=1), [tokens])
        >>> slopes.tolist()
        [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """
    found = torch.autograd.grad(differentiable(scores).sum(), tensors, allow_unused=True)
    if any(gradient is None for gradient in found):
        raise RuntimeError(
            "forward_func: its output was not computed from what the vision tower recorded or "
            "gated, as far as autograd knows: no gradient arrives there; expected no detached or "
            "quantised layers"
        )
    return [gradient.to(torch.promote_types(gradient.dtype, torch.float32)) for gradient in found]


def differentiable(scores: Tensor) -> Tensor:
    """The scores themselves, or RuntimeError if no gradient reaches them."""
    if not scores.requires_grad:
        raise RuntimeError(
            "forward_func: no gradient flows from the vision tower to its output; expected it "
            "not to detach what the tower returns, nor to compute with it under torch.no_grad or "
            "in quantised layers"
        )
    return scores
