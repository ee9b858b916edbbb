"""Images as arrays, tensors, PIL images and bytes, brought to plain RGB like files."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from cci_captum.images import convert_with_scaling, decode_with_scaling

_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_ROUNDING = 0.5 / 255  # this far outside of 0 to 1, a float is still nearest to 0 or to 255


class Picture(NamedTuple):
    """An image of mode "RGB", and what was taken for granted or ""."""

    image: Image.Image
    note: str


def to_image(value: Any, name: str) -> Picture:
    """An image in memory as RGB, as `cci_captum.benchmarks.data.MapStyle` says.

    Args:
        value: A PIL image, the content of a file, an array (H, W) or (H, W, C), or a tensor (H, W)
            or (C, H, W).
        name: Says in errors which image it is.

    Raises:
        TypeError: If it is something else, or its numbers are of another type.
        ValueError: If it is None, its shape is not one of these, or its values are out of range.

    Example:
        >>> to_image(np.zeros((2, 3), dtype=bool), "a").image.size
        (3, 2)
    """
    if value is None:
        raise ValueError(f"image: expected an image, got None: {name}")
    if isinstance(value, Image.Image):
        return Picture(*convert_with_scaling(value, name))
    if isinstance(value, bytes):
        return Picture(*decode_with_scaling(value, name))
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        pixels = (tensor.double() if tensor.is_floating_point() else tensor).numpy()
        shape, first = tuple(value.shape), True
    elif isinstance(value, np.ndarray):
        pixels, shape, first = value, value.shape, False
    else:
        raise TypeError(
            "image: expected an image of PIL, a path, bytes, an array or a tensor, got "
            f"{type(value).__name__}: {name}"
        )
    pixels = _channels_last(pixels, shape, first, name)
    if pixels.dtype == np.uint16 and pixels.shape[2] == 1:  # as a file's, with its note
        return Picture(*convert_with_scaling(Image.fromarray(pixels[..., 0]), name))
    bytes_ = _eight_bits(pixels, name)
    squeezed = bytes_[..., 0] if bytes_.shape[2] == 1 else bytes_
    image = Image.fromarray(np.ascontiguousarray(squeezed))
    return Picture(*convert_with_scaling(image, name))


def _channels_last(
    pixels: np.ndarray, shape: tuple[int, ...], first: bool, name: str
) -> np.ndarray:
    """(H, W, C) of an image of 2 or 3 dimensions, channels first or last."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    elif pixels.ndim == 3 and first:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim != 3 or pixels.shape[2] not in _MODES or not pixels.size:
        kind, order = ("a tensor", "(C, H, W)") if first else ("an array", "(H, W, C)")
        raise ValueError(
            f"image: expected {kind} (H, W) or {order} with 1 to 4 channels, got shape {shape}: "
            f"{name}"
        )
    return pixels


def _eight_bits(pixels: np.ndarray, name: str) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        return np.rint(pixels / 257).astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(
            f"image: expected numbers of type uint8, uint16, bool or floating point, got "
            f"{pixels.dtype}: {name}"
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
        hint = (
            "from 0 to 255, they should be uint8"
            if low >= 0 and 16 < high <= 255
            else "if a transform normalises, leave that to the model's preprocess"
        )
        raise ValueError(
            f"image: expected floating point numbers from 0 to 1, got {low:g} to {high:g}; {hint}: "
            f"{name}"
        )
    return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)
