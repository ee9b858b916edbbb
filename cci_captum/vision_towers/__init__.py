"""The only place that knows the inside of open_clip's image encoders.

`find_vision_tower` wraps a model's image encoder in the `VisionTower` adapter of its family.
Imports nothing of ours.
"""

from __future__ import annotations

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from torch import nn

from .base import Layer, VisionTower
from .blocks import AttentionBlock, join_heads
from .hiding import HideStrategy, Hiding
from .open_clip_vit import OpenCLIPVisionTower
from .recording import AttentionRecording, BlockAttention, TokenRecording

__all__ = [
    "AttentionBlock",
    "AttentionRecording",
    "BlockAttention",
    "HideStrategy",
    "Hiding",
    "Layer",
    "TokenRecording",
    "VisionTower",
    "find_vision_tower",
    "join_heads",
]

_ADAPTERS: tuple[type[VisionTower], ...] = (OpenCLIPVisionTower,)
_SUPPORTED = "open_clip.transformer.VisionTransformer (class-token or average pooling)"
_REFUSED: dict[type[nn.Module], str] = {
    ModifiedResNet: "a ResNet has no global patch tokens to hide in attention",
    TimmModel: "timm image encoders are not supported",
}


def find_vision_tower(module: nn.Module | VisionTower) -> VisionTower:
    """Find the image encoder inside a model and wrap it in its adapter.

    Args:
        module: The image encoder itself, or any module that holds exactly one: an open_clip
            model, `ImageTextSimilarity`, a fine-tuned classifier. A `VisionTower` comes back
            as it is.

    Returns:
        The adapter; the module is not changed.

    Raises:
        TypeError: If module is no nn.Module, or its image encoder cannot be explained by
            hiding patches (ResNet, attentional pooling, ...), with the reason.
        ValueError: If no supported image encoder is found, or several are.

    Example:
        >>> import cci_captum
        >>> tower = cci_captum.find_vision_tower(cci_captum.load_clip("tiny").model)
        >>> tower.num_prefix_tokens
        1
    """
    if isinstance(module, VisionTower):
        return module
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"module: expected a torch.nn.Module that holds an image encoder, got "
            f"{type(module).__name__}"
        )
    found = [
        (name or "the module itself", adapter, candidate)
        for name, candidate in module.named_modules()
        for adapter in _ADAPTERS
        if adapter.matches(candidate)
    ]
    if not found:
        for candidate in module.modules():
            for refused, reason in _REFUSED.items():
                if isinstance(candidate, refused):
                    raise TypeError(
                        f"vision_tower: {type(candidate).__name__}: {reason}; supported: "
                        f"{_SUPPORTED}"
                    )
        raise ValueError(
            f"vision_tower: no supported image encoder in {type(module).__name__}; supported: "
            f"{_SUPPORTED}"
        )
    if len(found) > 1:
        names = ", ".join(name for name, _, _ in found)
        raise ValueError(
            f"vision_tower: {len(found)} image encoders in {type(module).__name__} ({names}); "
            "pass the one to explain"
        )
    _, adapter, tower_module = found[0]
    adapter.check_supported(tower_module)
    return adapter(tower_module)
