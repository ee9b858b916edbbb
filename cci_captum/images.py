"""Image files as users have them, read into plain RGB."""

from __future__ import annotations

import errno
import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from .names import readable

_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_SIXTEEN_BIT_FORMATS = ("PNG", "PPM")  # of which Pillow also gives 16 bits as mode "I"
_SIXTEEN_BITS = 65535
_BYTES = 8  # of a pixel in a file, at most: four channels of 16 bits
# What the system says to a decoder that goes where a damaged file sends it.
_OF_CONTENT = (errno.EINVAL, errno.EOVERFLOW)
# Orientation in EXIF data (Exif 3.0, 4.6.5.1.6), from 2: how to bring an image upright.
_TURNS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90"
# What Pillow reads an orientation from, which holds no more once an image is turned.
_ORIENTED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
_STEPS = {"L;2": 85, "L;4": 17}  # PNG: a grey level of 2 or 4 bits, in levels of 8 bits


def read_image(path: str | os.PathLike[str]) -> Image.Image:
    """Read an image file of any kind that PIL knows, the way a viewer shows it.

    Rotated as its EXIF data says, transparency laid over white, the first frame of an animation.
    Values of more than 8 bits are brought to 8 by scaling (not clipping), by what is white:

    - 65535 in files of 16 bits, grey or in colours; a UserWarning says so where no value has the
      highest bit, since the 12 bits of a camera are then nearly black;
    - in whole numbers of 32 bits, whose range no file says, 255 where no value is larger, else
      65535; a UserWarning says which;
    - 1 in floating point numbers.

    Args:
        path: The file.

    Returns:
        An image of mode "RGB".

    Raises:
        FileNotFoundError: If there is no such file.
        IsADirectoryError: If it is a folder.
        OSError: If the system cannot give the file now, which says nothing about what is in it.
        ValueError: If it is no image, is damaged, holds more pixels than twice
            `PIL.Image.MAX_IMAGE_PIXELS` (178,956,970) or eight times as many bytes, or holds
            values below zero or above what is white.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (4, 2), 255).save(f"{folder}/white.png")
        ...     image = read_image(f"{folder}/white.png")
        >>> image.mode, image.size, image.getpixel((0, 0))
        ('RGB', (4, 2), (255, 255, 255))
    """
    image, scaling = read_with_scaling(path)
    if scaling:
        warnings.warn(f"{readable(path)}: {scaling}", UserWarning, stacklevel=2)
    return image


def read_with_scaling(path: str | os.PathLike[str]) -> tuple[Image.Image, str]:
    """Read as `read_image` does, and return what it would warn about instead; "" for nothing.

    Args:
        path: The file.

    Raises:
        OSError: See `read_image`.
        ValueError: See `read_image`.
    """
    return decode_with_scaling(content_of(path), readable(path))


def content_of(path: str | os.PathLike[str]) -> bytes:
    """All of an image file, so that what goes wrong later is wrong with what is in it.

    Args:
        path: The file.

    Raises:
        OSError: See `read_image`.
        ValueError: If the file is larger than any image that is read.
    """
    name = readable(path)
    try:
        with Path(path).open("rb") as file:
            most = _BYTES * _most_pixels()
            if most and os.fstat(file.fileno()).st_size > most:
                raise _too_large(f"{most:,} bytes", name)
            return file.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"no such image: {name}") from error
    except OSError as error:
        if Path(path).is_dir():
            raise IsADirectoryError(f"expected an image, got a folder: {name}") from error
        raise OSError(error.errno, f"cannot read {name} now: {error.strerror}") from error


def decode_with_scaling(content: bytes, name: str) -> tuple[Image.Image, str]:
    """Read the content of an image file as `read_with_scaling` does the file.

    Args:
        content: Of a file of any kind that PIL knows.
        name: Says in errors which image it is.

    Raises:
        ValueError: See `read_image`.
    """
    with errors_named(name), Image.open(io.BytesIO(content)) as image:
        return _converted(image)


def convert_with_scaling(image: Image.Image, name: str) -> tuple[Image.Image, str]:
    """An image that is open already, as `read_with_scaling` gives that of a file.

    Args:
        image: Of any mode; it stays as it is, but is loaded.
        name: Says in errors which image it is.

    Returns:
        An image of mode "RGB" that is a copy, and what was taken for granted or "".

    Raises:
        ValueError: See `read_image`.

    Example:
        >>> convert_with_scaling(Image.new("LA", (4, 2), (0, 0)), "a")[0].getpixel((0, 0))
        (255, 255, 255)
    """
    with errors_named(name):
        return _converted(image)


def could_not_be_read_now(error: OSError | ValueError) -> bool:
    """Whether the system could not give a file, which may well be whole: to be asked for again.

    Else the error says something about the image. Decoders raise OSError, too, without a number;
    and an error that is a ValueError besides, as of a file that was never there, is a fact.

    Example:
        >>> could_not_be_read_now(OSError(errno.EIO, "Input/output error"))
        True
        >>> could_not_be_read_now(OSError("image file is truncated"))
        False
    """
    if isinstance(error, ValueError):
        return False
    return isinstance(error, FileNotFoundError) or error.errno not in (None, *_OF_CONTENT)


def _converted(image: Image.Image) -> tuple[Image.Image, str]:
    transparent, wide = _transparent(image), _has_wide_colours(image)
    image.load()
    scaling = _scaling(image, wide)
    upright, turning = _upright(image)
    note = "; ".join(filter(None, [scaling.note, turning]))
    return _to_rgb(upright, scaling.white, transparent), note


