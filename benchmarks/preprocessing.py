"""What a model's preprocessing does to a photo: which part it sees, and how values are scaled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image
from torch import Tensor

Preprocess = Callable[[Image.Image], Tensor]
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels

# Steps of torchvision's and open_clip's preprocessing that move no pixel.
_IN_PLACE = (
    "MaybeConvertMode",
    "_convert_to_rgb",
    "MaybeToTensor",
    "ToTensor",
    "Normalize",
    "ConvertImageDtype",
)


def normalization(preprocess: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the last step, three numbers each; else OpenAI CLIP's."""
    last = _steps(preprocess)[-1:]
    if last and hasattr(last[0], "mean") and hasattr(last[0], "std"):
        return tuple(map(float, last[0].mean)), tuple(map(float, last[0].std))
    return OPENAI_DATASET_MEAN, OPENAI_DATASET_STD


def field_of_view(preprocess: Preprocess, size: tuple[int, int]) -> Box:
    """The part of a photo that reaches the model: all of it, or what a central crop leaves.

    Args:
        preprocess: As `cci_captum.load_clip` returns it. Of one that does not list its steps as
            `transforms` it is taken that all of the photo reaches the model.
        size: Width and height of the photo.

    Raises:
        ValueError: If preprocess has steps that neither resize nor crop the centre, so that it is
            not known what they do to the photo.

    Example:
        >>> import cci_captum
        >>> field_of_view(cci_captum.load_clip("tiny").preprocess, (640, 480))
        (80, 0, 560, 480)
    """
    width, height = size
    shown = (float(width), float(height))
    scaled = shown
    for step in _steps(preprocess):
        # Functions have a name of their own: open_clip 3.0 converts to RGB by one.
        kind = getattr(step, "__name__", type(step).__name__)
        if kind == "Resize":
            sides = step.size if isinstance(step.size, (tuple, list)) else [step.size]
            factor = sides[0] / min(width, height)
            scaled = (
                (width * factor, height * factor)
                if len(sides) == 1
                else (float(sides[1]), float(sides[0]))
            )
        elif kind == "CenterCrop":
            cut = (min(step.size[1], scaled[0]), min(step.size[0], scaled[1]))
            shown = (width * cut[0] / scaled[0], height * cut[1] / scaled[1])
        elif kind not in _IN_PLACE:
            raise ValueError(
                f"preprocess: expected steps that resize or crop the centre, got {kind}, of which "
                "it is not known which part of the photo it leaves"
            )
    wide, high = max(round(shown[0]), 1), max(round(shown[1]), 1)
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def resize_mask(mask: Tensor, box: Box, size: tuple[int, int]) -> Tensor:
    """What a mask (H, W) of a photo is in the model's input: (h, w) bool, nearest pixels."""
    left, top, right, bottom = box
    seen = mask[top:bottom, left:right].to(torch.uint8)
    return F.interpolate(seen[None, None], size, mode="nearest-exact")[0, 0].bool()


def _steps(preprocess: Any) -> list[Any]:
    return list(getattr(preprocess, "transforms", []))
