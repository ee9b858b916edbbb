"""Hugging Face transformers checkpoints as CLIPs: model, preprocessing and tokenizer."""

from __future__ import annotations

from math import isqrt
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import nn
from torchvision import transforms

from ._steps import CenterCrop
from ._texts import FamilyTokenizer

MODEL_TYPES = ("clip", "metaclip_2", "siglip", "siglip2")


class UnsupportedCheckpointError(ValueError):
    """A checkpoint that is not of a kind that can be used."""


def load_transformers(
    source: str, device: str | torch.device, dtype: torch.dtype, *, random_weights: bool = False
) -> tuple[nn.Module, transforms.Compose, FamilyTokenizer]:
    """The model of a repository or local folder, in eval mode, its preprocessing and tokenizer.

    The scale and bias of the logits stay float32 in half precision: rounded to bf16, a scale of
    100 would be 98.9.

    Raises:
        UnsupportedCheckpointError: If the checkpoint is neither a CLIP nor a SigLIP, or its images
            are prepared in a way that is not known.
        Exception: What transformers raises if something cannot be found, downloaded or read.
    """
    import transformers

    folder = Path(source).expanduser()
    if folder.is_dir():
        source = str(folder)
    # The configuration first: the weights of another model are not worth a download.
    options = {"trust_remote_code": False}  # refused, instead of asking on the terminal
    config = transformers.AutoConfig.from_pretrained(source, **options)
    if config.model_type not in MODEL_TYPES:
        raise UnsupportedCheckpointError(
            f"name: expected a checkpoint of type {', '.join(MODEL_TYPES)}, got "
            f"{config.model_type!r} in {source}"
        )
    processor = transformers.AutoImageProcessor.from_pretrained(source, **options)
    preprocess = preprocessing_of(processor, config)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
    model: nn.Module
    if random_weights:
        model = transformers.AutoModel.from_config(config, dtype=torch.float32)
    else:
        model = transformers.AutoModel.from_pretrained(source, dtype=torch.float32, **options)
    for part in model.children():
        part.to(dtype)
    return model.to(device).eval(), preprocess, FamilyTokenizer(tokenizer, config)


def preprocessing_of(processor: Any, config: Any) -> transforms.Compose:
    """The steps of an image processor of transformers, from a PIL image to (3, H, W).

    Raises:
        UnsupportedCheckpointError: If it prepares images in a way that is not known.
    """
    settings = processor.to_dict()
    if not settings["do_rescale"] or abs(255 * settings["rescale_factor"] - 1) > 1e-6:
        raise UnsupportedCheckpointError(
            "name: expected an image processor that rescales by 1/255, got "
            f"do_rescale={settings['do_rescale']}, rescale_factor={settings['rescale_factor']}"
        )
    steps: list[Any] = [_convert_to_rgb]
    if config.model_type == "siglip2":
        # Its processor keeps the shape of each photo; a fixed square is what it was trained from.
        vision = config.vision_config
        side = isqrt(vision.num_patches) * vision.patch_size
        steps.append(_resize({"height": side, "width": side}, settings))
    elif settings.get("do_resize"):
        steps.append(_resize(settings["size"], settings))
    if settings.get("do_center_crop"):
        crop = settings["crop_size"]
        steps.append(CenterCrop((crop["height"], crop["width"])))
    steps.append(transforms.ToTensor())
    if settings.get("do_normalize"):
        mean, std = settings["image_mean"], settings["image_std"]
    else:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return transforms.Compose([*steps, transforms.Normalize(tuple(mean), tuple(std))])


def _convert_to_rgb(image: Image) -> Image:
    return image.convert("RGB")


def _resize(size: dict[str, int], settings: dict[str, Any]) -> transforms.Resize:
    sides = {name: side for name, side in size.items() if side is not None}
    if sides.keys() == {"shortest_edge"}:
        target: int | tuple[int, int] = sides["shortest_edge"]
    elif sides.keys() == {"height", "width"}:
        target = (sides["height"], sides["width"])
    else:
        raise UnsupportedCheckpointError(
            "name: expected an image processor with a size of shortest_edge, or of height and "
            f"width, got {sides}"
        )
    return transforms.Resize(target, interpolation=settings["resample"])
