"""The only place that knows the inside of image encoders of open_clip, timm and transformers.

`find_vision_tower` wraps a model's image encoder in the `VisionTower` adapter of its family;
`register_vision_tower` adds a family. Imports nothing of ours.
"""

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
from .hiding import HideStrategy, Hiding
from .hooks import hide_keys, hook_input, hook_output
from .layout import Layer, TowerLayout
from .open_clip_vit import OpenCLIPVisionTower
from .quantized import dynamically_quantized
from .recording import AttentionRecording, BlockAttention, TokenRecording
from .registry import TowerRegistration, find_vision_tower, register_vision_tower
from .timm_vit import OpenCLIPTimmTower, TimmVisionTower
from .transformers_base import TransformersTower

__all__ = [
    "AttentionBlock",
    "AttentionLayer",
    "AttentionPool",
    "AttentionRecording",
    "BlockAttention",
    "HideStrategy",
    "Hiding",
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
