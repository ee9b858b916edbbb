"""What takes the compositor's place: a generative editor, as a callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from .cutout import STILL, Background, Cutout, image_of, layer_of, visible_share
from .transformations import Transformation
from .warping import transformed, warp


class Edited(NamedTuple):
    """An edited photo.

    Attributes:
        picture: Square, of mode "RGB".
        mask: (H, W) bool, the object in it; None where the editor does not say.
        visible: Which share of the object is within the picture.
    """

    picture: Image.Image
    mask: NDArray[np.bool_] | None = None
    visible: float = 1.0


class Editor(Protocol):
    """What puts an object onto a background: `Compositor`, or a generative model of one's own.

    It is given the square of the photo that holds the object, at the photo's own resolution.
    """

    def __call__(
        self,
        photo: Image.Image,
        mask: NDArray[np.bool_],
        background: Background,
        transformation: Transformation,
    ) -> Edited | Image.Image:
        """An edited photo, or its picture alone."""
        ...


def edited(
    editor: Editor,
    cutout: Cutout,
    background: Background,
    transformation: Transformation,
    size: int,
    segment: Callable[[Image.Image], NDArray[np.bool_] | None] | None = None,
) -> Edited:
    """What an editor makes of a photo, in the size of a design.

    Args:
        editor: What is asked.
        cutout: The photo's square, with its object.
        background: See `Editor`.
        transformation: See `Editor`.
        size: Height and width of what is made.
        segment: Finds the object again in what the editor made, (H, W) bool or None where there
            is none: an editor may move the object, or draw another. None believes the editor's
            mask or, where it gives none, that the object is where `Compositor` would have put it.

    Raises:
        ValueError: If the editor gives no square picture, or a mask of another size.

    Example:
        >>> from .transformations import ORIGINAL
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[2:6, 2:6] = True
        >>> cutout = Cutout.of(Image.new("RGB", (8, 8)), mask)
        >>> def paint(photo, mask, background, transformation):
        ...     return Image.composite(photo, background.picture, Image.fromarray(mask))
        >>> sky = Background("sky", Image.new("RGB", (8, 8), "blue"))
        >>> made = edited(paint, cutout, sky, ORIGINAL, 4)
        >>> made.picture.getpixel((0, 0)), made.mask.astype(int).tolist()[1]
        ((0, 0, 255), [0, 1, 1, 0])
    """
    photo, mask = image_of(cutout.picture), cutout.mask.numpy()
    found = editor(photo, mask, background, transformation)
    if isinstance(found, Image.Image):
        found = Edited(found)
    picture = found.picture.convert("RGB")
    if picture.width != picture.height:
        raise ValueError(
            f"editor: expected a square picture, got {picture.width} x {picture.height} pixels"
        )
    centre, half, corners = cutout.box
    matrix = transformation.placed(centre, half)
    own = found.mask
    if segment is not None:
        own = segment(picture)
        own = np.zeros((picture.height, picture.width), dtype=bool) if own is None else own
    if own is None:
        layer, at = cutout.mask, matrix
    elif own.shape != (picture.height, picture.width):
        raise ValueError(
            f"editor: expected a mask as large as its picture, got {own.shape[1]} x {own.shape[0]}"
        )
    else:
        layer, at = torch.from_numpy(np.ascontiguousarray(own)), STILL
    coverage = warp(layer[None].float(), at, size, "zeros")[0]
    visible = visible_share(matrix, cutout, transformed(matrix, corners))
    made = image_of(warp(layer_of(picture), STILL, size))
    return Edited(made, (coverage >= 0.5).numpy(), visible)
