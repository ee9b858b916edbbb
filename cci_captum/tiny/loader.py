"""Load the embedded tiny CLIP."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import set_model_preprocess_cfg
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import image_transform
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from .names import MODEL_NAMES

CONTEXT_LENGTH = 16
VOCABULARY_SIZE = 49408

CONFIG: dict[str, Any] = {
    "embed_dim": 192,
    "vision_cfg": {
        "image_size": 96,
        "patch_size": 8,
        "width": 192,
        "layers": 5,
        "head_width": 64,
        "mlp_ratio": 3.0,
    },
    "text_cfg": {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": VOCABULARY_SIZE,
        "width": 128,
        "heads": 2,
        "layers": 2,
    },
}
"""Configuration of both models, as open_clip's own JSON files spell it."""

_FOLDER = Path(__file__).parent


def build(
    image_size: int = 96,
    vocabulary_size: int = VOCABULARY_SIZE,
    cast_dtype: torch.dtype | None = None,
) -> open_clip.CLIP:
    """Return the architecture with fresh weights; `CONFIG` with these two numbers replaced."""
    config = copy.deepcopy(CONFIG)
    config["vision_cfg"]["image_size"] = image_size
    config["text_cfg"]["vocab_size"] = vocabulary_size
    model = open_clip.CLIP(**config, cast_dtype=cast_dtype)
    size = (image_size, image_size)
    set_model_preprocess_cfg(
        model, {"size": size, "mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD}
    )
    return model


def tokenizer() -> SimpleTokenizer:
    """Return open_clip's BPE tokenizer with the tiny model's context length of 16 tokens."""
    return copy.copy(_tokenizer())  # each caller's own, but for the vocabulary


@cache
def _tokenizer() -> SimpleTokenizer:
    """The same: its vocabulary takes a fraction of a second to read."""
    return SimpleTokenizer(context_length=CONTEXT_LENGTH)


def weights_path(name: str = "tiny") -> Path:
    """Return the file with the weights of a model.

    Raises:
        ValueError: If the name is none of `MODEL_NAMES`.
    """
    if name not in MODEL_NAMES:
        raise ValueError(f"name: expected one of {MODEL_NAMES}, got {name!r}")
    return _FOLDER / f"{name}.safetensors"


def load_tiny(
    name: str = "tiny", device: torch.device | str | None = None, precision: str = "fp32"
) -> tuple[open_clip.CLIP, Any, SimpleTokenizer]:
    """Return the embedded model, its image transform and its tokenizer.

    The model is a plain `open_clip.CLIP` in evaluation mode (the file holds fp16):
    96 x 96 pixels, patches of 8 (a grid of 12 x 12), one class token, 5 blocks of width 192.

    Args:
        name: "tiny", or "tiny-shortcut" for the model with planted shortcuts
            (`PLANTED_PAIRS`).
        device: Where to put the model; None is the CPU.
        precision: "fp32", or "fp16" / "bf16" for weights in half precision (the file is fp16).
        precision: "fp32", or "fp16" / "bf16" for weights in half precision, converted as
            open_clip converts them.

    Returns:
        `(model, preprocess, tokenizer)`: preprocess turns a PIL picture into a float32 tensor
        (3, 96, 96), the tokenizer turns a list of texts into an int64 tensor (B, 16).

    Raises:
        ValueError: If the name is none of `MODEL_NAMES`, or the precision is not known.

    Example:
        >>> from cci_captum.tiny import load_tiny
        >>> model, preprocess, tokenizer = load_tiny()
        >>> model.encode_text(tokenizer(["a penguin on snow"])).shape
        torch.Size([1, 192])
    """
    if precision not in ("fp32", "fp16", "bf16"):
        raise ValueError(f"precision: expected 'fp32', 'fp16' or 'bf16', got {precision!r}")
    state = {key: value.float() for key, value in load_file(weights_path(name)).items()}
    # Only the rows of tokens seen in training are stored. The others are zeros: to the model a
    # token that it never learnt says nothing but that there is a word at this place.
    learnt = state["token_embedding.weight"]
    rows = torch.zeros(VOCABULARY_SIZE, learnt.shape[1])
    rows[state.pop("token_ids").long()] = learnt
    cast_dtype = open_clip.get_cast_dtype(precision)
    model = build(vocabulary_size=len(learnt), cast_dtype=cast_dtype)  # no random rows for all
    model.load_state_dict(state)
    model.token_embedding = nn.Embedding.from_pretrained(rows, freeze=False)
    model.vocab_size = VOCABULARY_SIZE
    if cast_dtype is not None:
        open_clip.convert_weights_to_lp(model, cast_dtype)
    preprocess = image_transform(
        CONFIG["vision_cfg"]["image_size"],
        is_train=False,
        mean=OPENAI_DATASET_MEAN,
        std=OPENAI_DATASET_STD,
    )
    return model.to(device or "cpu").eval(), preprocess, tokenizer()


@cache
def _known_tokens() -> frozenset[int]:
    with safe_open(weights_path("tiny"), framework="pt") as weights:
        return frozenset(weights.get_tensor("token_ids").tolist())


def never_learnt(model: str, texts: Sequence[str]) -> str:
    """What to say of words that a tiny model never learnt; "" for other models, or none of them.

    Example:
        >>> from cci_captum.tiny import never_learnt
        >>> never_learnt("tiny", ["a zebra on snow"]).split(",")[0]
        'the tiny model never learnt zebra'
    """
    if model not in MODEL_NAMES:
        return ""
    unknown = list(dict.fromkeys(word for text in texts for word in unknown_words(text)))
    if not unknown:
        return ""
    return (
        f"the tiny model never learnt {', '.join(unknown)}, of which it sees no more than that "
        "there is a word; cci_captum.tiny.CLASS_NAMES lists the 33 classes that it knows"
    )


def unknown_words(text: str) -> list[str]:
    """Return the words of a text that the tiny models never saw in training.

    Example:
        >>> from cci_captum.tiny import unknown_words
        >>> unknown_words("a zebra on snow")
        ['zebra']
    """
    encode = tokenizer().encode
    words = re.findall(r"[^\W_]+", text.lower())
    return [word for word in words if not _known_tokens().issuperset(encode(word))]
