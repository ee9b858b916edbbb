"""Plain float64 computations that the package is held against."""

from .open_clip import (
    Spec,
    cosine,
    encode_image,
    encode_text,
    masked_outputs,
    patch_tokens,
    relative_error,
    vision_states,
    weights_of,
    zero_shot_logits,
)

__all__ = [
    "Spec",
    "cosine",
    "encode_image",
    "encode_text",
    "masked_outputs",
    "patch_tokens",
    "relative_error",
    "vision_states",
    "weights_of",
    "zero_shot_logits",
]
