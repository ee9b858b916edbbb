"""open_clip's own models in plain float64, hidden patches as keys that no query sees.

Everything here reads the weights out of a model's ``state_dict`` and computes one image (or one
text) at a time, one head at a time, with matrix products written out. There are no hooks, no
batching and no call into open_clip, so that nothing is shared with the code under test. Hiding is
written as the CCI paper states it (arXiv 2511.12978, section 3): the columns of hidden patches are
set to -inf before the softmax of every head in every block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .plain import (
    Weights,
    gelu,
    layer_norm,
    linear,
    quick_gelu,
    softmax,
    to_unit,
    under,
    weights_of,
)


@dataclass(frozen=True)
class Spec:
    """What a CLIP model's ``state_dict`` does not say about how it is computed."""

    vision_heads: int
    text_heads: int
    pool: str = "tok"
    final_ln_after_pool: bool = False
    quick_gelu: bool = False
    eps: float = 1e-5


def _attention(x: Tensor, w: Weights, heads: int, blocked: Tensor, eps: float) -> Tensor:
    """Self-attention over x (L, D); query i does not see key j where blocked[i, j]."""
    dim = x.shape[1]
    size = dim // heads
    query, key, value = w["in_proj_weight"].reshape(3, heads, size, dim)
    query_bias, key_bias, value_bias = w["in_proj_bias"].reshape(3, heads, size)
    outputs = []
    for h in range(heads):
        q = layer_norm(x @ query[h].T + query_bias[h], w, "ln_q", eps)
        k = layer_norm(x @ key[h].T + key_bias[h], w, "ln_k", eps)
        scores = q @ k.T / math.sqrt(size)
        scores[blocked] = -math.inf
        output = softmax(scores) @ (x @ value[h].T + value_bias[h])
        outputs.append(output * w["head_scale"][h] if "head_scale" in w else output)
    return linear(layer_norm(torch.cat(outputs, 1), w, "ln_inner", eps), w, "out_proj")


def _block(x: Tensor, w: Weights, heads: int, blocked: Tensor, quick: bool, eps: float) -> Tensor:
    y = _attention(layer_norm(x, w, "ln_1", eps), under(w, "attn."), heads, blocked, eps)
    y = layer_norm(y, w, "ln_attn", eps)
    x = x + y * w.get("ls_1.gamma", 1.0)
    activation = quick_gelu if quick else gelu
    y = activation(linear(layer_norm(x, w, "ln_2", eps), w, "mlp.c_fc"))
    y = linear(layer_norm(y, w, "mlp.ln", eps), w, "mlp.c_proj")
    return x + y * w.get("ls_2.gamma", 1.0)


def _depth(w: Weights) -> int:
    names = [name for name in w if name.startswith("transformer.resblocks.")]
    return 1 + max(int(name.split(".")[2]) for name in names)


def _embed_patches(w: Weights, image: Tensor) -> Tensor:
    """Class token and patch tokens of one image (3, H, W), with positions: (1 + N, D)."""
    kernel = w["conv1.weight"]
    dim, _, height, width = kernel.shape
    tokens = [w["class_embedding"]]
    for top in range(0, image.shape[1] - height + 1, height):
        for left in range(0, image.shape[2] - width + 1, width):
            patch = image[:, top : top + height, left : left + width]
            tokens.append(kernel.reshape(dim, -1) @ patch.reshape(-1))
    return torch.stack(tokens) + w["positional_embedding"]


def vision_states(model: nn.Module, spec: Spec, image: Tensor, hidden: Tensor) -> list[Tensor]:
    """Tokens of one image before the first block and after each block: depth + 1 of (1 + N, D).

    ``hidden`` is (N,) bool: True where no query may see the patch.
    """
    w = weights_of(model, "visual.")
    x = layer_norm(_embed_patches(w, image.detach().double().cpu()), w, "ln_pre", spec.eps)
    columns = torch.cat([torch.zeros(1, dtype=torch.bool), hidden.cpu()])
    blocked = columns.expand(len(x), -1)
    states = [x]
    for i in range(_depth(w)):
        block = under(w, f"transformer.resblocks.{i}.")
        x = _block(x, block, spec.vision_heads, blocked, spec.quick_gelu, spec.eps)
        states.append(x)
    return states


def _masks(w: Weights, images: Tensor, hidden: Tensor | None) -> Tensor:
    """The masks (B, N) of the images: nothing hidden for None."""
    if hidden is None:
        return torch.zeros(len(images), len(w["positional_embedding"]) - 1, dtype=torch.bool)
    return hidden.cpu()


