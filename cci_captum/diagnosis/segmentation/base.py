"""What says where the object is in a photo: one mask an image, or why there is none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import nan
from typing import NamedTuple, Protocol

from PIL import Image
from torch import Tensor

from ...names import readable

NO_DETECTION = "no detection"  # the detector found no box of the class
SEVERAL_BOXES = "several boxes"  # more than one, where the user asked to have no mask then
EMPTY_MASK = "empty mask"  # not one pixel
LONG_NAME = "name too long"  # for the detector to read
FAILED = "failed"  # a model raised an error, which a warning gives
NO_FILE = "no mask file"
DAMAGED = "damaged mask"  # a warning says how
WRONG_SIZE = "mask of another size"  # a warning says which
UNKNOWN_CLASS = "unknown class"  # the masks' data have no such class, or none was named
NOT_IN_MASK = "class not in mask"  # the mask has other classes only

STATUSES = (
    NO_DETECTION,
    SEVERAL_BOXES,
    EMPTY_MASK,
    LONG_NAME,
    FAILED,
    NO_FILE,
    DAMAGED,
    WRONG_SIZE,
    UNKNOWN_CLASS,
    NOT_IN_MASK,
)


class Segmentation(NamedTuple):
    """Where the object is in one image, or why that is not known.

    An image without a mask is not all background: nothing is known of it.

    Attributes:
        mask: (H, W) bool on the CPU at the image's own size, with at least one pixel; None where
            there is none.
        status: "" where there is a mask, else one of `STATUSES`.
        score: The detector's, of the best box used; nan where there is no detector or no box.

    Example:
        >>> import torch
        >>> Segmentation(torch.ones(2, 3, dtype=torch.bool)).status, Segmentation(None, NO_FILE)
        ('', Segmentation(mask=None, status='no mask file', score=nan))
    """

    mask: Tensor | None
    status: str = ""
    score: float = nan


class Segmenter(Protocol):
    """Finds one object in each image.

    What is wrong with one image is its status, and never an error that loses the others.

    Example:
        >>> import torch
        >>> def left_half(images, class_names, names):
        ...     masks = [torch.zeros(im.height, im.width, dtype=torch.bool) for im in images]
        ...     for mask in masks:
        ...         mask[:, : mask.shape[1] // 2] = True
        ...     return [Segmentation(mask) for mask in masks]
        >>> segmenter: Segmenter = left_half
        >>> segmenter([Image.new("RGB", (4, 2))], ["cat"], ["1.jpg"])[0].mask.tolist()
        [[True, True, False, False], [True, True, False, False]]
    """

    def __call__(
        self, images: Sequence[Image.Image], class_names: Sequence[str], names: Sequence[str]
    ) -> list[Segmentation]:
        """Where the object is in every image.

        Args:
            images: Photos of mode "RGB", of any sizes.
            class_names: What to look for in each, one class an image.
            names: Says which image each is: a path, or a name that is unique in its data, as
                those of samples are.

        Returns:
            One an image, in their order.
        """
        ...


def check_call(
    images: Sequence[Image.Image], class_names: Sequence[str], names: Sequence[str]
) -> None:
    """Raise unless these are the arguments of a `Segmenter`.

    Raises:
        TypeError: If an image is none of PIL, or a name no string.
        ValueError: If there are not as many of each, or an image is of another mode than "RGB".
    """
    for argument, texts in (("class_names", class_names), ("names", names)):
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError(f"{argument}: expected a string for each image, got {texts!r:.80}")
        if len(texts) != len(images):
            raise ValueError(
                f"{argument}: expected one for each of {len(images)} images, got {len(texts)}"
            )
    for index, image in enumerate(images):
        if not isinstance(image, Image.Image):
            raise TypeError(
                f"images[{index}]: expected an image of PIL, got {type(image).__name__}"
            )
        if image.mode != "RGB":
            raise ValueError(
                f"images[{index}]: expected mode 'RGB', as read_image gives it, got {image.mode!r}"
            )


def without_mask(status: str, name: str, reason: object = "") -> Segmentation:
    """No mask, because of this; warn of the reason, where there is one to give."""
    if reason:
        warnings.warn(f"{readable(name)}: {status}: {reason}", UserWarning, stacklevel=3)
    return Segmentation(None, status)
