"""Images inside a page."""

from __future__ import annotations

import base64
from io import BytesIO

from PIL import Image

from ..images import size_within

_LONGEST = 640  # pixels
_FEW = 256  # pixels: shown enlarged, where the blocks of a JPEG would be seen
_QUALITY = 88


def data_uri(image: Image.Image) -> str:
    """An RGB image as a data URI, scaled down to 640 pixels: JPEG, or PNG up to 256 pixels."""
    size = size_within(image.size, _LONGEST)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    held = BytesIO()
    if max(image.size) <= _FEW:
        kind = "png"
        image.save(held, "PNG", optimize=True)
    else:
        kind = "jpeg"
        image.save(held, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/{kind};base64,{base64.b64encode(held.getvalue()).decode()}"
