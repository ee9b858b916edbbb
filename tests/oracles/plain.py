"""What the plain computations are made of, written out on float64 tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """Largest absolute difference, relative to the largest expected magnitude."""
    assert actual.shape == expected.shape, (tuple(actual.shape), tuple(expected.shape))
    actual, expected = actual.detach().double().cpu(), expected.detach().double().cpu()
    return float((actual - expected).abs().max() / expected.abs().max())


def weights_of(model: nn.Module, prefix: str = "") -> Weights:
    """The model's weights under ``prefix``, in float64 on the CPU, the prefix taken off."""
    state = {name: value.detach().double().cpu() for name, value in model.state_dict().items()}
    return under(state, prefix)


def under(weights: Weights, prefix: str) -> Weights:
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    """A linear layer, whose bias may be missing."""
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def layer_norm(x: Tensor, w: Weights, name: str, eps: float) -> Tensor:
    """Layer norm over the last dimension; the identity where the model has no such layer."""
    if f"{name}.weight" not in w:
        return x
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred**2).mean(-1, keepdim=True)
    return centred / (variance + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(scores: Tensor) -> Tensor:
    """Over the last dimension."""
    odds = (scores - scores.max(-1, keepdim=True).values).exp()
    return odds / odds.sum(-1, keepdim=True)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + (x / math.sqrt(2)).erf()) / 2


def gelu_tanh(x: Tensor) -> Tensor:
    return x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh()) / 2


def quick_gelu(x: Tensor) -> Tensor:
    return x / (1 + (-1.702 * x).exp())


def silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def to_unit(x: Tensor) -> Tensor:
    """Rows scaled to length 1; a zero row stays zero."""
    length = (x**2).sum(-1, keepdim=True).sqrt()
    return x / torch.where(length == 0, 1.0, length)


def cosine(image_embeddings: Tensor, text_embeddings: Tensor) -> Tensor:
    """Row-wise cosine similarity (B,) of two (B, E) tensors; 0 where a row is zero."""
    return (to_unit(image_embeddings) * to_unit(text_embeddings)).sum(-1)