def _upright(image: Image.Image) -> tuple[Image.Image, str]:
    """An image as its EXIF or XMP data say it is seen, itself where they say nothing; a note.

    Pillow's own `ImageOps.exif_transpose` refuses images whose other EXIF data are damaged.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return image, "its EXIF data are damaged: taken as it lies in the file"
    if not isinstance(orientation, int) or not 2 <= orientation <= 8:
        return image, ""
    turned = image.transpose(Image.Transpose[_TURNS.split()[orientation - 2]])
    for name in _ORIENTED:
        turned.info.pop(name, None)
    return turned, ""


def _most_pixels() -> int:
    """Of an image that Pillow opens; 0 where its user has lifted the limit."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 0)


def _too_large(limit: str, name: str) -> ValueError:
    return ValueError(f"too large, more than {limit}; scale it down: {name}")


@contextmanager
def errors_named(name: str) -> Iterator[None]:
    """Raise what Pillow raises as a ValueError that says which image it is.

    Pillow says of a damaged file whatever its decoders say, RuntimeError and struct.error among
    it. What the system says, and that there is no memory, is raised as it is.
    """
    try:
        with warnings.catch_warnings():
            # A large photo is fine; twice PIL's limit is an error all the same.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except UnidentifiedImageError as error:
        raise ValueError(f"not an image, or of an unknown kind: {name}") from error
    except Image.DecompressionBombError as error:
        raise _too_large(f"{_most_pixels():,} pixels", name) from error
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and could_not_be_read_now(error):
            raise
        first = str(error).partition("\n")[0]
        reason = re.sub(r" \(.*", "", first) or type(error).__name__  # without bytes and headers
        raise ValueError(f"cannot be read, {reason}: {name}") from error


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


def size_within(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Width and height scaled down so that neither is above `longest`; as they are if none is.

    Example:
        >>> size_within((4000, 3000), 640), size_within((40, 30), 640)
        ((640, 480), (40, 30))
    """
    factor = min(longest / max(size), 1.0)
    return max(round(size[0] * factor), 1), max(round(size[1] * factor), 1)


class _Scaling(NamedTuple):
    white: int | None  # the value that becomes 255; None where nothing is scaled
    note: str  # what had to be taken for granted


def _scaling(image: Image.Image, wide: bool) -> _Scaling:
    """How an image's values are brought to 8 bits; wide: whether Pillow did so, by 16."""
    if wide:
        largest = int(np.asarray(image)[..., :3].max())
        note = (
            f"colours of 16 bits, of which the largest value is about {largest * 257}: divided by "
            f"{_SIXTEEN_BITS}, so that it is dark; if less than that means white, multiply it first"
        )
        return _Scaling(None, note if largest < 128 else "")
    if image.mode == "F":
        return _Scaling(1, "")
    of_16_bits = image.mode in _SIXTEEN_BIT_MODES
    if not of_16_bits and image.mode != "I":
        return _Scaling(None, "")
    largest = int(np.asarray(image).max())
    if of_16_bits or image.format in _SIXTEEN_BIT_FORMATS:
        bits = largest.bit_length()
        note = (
            f"grey of 16 bits, of which the largest value, {largest}, needs {bits}: divided by "
            f"{_SIXTEEN_BITS}, so that it is dark; if {2**bits - 1} means white, multiply it first"
        )
        return _Scaling(_SIXTEEN_BITS, note if 0 < bits < 16 else "")
    white = 255 if largest <= 255 else _SIXTEEN_BITS
    note = f"whole numbers of unknown range, the largest {largest}: divided by {white}"
    return _Scaling(white, note if largest else "")


def _transparent(image: Image.Image) -> int | tuple[int, ...] | None:
    """The value of a PNG's transparent pixels, in the units of the pixels that Pillow gives.

    Pillow leaves it in the units of the file. Known only before the image is loaded.
    """
    value = image.info.get("transparency")
    rawmode = _layout(image)
    if isinstance(value, int) and isinstance(rawmode, str):
        return value * _STEPS.get(rawmode, 1)
    if isinstance(value, tuple) and rawmode == "RGB;16B":
        return tuple(channel >> 8 for channel in value)  # all that Pillow reads of 16 bits
    return value if isinstance(value, tuple) else None


def _layout(image: Image.Image) -> Any:
    """How values lie in the file, in Pillow's terms; "" where that is not known. Before loading."""
    return next((tile[3] for tile in getattr(image, "tile", [])), "")


def _has_wide_colours(image: Image.Image) -> bool:
    """Whether the file has colours of 16 bits, of which Pillow gives 8. Before loading."""
    layout = _layout(image)
    if image.format == "PPM":
        return image.mode == "RGB" and layout[1:] == (_SIXTEEN_BITS,)
    first = layout[0] if isinstance(layout, tuple) and layout else layout
    return isinstance(first, str) and first.startswith(("RGB;16", "RGBA;16", "RGBX;16"))


def _to_rgb(
    image: Image.Image, white: int | None, transparent: int | tuple[int, ...] | None
) -> Image.Image:
    alpha = None
    bands = 1 if isinstance(transparent, int) else 3
    if transparent is not None and image.mode != "P" and len(image.getbands()) == bands:
        values = np.asarray(image)
        alpha = (values != transparent).reshape(*values.shape[:2], -1).any(axis=2)
    if white is not None:
        image = _scaled_to_8_bits(image, white)
    if alpha is not None:
        image = image.convert("RGB")
        image.putalpha(Image.fromarray(alpha.astype(np.uint8) * 255))
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


def _scaled_to_8_bits(image: Image.Image, white: int) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= white):
        raise ValueError(f"expected values from 0 to {white}, got {low:g} to {high:g}")
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