def encode_image(
    model: nn.Module, spec: Spec, images: Tensor, hidden: Tensor | None = None
) -> Tensor:
    """Image embeddings (B, E), not normalised, of images (B, 3, H, W) under ``hidden`` (B, N)."""
    w = weights_of(model, "visual.")
    rows = []
    for image, mask in zip(images, _masks(w, images, hidden), strict=True):
        x = vision_states(model, spec, image, mask)[-1]
        if not spec.final_ln_after_pool:
            x = layer_norm(x, w, "ln_post", spec.eps)
        if spec.pool == "tok":
            pooled = x[0]
        else:
            kept = x[1:][~mask]
            pooled = kept.mean(0) if len(kept) else torch.zeros_like(x[0])
        if spec.final_ln_after_pool:
            pooled = layer_norm(pooled, w, "ln_post", spec.eps)
        rows.append(pooled @ w["proj"])
    return torch.stack(rows)


def patch_tokens(
    model: nn.Module, spec: Spec, images: Tensor, layer: int | str, hidden: Tensor | None = None
) -> Tensor:
    """Patch tokens (B, N, D) at a layer: "input", a block's index, or "projected"."""
    w = weights_of(model, "visual.")
    rows = []
    for image, mask in zip(images, _masks(w, images, hidden), strict=True):
        states = vision_states(model, spec, image, mask)
        if layer == "input":
            x = states[0][1:]
        elif layer == "projected":
            x = to_unit(layer_norm(states[-1][1:], w, "ln_post", spec.eps) @ w["proj"])
        else:
            x = states[1:][int(layer)][1:]
        rows.append(torch.where(mask[:, None], 0.0, x))
    return torch.stack(rows)


def encode_text(model: nn.Module, spec: Spec, text: Tensor) -> Tensor:
    """Text embeddings (B, E), not normalised, of token ids (B, L); the largest id is the read-out.

    Reads both layouts of open_clip: the text tower inside the model, or under ``text.``.
    """
    w = weights_of(model)
    if "token_embedding.weight" not in w:
        w = under(w, "text.")
    length = text.shape[1]
    causal = torch.arange(length)[None, :] > torch.arange(length)[:, None]
    rows = []
    for ids in text.cpu():
        x = w["token_embedding.weight"][ids] + w["positional_embedding"]
        for i in range(_depth(w)):
            block = under(w, f"transformer.resblocks.{i}.")
            x = _block(x, block, spec.text_heads, causal, spec.quick_gelu, 1e-5)
        rows.append(layer_norm(x, w, "ln_final", 1e-5)[ids.argmax()] @ w["text_projection"])
    return torch.stack(rows)


def text_directions(model: nn.Module, spec: Spec, text: Tensor) -> Tensor:
    """Unit embeddings (B, E) of token ids (B, L)."""
    return to_unit(encode_text(model, spec, text))


def class_directions(
    model: nn.Module,
    spec: Spec,
    tokenizer: Callable[[list[str]], Tensor],
    names: Sequence[str],
    templates: Sequence[str],
) -> Tensor:
    """Unit embeddings (C, E): a class is the mean of its prompts' unit embeddings, made unit."""
    classes = []
    for name in names:
        prompts = tokenizer([template.format(name) for template in templates])
        classes.append(to_unit(text_directions(model, spec, prompts).mean(0)))
    return torch.stack(classes)


def zero_shot_logits(
    model: nn.Module,
    spec: Spec,
    image_embeddings: Tensor,
    tokenizer: Callable[[list[str]], Tensor],
    class_names: Sequence[str],
    templates: Sequence[str],
) -> Tensor:
    """Zero-shot logits (B, C)."""
    w = weights_of(model)
    classes = class_directions(model, spec, tokenizer, class_names, templates)
    scale, bias = w["logit_scale"].exp(), w.get("logit_bias", torch.tensor(0.0))
    return scale * to_unit(image_embeddings) @ classes.T + bias


def masked_outputs(score: Callable[[Tensor], Tensor], labels: Tensor, num_clusters: int) -> Tensor:
    """Outputs (B, K) or (B, K, C) with each cluster hidden in turn.

    ``score`` maps hidden (B, N) to outputs (B,) or (B, C); ``labels`` is (B, h, w).
    """
    flat = labels.flatten(1).cpu()
    return torch.stack([score(flat == k) for k in range(num_clusters)], 1)
