"""How the libraries' models are asked for features: the one place that knows the difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import signature
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ..vision_towers.layout import pair

# Methods for images and texts: open_clip's, then those of transformers.
_METHODS = (("encode_image", "encode_text"), ("get_image_features", "get_text_features"))


def check_clip(model: nn.Module) -> None:
    """Raise TypeError unless the model encodes images and texts."""
    if not any(all(hasattr(model, name) for name in names) for names in _METHODS):
        pairs = " nor ".join(" and ".join(names) for names in _METHODS)
        raise TypeError(
            f"model: expected a CLIP-like model, got {type(model).__name__}, which has neither "
            f"{pairs}"
        )


def encode_image(model: Any, images: Tensor) -> Tensor:
    """Features (B, E) of images (B, 3, H, W), cast to the precision of the image encoder."""
    images = to_precision(_image_encoder(model), images)
    if hasattr(model, "encode_image"):
        return model.encode_image(images).flatten(1)  # some of CoCa's are (B, 1, E)
    vision = model.config.vision_config
    if model.config.model_type == "siglip2":
        inputs = _patches(images, vision.patch_size)
    else:
        inputs = {"pixel_values": images}
        inputs |= size_option(model.get_image_features, vision, images)
    return _pooled(model.get_image_features(**inputs))


def encode_text(model: Any, text: Tensor) -> Tensor:
    """Features (B, E) of tokens (B, L).

    Without an attention mask: CLIP's causal attention never sees the padding behind a text, and
    SigLIP was trained to attend to it.
    """
    if hasattr(model, "encode_text"):
        return model.encode_text(text)
    return _pooled(model.get_text_features(input_ids=text))


def image_device(model: nn.Module) -> torch.device:
    """Where a CLIP-like model takes its images."""
    return device_of(_image_encoder(model))


def text_device(model: nn.Module) -> torch.device:
    """Where a CLIP-like model takes its tokens."""
    return device_of(getattr(model, "text_model", getattr(model, "text", model)))


def device_of(module: nn.Module) -> torch.device:
    """Where a module takes its inputs; the CPU where it has no weights that say so.

    The weights of a model that accelerate has offloaded are on "meta": it fetches them layer by
    layer, to its execution device.
    """
    for part in module.modules():
        for hook in _accelerate_hooks(part):
            if getattr(hook, "execution_device", None) is not None:
                return torch.device(hook.execution_device)
    tensors = chain(module.parameters(), module.buffers())
    return next((t.device for t in tensors if t.device.type != "meta"), torch.device("cpu"))


@contextmanager
def weights_at_hand(module: nn.Module) -> Iterator[None]:
    """Inside, a module's own parameters have values, even if accelerate has offloaded them."""
    hooks = [hook for hook in _accelerate_hooks(module) if getattr(hook, "offload", False)]
    for hook in hooks:
        hook.pre_forward(module)
    try:
        yield
    finally:
        for hook in hooks:
            hook.post_forward(module, None)


def _accelerate_hooks(module: nn.Module) -> tuple[Any, ...]:
    """What accelerate runs before and after a module."""
    hook = getattr(module, "_hf_hook", None)
    return () if hook is None else tuple(getattr(hook, "hooks", (hook,)))


def to_precision(encoder: nn.Module, images: Tensor) -> Tensor:
    """The images in the dtype of an encoder's first convolution or linear layer."""
    layers = (m.weight for m in encoder.modules() if isinstance(m, (nn.Conv2d, nn.Linear)))
    return images.to(next(layers, images).dtype)


def size_option(call: Callable[..., Any], config: Any, images: Tensor) -> dict[str, Any]:
    """What a transformers method has to be told about images of another size than its own."""
    if tuple(images.shape[-2:]) == pair(config.image_size):
        return {}
    option = "interpolate_pos_encoding"  # DINOv2 interpolates without being told
    return {option: True} if option in signature(call).parameters else {}


def _image_encoder(model: nn.Module) -> nn.Module:
    """The part of a model that sees images, or all of it where it is not known."""
    return getattr(model, "visual", getattr(model, "vision_model", model))


def _patches(images: Tensor, patch_size: int) -> dict[str, Any]:
    """SigLIP 2's inputs: flat patches, row by row, (B, N, 3 p p), with colours innermost."""
    batch, channels, height, width = images.shape
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"images: expected a height and width divisible by the patch size {patch_size}, got "
            f"{height} x {width}"
        )
    grid = (height // patch_size, width // patch_size)
    cut = images.reshape(batch, channels, grid[0], patch_size, grid[1], patch_size)
    patches = cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, grid[0] * grid[1], -1)
    return {
        "pixel_values": patches,
        "pixel_attention_mask": None,  # no padding
        "spatial_shapes": torch.tensor(grid, device=images.device).expand(batch, 2),
    }


def _pooled(output: Any) -> Tensor:
    """The features: transformers returns them in an output object from version 5 on."""
    return output if isinstance(output, Tensor) else output.pooler_output
