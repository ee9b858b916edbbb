"""How much each patch contributes: gates between hidden and as it is, differentiable."""

from __future__ import annotations

from numbers import Real
from typing import Any

import torch
from torch import Tensor

from .._checks import check_fraction
from .hiding import Hiding
from .hooks import begin_graph


class Gating(Hiding):
    """The gates of the current batch's patches, and what they do to attention and averages.

    Args:
        gates: (B, N) from 0 to 1, or one number for all, from which gates are made in the pass.
        num_prefix_tokens: Tokens before the patches; their gate is 1.
        attention_pool: Whether an attention pool reads the image feature out, so that no average
            of the tower's own does.

    Attributes:
        requires_grad: Whether gradients flow to the gates.
        passes: How often the tower has run so far with these gates.
    """

    strategy = "mask"

    def __init__(self, gates: Tensor | float, num_prefix_tokens: int, attention_pool: bool) -> None:
        self._gates: Tensor | None = None
        self._of_all: float | None = None  # from which gates are made in a pass
        self._num_prefix_tokens = num_prefix_tokens
        self._attention_pool = attention_pool
        self._grid: tuple[int, int] | None = None
        self.passes = 0
        if isinstance(gates, Tensor):
            self.requires_grad = gates.requires_grad
            self._set_gates(gates)
        else:
            self.requires_grad, self._of_all = True, float(gates)

    def _set_gates(self, gates: Tensor) -> None:
        self._gates = gates
        self.mask = gates.detach() == 0
        self.token_mask = self._with_prefix(self._num_prefix_tokens)

    @property
    def gates(self) -> Tensor:
        """(B, h * w) the gates; RuntimeError where they are made in a pass and none ran yet."""
        return _of_a_pass(self._gates)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the patch grid; RuntimeError if no pass ran yet."""
        return _of_a_pass(self._grid)

    def _enter(self, grid: tuple[int, int]) -> None:
        """Note that the tower starts a pass on images of this patch grid."""
        if self._of_all is not None and self._gates is not None:
            raise RuntimeError(
                "the vision tower ran more than once in one gate that makes the gates of a pass; "
                "expected exactly one pass over the whole batch, or gates as a tensor"
            )
        self._grid = grid

    def enter(self, tokens: Tensor) -> Tensor:
        """See `Hiding.enter`; where the gates require gradients, the graph begins here."""
        return super().enter(begin_graph(tokens) if self.requires_grad else tokens)

    def begin(self, tokens: Tensor) -> None:
        """Count a pass, and refuse a batch that the gates were not made for.

        Args:
            tokens: (B, prefix + N, D) tokens before the first block.

        Raises:
            ValueError: If batch size or number of tokens differ from the gates'.
        """
        gates = self._fitting(tokens).to(tokens.device)
        self._weights = gates.to(torch.promote_types(gates.dtype, torch.float32))
        self._log = self._weights.log()  # anew in each pass, which then has a graph of its own
        self.key_padding_mask = self.pool_mask(self._num_prefix_tokens)
        self.passes += 1

    def _fitting(self, tokens: Tensor) -> Tensor:
        """The gates of a batch with these tokens, (B, prefix + N, D); see `begin`."""
        expected = (tokens.shape[0], tokens.shape[1] - self._num_prefix_tokens)
        if self._gates is None and self._of_all is not None:
            wide = torch.promote_types(tokens.dtype, torch.float32)
            gates = tokens.new_full(expected, self._of_all, dtype=wide, requires_grad=True)
            self._set_gates(gates)
        if tuple(self.gates.shape) != expected:
            raise ValueError(
                f"gates: expected shape {expected} for this batch (images, patches), got "
                f"{tuple(self.gates.shape)}"
            )
        return self.gates

    def zero_hidden(self, tokens: Tensor, num_prefix_tokens: int | None = None) -> Tensor:
        """See `Hiding.zero_hidden`; it may be asked before the first block."""
        if num_prefix_tokens is None:
            self._fitting(tokens)
        return super().zero_hidden(tokens, num_prefix_tokens)

    def average_kept(self, tokens: Tensor, *, include_prefix: bool = False) -> Tensor:
        """Draw patches x_j towards their weighted mean: m_j x_j + (1 - m_j) mean.

        With mean = sum_j m_j x_j / sum_j m_j, the mean over all is then the weighted one. A maximum
        over all, where a model takes it, is of tokens that have their own value at a gate of 1
        and can no longer be the highest at 0, as hidden ones. Where all gates are 0, the mean is
        the zero vector. Before an attention pool, which has the gates on its keys, patches stay as
        they are, but for those with a gate of 0, which are the mean of the others.

        Args:
            tokens: (B, prefix + N, D).
            include_prefix: Whether prefix tokens are averaged too, with weight 1.
        """
        wide = torch.promote_types(tokens.dtype, self._weights.dtype)
        hidden = self.mask.to(tokens.device)[..., None]
        weights = ~hidden if self._attention_pool else self._weights.to(tokens.device)[..., None]
        weights = weights.to(wide)
        prefix, patches = tokens.split([tokens.shape[1] - hidden.shape[1], hidden.shape[1]], dim=1)
        kept = patches.masked_fill(hidden, 0.0).to(wide)
        total = (weights * kept).sum(dim=1, keepdim=True)
        count = weights.sum(dim=1, keepdim=True)
        if include_prefix:
            total = total + prefix.sum(dim=1, keepdim=True, dtype=wide)
            count = count + prefix.shape[1]
        mean = total / torch.where(count == 0, 1.0, count)
        drawn = torch.lerp(mean.expand_as(kept), kept, weights.expand_as(kept))
        return torch.cat([prefix, drawn.to(tokens.dtype)], dim=1)

    def pool_mask(self, num_prefix_tokens: int) -> Tensor:
        """(B, prefix + N), log m, what is added to the logits of each key; 0 where all are -inf."""
        bias = self._log
        if num_prefix_tokens:
            return torch.cat([bias.new_zeros(len(bias), num_prefix_tokens), bias], dim=1)
        return bias.masked_fill(self.mask.all(dim=1, keepdim=True), 0.0)


def check_gates(gates: Any) -> None:
    """Raise TypeError or ValueError unless these are gates, or one number for all of them."""
    number = isinstance(gates, Real) and not isinstance(gates, bool)
    if torch.is_inference_mode_enabled() and (number or getattr(gates, "requires_grad", False)):
        raise RuntimeError(
            "gates: expected none that require gradients in inference mode, where there are none"
        )
    if number:
        check_fraction("gates", gates)
        return
    if not isinstance(gates, Tensor) or not gates.is_floating_point():
        got = gates.dtype if isinstance(gates, Tensor) else type(gates).__name__
        raise TypeError(f"gates: expected a floating point tensor or a number, got {got}")
    if gates.ndim != 2:
        raise ValueError(f"gates: expected shape (B, h * w), got {tuple(gates.shape)}")
    values = gates.detach()
    outside = values[~((values >= 0) & (values <= 1))]  # NaN too
    if outside.numel():
        raise ValueError(f"gates: expected values from 0 to 1, got {float(outside[0]):g}")


def _of_a_pass(value: Any) -> Any:
    if value is None:
        raise RuntimeError(
            "nothing was gated: forward_func did not run the vision tower (in the same thread); "
            "pass the vision_tower that forward_func calls"
        )
    return value
