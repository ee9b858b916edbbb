"""Objects pasted onto other backgrounds, moved, with exact masks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cci_captum._checks import check_positive_int

from .cutout import STILL, Background, Cutout, Moved, image_of, visible_share
from .editors import Edited
from .transformations import ORIGINAL, Transformation
from .warping import blurred, box_of, transformed, warp


class Compositor:
    """Puts an object onto a background, under a homography of either or both.

    The object's colours are continued beyond its edge from within it, so that nothing of its old
    background shows; its edge is that of its mask, blurred. A pixel is
    alpha x object + (1 - alpha) x background, and belongs to the mask where alpha is 0.5 or more.
    Where a picture is moved, its background is mirrored into what would be empty. What leaves the
    picture is cut off.

    Args:
        size: Height and width of what is made, in pixels.
        feather: Width of the edge in pixels of what is made: alpha is the share of a pixel that
            the object covers, blurred by a Gaussian of a sigma of half this.
        colour: How much the object takes on the colours of what is behind it, 0 to 1: each channel
            of it becomes x + colour x ((x - m) s' / s + m' - x), where m and s are the channel's
            mean and standard deviation in the object, m' and s' those in the background. Where s
            is 0, s' / s is 1.

    Raises:
        TypeError: If size is no int.
        ValueError: If an argument is out of its range.

    Example:
        >>> photo, mask = Image.new("RGB", (40, 30), "red"), np.zeros((30, 40), bool)
        >>> mask[10:20, 10:20] = True
        >>> made = Compositor(size=20)(photo, mask, Background("sky", Image.new("RGB", (8, 8))))
        >>> made.picture.getpixel((6, 9)), made.picture.getpixel((1, 1)), float(made.mask.mean())
        ((255, 0, 0), (0, 0, 0), 0.105)
    """

    def __init__(self, size: int = 224, *, feather: float = 1.0, colour: float = 0.0) -> None:
        check_positive_int("size", size)
        if not 0 <= feather <= size / 4:
            raise ValueError(
                f"feather: expected 0 to {size / 4:g} pixels, a quarter of size, got {feather}"
            )
        if not 0 <= colour <= 1:
            raise ValueError(f"colour: expected a number from 0 to 1, got {colour}")
        self.size, self.feather, self.colour = size, feather, colour

    def __repr__(self) -> str:
        return f"Compositor({self.size}, feather={self.feather:g}, colour={self.colour:g})"

    def __call__(
        self,
        photo: Image.Image,
        mask: NDArray[np.bool_],
        background: Background,
        transformation: Transformation = ORIGINAL,
    ) -> Edited:
        """The object of a photo on a background.

        Args:
            photo: Of mode "RGB".
            mask: (H, W) bool, as large as the photo.
            background: With a picture.
            transformation: Of the object, or of the picture.

        Raises:
            ValueError: If mask and photo differ in size, or the object is not to be seen.
        """
        return self.compose(Cutout.of(photo, mask), background, transformation)

    def photo(self, cutout: Cutout) -> Edited:
        """The square of a photo as it is, and its object's mask."""
        picture = warp(cutout.picture, STILL, self.size)
        coverage = warp(cutout.mask[None].float(), STILL, self.size, "zeros")[0]
        return Edited(image_of(picture), (coverage >= 0.5).numpy())

    def compose(
        self, cutout: Cutout, background: Background, transformation: Transformation = ORIGINAL
    ) -> Edited:
        """The same of a photo that was cut out before: what its images share is done once."""
        size = self.size
        key = (size, self.feather, transformation)
        if key not in cutout.moved:
            cutout.moved[key] = self._moved(cutout, transformation)
        moved = cutout.moved[key]
        still = transformation.moves == "object"
        matrix = STILL if still else np.array(transformation.matrix)
        picture = background.under(matrix, size).clone()
        if moved.box is not None:
            left, top, right, bottom = moved.box
            part = picture[:, top:bottom, left:right]
            part += moved.alpha * (self._matched(moved.colours, cutout, background) - part)
        return Edited(image_of(picture), moved.mask, moved.visible)

    def _moved(self, cutout: Cutout, transformation: Transformation) -> Moved:
        """An object by itself, where a transformation puts it."""
        centre, half, corners = cutout.box
        matrix = transformation.placed(centre, half)
        corners = transformed(matrix, corners)
        visible = visible_share(matrix, cutout, corners)
        mask = np.zeros((self.size, self.size), dtype=bool)
        box = box_of(corners, self.size, 2 + int(np.ceil(2 * self.feather)))
        if box is None:
            return Moved(None, torch.empty(0), torch.empty(0), mask, visible)
        left, top, right, bottom = box
        alpha = warp(cutout.mask[None].float(), matrix, self.size, "zeros", box)
        alpha = blurred(alpha, self.feather / 2)
        colours = warp(cutout.colours, matrix, self.size, "border", box)
        mask[top:bottom, left:right] = (alpha[0] >= 0.5).numpy()
        return Moved(box, alpha, colours, mask, visible)

    def _matched(self, colours: Tensor, cutout: Cutout, background: Background) -> Tensor:
        """The object's colours, moved towards those of the background as it was before it moved."""
        if not self.colour:
            return colours
        mean, spread = cutout.colour_statistics
        behind = background.under(STILL, self.size).double().flatten(1)
        ratio = torch.where(spread > 0, behind.std(dim=1, correction=0) / spread, 1.0)
        gain = 1 + self.colour * (ratio - 1)
        shift = self.colour * (behind.mean(dim=1) - mean * ratio)
        matched = colours * gain[:, None, None] + shift[:, None, None]
        return matched.float().clamp(0, 1)
