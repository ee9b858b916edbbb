"""Mask files: which one belongs to an image, and how it is read."""

from __future__ import annotations

import io
import os
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .images import content_of, errors_named
from .names import readable


def mask_names(image: str) -> tuple[str, str]:
    """The names that the mask of an image may have, the one that counts where both are there first.

    Args:
        image: The image's name or path.

    Returns:
        With .png added, and with .png in place of the suffix.

    Example:
        >>> mask_names("cat/1.jpg")
        ('cat/1.jpg.png', 'cat/1.png')
    """
    return f"{image}.png", str(PurePosixPath(image).with_suffix(".png"))


def decode_mask(path: str | os.PathLike[str]) -> Tensor:
    """The mask in a file, of any size.

    Args:
        path: An image file, such as a PNG. It is not rotated, whatever its EXIF data say.

    Returns:
        (H, W) bool: the pixels that are not zero in any channel but transparency.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If the system cannot give the file now.
        ValueError: If it is no image, or damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     image = Image.new("L", (3, 2))
        ...     image.putpixel((2, 0), 1)
        ...     image.save(f"{folder}/mask.png")
        ...     mask = decode_mask(f"{folder}/mask.png")
        >>> mask.tolist()
        [[False, False, True], [False, False, False]]
    """
    with errors_named(_called(path)), Image.open(io.BytesIO(content_of(path))) as file:
        values, bands = np.asarray(file), file.getbands()
    high, wide = values.shape[:2]
    object_ = values.reshape(high, wide, -1)[..., : len(bands) - ("A" in bands)].any(axis=-1)
    return torch.from_numpy(object_)


def read_mask(path: Path, size: tuple[int, int]) -> Tensor:
    """The mask in a file, which has to be one of an image of this size.

    Args:
        path: See `decode_mask`.
        size: Width and height of the image as it is shown, rotated as its EXIF data say.

    Returns:
        (H, W) bool.

    Raises:
        OSError: See `decode_mask`.
        ValueError: If the file is damaged, of another size, or zero everywhere.
    """
    mask = decode_mask(path)
    high, wide = mask.shape
    if (wide, high) != size:
        raise ValueError(
            f"expected the size of the image as it is shown, got another: {_called(path)} "
            f"({wide} x {high}, not {size[0]} x {size[1]})"
        )
    if not mask.any():
        raise ValueError(f"zero everywhere: {_called(path)}")
    return mask


def _called(path: str | os.PathLike[str]) -> str:
    return f"the mask {readable(path)}"
