"""Text encoders in plain float64, hidden tokens left out of the sequence.

A token that no other attends to, in any layer, might as well not be there, once every other has its
position: so it is taken out before the first block, where the code under test keeps it and masks
it. One text and one head at a time, off the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .families import project_out, rename
from .plain import (
    Weights,
    gelu,
    gelu_tanh,
    layer_norm,
    linear,
    quick_gelu,
    softmax,
    to_unit,
    under,
    weights_of,
)

_ACTIVATIONS = {"gelu": gelu, "quick_gelu": quick_gelu, "gelu_pytorch_tanh": gelu_tanh}


def text_features(model: Any, tokens: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Unit features (B, E) of tokens (B, L), those that are hidden, (B, L), left out."""
    if hidden is None:
        hidden = torch.zeros_like(tokens, dtype=torch.bool)
    encode = _transformers if hasattr(model, "config") else _open_clip
    rows = [encode(model, *row) for row in zip(tokens, hidden, strict=True)]
    return to_unit(torch.stack(rows))


def _open_clip(model: Any, ids: Tensor, hidden: Tensor) -> Tensor:
    own = getattr(model, "text", model)
    w = weights_of(own)
    blocks = own.transformer.resblocks
    eps = own.ln_final.eps
    activation = gelu
    if type(blocks[0].mlp.gelu).__name__ == "QuickGELU":
        activation = quick_gelu
    elif getattr(blocks[0].mlp.gelu, "approximate", "none") == "tanh":
        activation = gelu_tanh
    x = w["token_embedding.weight"][ids] + w["positional_embedding"][: len(ids)]
    pool = own.pool_type if hasattr(own, "pool_type") else own.text_pool_type
    place = {"argmax": int(ids.argmax()), "last": len(ids) - 1}[pool]
    x = _run(
        x,
        [under(w, f"transformer.resblocks.{i}.") for i in range(len(blocks))],
        heads=blocks[0].attn.num_heads,
        eps=eps,
        activation=activation,
        causal=own.attn_mask is not None,
        hidden=hidden,
    )
    x = layer_norm(x, w, "ln_final", eps)[place - int(hidden[:place].sum())]
    if "text_projection.weight" in w:
        return linear(x, w, "text_projection")
    return x @ w["text_projection"]


def _transformers(model: Any, ids: Tensor, hidden: Tensor) -> Tensor:
    w, config = weights_of(model), model.config.text_config
    own = under(w, "text_model.")
    siglip = "siglip" in config.model_type
    x = own["embeddings.token_embedding.weight"][ids]
    x = x + own["embeddings.position_embedding.weight"][: len(ids)]
    x = _run(
        x,
        [under(own, f"encoder.layers.{i}.") for i in range(config.num_hidden_layers)],
        heads=config.num_attention_heads,
        eps=config.layer_norm_eps,
        activation=_ACTIVATIONS[config.hidden_act],
        causal=not siglip,
        hidden=hidden,
    )
    place = len(ids) - 1 if siglip else int((ids == config.eos_token_id).int().argmax())
    x = layer_norm(x, own, "final_layer_norm", config.layer_norm_eps)
    x = x[place - int(hidden[:place].sum())]
    return linear(x, own, "head") if siglip else x @ w["text_projection.weight"].T


def _run(
    x: Tensor,
    blocks: list[Weights],
    *,
    heads: int,
    eps: float,
    activation: Callable[[Tensor], Tensor],
    causal: bool,
    hidden: Tensor,
) -> Tensor:
    """Tokens (S, D) that are kept, of (L, D), after all blocks."""
    x = x[~hidden]
    later = torch.arange(len(x))[None, :] > torch.arange(len(x))[:, None]
    for block in blocks:
        w = rename(block)
        y = layer_norm(x, w, "norm1", eps)
        q, k, v = (linear(y, w, name).chunk(heads, 1) for name in "qkv")
        outputs = []
        for h in range(heads):
            scores = (
                layer_norm(q[h], w, "attn.q_norm", eps) @ layer_norm(k[h], w, "attn.k_norm", eps).T
            )
            scores = scores / math.sqrt(q[h].shape[1])
            if causal:
                scores[later] = -math.inf
            outputs.append(softmax(scores) @ v[h])
        x = x + layer_norm(project_out(torch.cat(outputs, 1), w, eps), w, "outer", eps)
        y = activation(linear(layer_norm(x, w, "norm2", eps), w, "fc1"))
        x = x + linear(layer_norm(y, w, "mlp_norm", eps), w, "fc2")
    return x
