"""The only place that knows the inside of image encoders of open_clip, timm and transformers.

`find_vision_tower` wraps a model's image encoder in the `VisionTower` adapter of its family;
`register_vision_tower` adds a family. Imports nothing of ours, and a library only where a model
of it may be there: the adapters of open_clip and timm are imported when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import VisionTower
from .blocks import (
    AttentionBlock,
    AttentionLayer,
    AttentionPool,
    MultiheadPool,
    join_heads,
    multihead_qkv,
    split_heads,
)
from .checking import check_vision_tower
from .gating import Gating
from .hiding import HideStrategy, Hiding
from .hooks import hide_keys, hook_input, hook_output
from .layout import Layer, TowerLayout
from .quantized import dynamically_quantized
from .recording import AttentionRecording, BlockAttention, TokenRecording
from .registry import (
    LAZY,
    TowerRegistration,
    find_vision_tower,
    load_adapter,
    register_vision_tower,
)
from .scaling import KeyScaling
from .transformers_base import TransformersTower

if TYPE_CHECKING:
    from .open_clip_timm import OpenCLIPTimmTower
    from .open_clip_vit import OpenCLIPVisionTower
    from .timm_vit import TimmVisionTower

__all__ = [
    "AttentionBlock",
    "AttentionLayer",
    "AttentionPool",
    "AttentionRecording",
    "BlockAttention",
    "Gating",
    "HideStrategy",
    "Hiding",
    "KeyScaling",
    "Layer",
    "MultiheadPool",
    "OpenCLIPTimmTower",
    "OpenCLIPVisionTower",
    "TimmVisionTower",
    "TokenRecording",
    "TowerLayout",
    "TowerRegistration",
    "TransformersTower",
    "VisionTower",
    "check_vision_tower",
    "dynamically_quantized",
    "find_vision_tower",
    "hide_keys",
    "hook_input",
    "hook_output",
    "join_heads",
    "multihead_qkv",
    "register_vision_tower",
    "split_heads",
]


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load_adapter(name)


def __dir__() -> list[str]:
    return __all__
