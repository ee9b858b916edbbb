"""What the tests' small models are made of: sizes, a tokenizer, and random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONTEXT_LENGTH = 12
VOCABULARY = 64
EMBEDDING = 24

_TOKENS = ("class_embedding", "cls_token", "dist_token", "reg_token", "latent", "probe", "query")
_POSITIONS = ("positional_embedding", "pos_embed", "position_embeddings", "freqs")
_TABLES = ("token_embedding", "position_embedding")
_SCALES = ("gamma", "gamma_1", "gamma_2", "lambda1", "head_scale")
_ATTENTION = ("qkv", "q_proj", "k_proj", "v_proj", "q", "kv", "query", "key", "value")


class ToyTokenizer:
    """Letters to ids, padded with 0; the last id ends the text and is the largest, as in CLIP."""

    def __call__(self, texts: str | list[str], context_length: int | None = None) -> Tensor:
        texts = [texts] if isinstance(texts, str) else texts
        ids = torch.zeros(len(texts), context_length or CONTEXT_LENGTH, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            letters = [1 + ord(c) % (VOCABULARY - 2) for c in text[-(len(row) - 1) :]]
            row[: len(letters) + 1] = torch.tensor([*letters, VOCABULARY - 1])
        return ids


def randomize(model: nn.Module, seed: int) -> None:
    """Weights large enough that attention is far from uniform and hiding patches matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        *_, owner, last = ("", *name.split("."))
        if last in ("logit_scale", "logit_bias"):
            continue
        if last in _SCALES or (last == "weight" and value.ndim == 1):
            new = 1 + 0.2 * noise  # layer norms and learned scales
        elif last.endswith("bias"):
            new = 0.2 * noise
        elif last in _TOKENS + _POSITIONS or owner in _TABLES:
            new = 0.5 * noise
        elif last in ("proj", "text_projection"):
            new = noise * value.shape[0] ** -0.5
        elif last == "in_proj_weight" or owner in _ATTENTION:
            new = 1.5 * noise * value.shape[1] ** -0.5
        else:  # linear and convolution weights
            new = noise * value[0].numel() ** -0.5
        if value.requires_grad:  # fixed sine and cosine positions stay
            value.data.copy_(new)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            mean, var = (module.get_buffer(f"running_{name}") for name in ("mean", "var"))
            mean.copy_(0.2 * torch.randn(mean.shape, generator=generator))
            var.copy_(1 + torch.rand(var.shape, generator=generator))
