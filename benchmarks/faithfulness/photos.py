"""Photos as tensors of pixels and back, for the protocol that perturbs them at their own size."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .protocols import Rounding

_SHORTER_SIDE = 640  # Grad-ECLIP, arXiv 2502.18816: the most that the shorter side may have


def scaled_down(photo: Image.Image, rounding: Rounding = "nearest") -> Image.Image:
    """The photo itself, or where its shorter side has more than 640 pixels, one of 640.

    Args:
        photo: Of any mode.
        rounding: Of the sides; "down" takes the whole part of each side over the quotient of the
            shorter one and 640, which may leave that at 639.

    Example:
        >>> scaled_down(Image.new("RGB", (1920, 1280))).size
        (960, 640)
    """
    shorter = min(photo.size)
    if shorter <= _SHORTER_SIDE:
        return photo
    if rounding == "down":
        width, height = (int(side / (shorter / _SHORTER_SIDE)) for side in photo.size)
    else:
        scale = _SHORTER_SIDE / shorter
        width, height = (max(round(side * scale), _SHORTER_SIDE) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.BICUBIC)


def to_pixels(photo: Image.Image) -> Tensor:
    """The values of a photo of mode "RGB" in [0, 1], (1, 3, H, W) float32."""
    values = np.asarray(photo, dtype=np.float32) / 255
    return torch.from_numpy(values).permute(2, 0, 1)[None]


def to_photo(pixels: Tensor) -> Image.Image:
    """The photo of pixels (1, 3, H, W) in [0, 1], with 8 bits a channel.

    Intervals of equal width become each of the 256 values, so that uniform noise stays uniform;
    of `to_pixels` it is the exact inverse.
    """
    values = (pixels[0] * 256).floor().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).cpu().numpy())
