"""Tokens and tokenizers as the libraries hand them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


def tokenizer_for(model: nn.Module, tokenizer: Any) -> Callable[..., Tensor]:
    """A tokenizer from strings to tokens (B, L), of whatever is given as one.

    Those of transformers, and the processors that hold them, are given texts as the training of
    the model's family had them; see `FamilyTokenizer`. Others are left as they are.

    Raises:
        TypeError: If a tokenizer of transformers is given with a model of another library.
    """
    if hasattr(tokenizer, "image_processor"):
        tokenizer = tokenizer.tokenizer
    if not hasattr(tokenizer, "convert_tokens_to_ids"):
        return tokenizer
    config = getattr(model, "config", None)
    if not hasattr(config, "text_config"):
        raise TypeError(
            f"tokenizer: expected one from strings to tokens (B, L), got "
            f"{type(tokenizer).__name__} "
            f"of transformers with {type(model).__name__}, which is no model of transformers; "
            "open_clip.get_tokenizer gives that of open_clip's models"
        )
    from ._texts import FamilyTokenizer  # which imports open_clip

    return FamilyTokenizer(tokenizer, config)


def tokens_of(text: Any, model: nn.Module) -> Tensor:
    """Tokens (B, L) of what is given as texts: a tensor, or what a tokenizer of transformers gives.

    Raises:
        TypeError: If they are neither.
        ValueError: If they are padded as the model's training never had them.
    """
    if isinstance(text, Mapping):
        _check_padding(text, model)
        text = text["input_ids"]
    if not isinstance(text, Tensor) or text.is_floating_point():
        got = text.dtype if isinstance(text, Tensor) else type(text).__name__
        raise TypeError(
            "text: expected tokens (B, L) of whole numbers, as the model's tokenizer gives them, "
            f"or a BatchEncoding of tensors (return_tensors='pt'), got {got}"
        )
    if text.ndim != 2:
        raise ValueError(f"text: expected tokens of shape (B, L), got {tuple(text.shape)}")
    return text


def _check_padding(text: Mapping[str, Any], model: nn.Module) -> None:
    """Encoders see no attention mask: padding is on the right, and SigLIP's to its full length."""
    if "input_ids" not in text:
        raise TypeError(f"text: expected a BatchEncoding with input_ids, got {[*text]}")
    mask, tokens = text.get("attention_mask"), text["input_ids"]
    if isinstance(mask, Tensor) and bool((mask.diff(dim=-1) > 0).any()):
        raise ValueError(
            "text: expected texts padded on the right, got padding before a text "
            "(tokenizer.padding_side = 'right')"
        )
    config = getattr(model, "config", None)
    if isinstance(tokens, Tensor) and getattr(config, "model_type", "").startswith("siglip"):
        length = model.config.text_config.max_position_embeddings  # type: ignore[union-attr]
        if tokens.shape[-1] != length:
            raise ValueError(
                f"text: expected {length} tokens, to which SigLIP's training padded all texts, got "
                f"{tokens.shape[-1]} (tokenizer(..., padding='max_length', max_length={length}))"
            )
