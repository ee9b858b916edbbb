"""Plain float64 computations that the package is held against.

`plain` has what they are made of; `open_clip` that library's own models, hidden patches as keys
that no query sees; `families` the models of every library, hidden patches simply absent; `methods`
the baselines on the latter; `black_box` those that ask the model alone.
"""

from .open_clip import (
    Spec,
    class_directions,
    encode_image,
    encode_text,
    masked_outputs,
    patch_tokens,
    text_directions,
    vision_states,
    zero_shot_logits,
)
from .plain import cosine, relative_error, weights_of

__all__ = [
    "Spec",
    "class_directions",
    "cosine",
    "encode_image",
    "encode_text",
    "masked_outputs",
    "patch_tokens",
    "relative_error",
    "text_directions",
    "vision_states",
    "weights_of",
    "zero_shot_logits",
]
