"""The embedded tiny CLIP: an `open_clip.CLIP` small enough to ship, with its sprites.

It is trained by `benchmarks/tiny_clip` on scenes of emoji on textured backgrounds, and is meant
for demonstrations, tests and teaching; docs/tiny_clip.md is its model card.
"""

from __future__ import annotations

from .loader import MODEL_NAMES, load_tiny, unknown_words
from .names import (
    BACKGROUND_NAMES,
    CLASS_NAMES,
    HELD_OUT_FAMILIES,
    PLANTED_PAIRS,
    TEMPLATES,
    TRAIN_FAMILIES,
    PlantedPair,
)
from .sprites import SPRITE_SIZE, load_sprites

__all__ = [
    "BACKGROUND_NAMES",
    "CLASS_NAMES",
    "HELD_OUT_FAMILIES",
    "MODEL_NAMES",
    "PLANTED_PAIRS",
    "SPRITE_SIZE",
    "TEMPLATES",
    "TRAIN_FAMILIES",
    "PlantedPair",
    "load_sprites",
    "load_tiny",
    "unknown_words",
]
