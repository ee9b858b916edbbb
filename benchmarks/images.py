"""Image files as users have them, read into plain RGB."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image file of any kind that PIL knows, the way a viewer shows it.

    Rotated as its EXIF data says, transparency laid over white, 16-bit and floating point
    values brought to 8 bits by scaling (not clipping), the first frame of an animation.

    Args:
        path: The file.

    Returns:
        An image of mode "RGB".

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        ValueError: If it is no image, is damaged, holds too many pixels to be safe, or holds
            values of unknown range.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (4, 2), 255).save(f"{folder}/white.png")
        ...     image = read_image(f"{folder}/white.png")
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (4, 2), (255, 255, 255))
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"no such image: {path}")
    if Path(path).is_dir():
        raise IsADirectoryError(f"expected an image, got a folder: {path}")
    try:
        with warnings.catch_warnings():
            # A large photo is fine; twice PIL's limit is an error all the same.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise ValueError(f"not an image, or of an unknown kind: {path}") from error
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise ValueError(f"too large, more than {limit:,} pixels; scale it down: {path}") from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"cannot read {path}: {reason}") from error


def crop_to_ratio(image: Image.Image, ratio: float = 8.0) -> Image.Image:
    """Cut an elongated image down to ``ratio`` times its shorter side, around its centre.

    Preprocessing that resizes the shorter side and then cuts out the central square keeps
    nothing of what is cut here, yet would first enlarge a 20,000 x 10 image to
    448,000 x 224.

    Args:
        image: Any PIL image.
        ratio: Longer side over shorter side that is still allowed, at least 1.

    Returns:
        The image itself if it is not longer than that, else its central part.

    Example:
        >>> crop_to_ratio(Image.new("RGB", (20_000, 10))).size
        (80, 10)
    """
    width, height = image.size
    longest = int(min(width, height) * ratio)
    new_width, new_height = min(width, longest), min(height, longest)
    if (new_width, new_height) == image.size:
        return image
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return image.crop((left, top, left + new_width, top + new_height))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT_MODES:
        image = _scaled_to_8_bits(image, 65535)
    elif image.mode == "F":
        image = _scaled_to_8_bits(image, 1)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _scaled_to_8_bits(image: Image.Image, white: int) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= white):
        raise ValueError(f"expected values from 0 to {white}, got {low:g} to {high:g}")
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
