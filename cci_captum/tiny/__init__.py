"""The embedded tiny CLIP: an `open_clip.CLIP` small enough to ship, with its sprites.

It is trained by `benchmarks/tiny_clip` on scenes of emoji on textured backgrounds, and is meant
for demonstrations, tests and teaching; docs/tiny_clip.md is its model card. What loads models and
sprites is imported when first used, so that their names are known without open_clip.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .names import (
    BACKGROUND_NAMES,
    CLASS_NAMES,
    HELD_OUT_FAMILIES,
    MODEL_NAMES,
    PLANTED_PAIRS,
    TEMPLATES,
    TRAIN_FAMILIES,
    WORDNET_IDS,
    PlantedPair,
)

if TYPE_CHECKING:
    from .loader import load_tiny, never_learnt, unknown_words
    from .sprites import SPRITE_SIZE, load_sprites

_MODULES = {
    "SPRITE_SIZE": "sprites",
    "load_sprites": "sprites",
    "load_tiny": "loader",
    "never_learnt": "loader",
    "unknown_words": "loader",
}

__all__ = [
    "BACKGROUND_NAMES",
    "CLASS_NAMES",
    "HELD_OUT_FAMILIES",
    "MODEL_NAMES",
    "PLANTED_PAIRS",
    "SPRITE_SIZE",
    "TEMPLATES",
    "TRAIN_FAMILIES",
    "WORDNET_IDS",
    "PlantedPair",
    "load_sprites",
    "load_tiny",
    "never_learnt",
    "unknown_words",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
