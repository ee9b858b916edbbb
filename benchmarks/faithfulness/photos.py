"""Photos as tensors of pixels and back, for the protocol that perturbs them at their own size."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_SHORTER_SIDE = 640  # Grad-ECLIP, arXiv 2502.18816: the most that the shorter side may have


def scaled_down(photo: Image.Image) -> Image.Image:
    """The photo itself, or where its shorter side has more than 640 pixels, one of 640.

    Example:
        >>> scaled_down(Image.new("RGB", (1920, 1280))).size
        (960, 640)
    """
    scale = _SHORTER_SIDE / min(photo.size)
    if scale >= 1:
        return photo
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
