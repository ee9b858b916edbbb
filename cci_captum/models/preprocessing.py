"""What a model's preprocessing does to a photo: which part it sees, and how values are scaled.

It is read from the steps of torchvision's and open_clip's transforms. Of any other function it
cannot be known, and is asked for: `Preprocessing` says it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ._steps import IN_PLACE, MOVING, REMEDY, kind, listed_steps, named, steps_of

Preprocess = Callable[[Image.Image], Tensor]
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels


def whole(size: tuple[int, int]) -> Box:
    """The field of view of a preprocessing that leaves all of a photo of this width and height.

    Example:
        >>> whole((640, 480))
        (0, 0, 640, 480)
    """
    return 0, 0, *size


def central_square(size: tuple[int, int]) -> Box:
    """The field of view of one that resizes the shorter side and cuts out the central square.

    Example:
        >>> central_square((640, 480))
        (80, 0, 560, 480)
    """
    side = min(size)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side


@dataclass(frozen=True)
class Preprocessing:
    """A preprocessing whose steps cannot be read, with what has to be known of them.

    Any callable with the three attributes will do.

    Attributes:
        function: From a PIL image to an input (3, H, W) of the model.
        mean: What values in [0, 1] are normalised by, three numbers; zeros where they are not.
        std: The same; ones where they are not normalised.
        field_of_view: From a photo's width and height to the part of it that reaches the model,
            (left, top, right, bottom) in pixels, such as `whole` or `central_square`. Applied to
            a photo that is cut to this part, function must leave all of it.

    Raises:
        TypeError: If function or field_of_view cannot be called.
        ValueError: If mean or std are not three numbers, those of std above zero.

    Example:
        >>> import cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> preprocess = Preprocessing(
        ...     lambda photo: clip.preprocess(photo), (0.5,) * 3, (0.5,) * 3, central_square
        ... )
        >>> preprocess(Image.new("RGB", (640, 480))).shape
        torch.Size([3, 96, 96])
    """

    function: Preprocess
    mean: Sequence[float]
    std: Sequence[float]
    field_of_view: Callable[[tuple[int, int]], Box]

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("function", "field_of_view"):
            if not callable(getattr(self, name)):
                got = type(getattr(self, name)).__name__
                raise TypeError(f"{name}: expected a function, got {got}")
        for name in ("mean", "std"):
            _three_numbers(name, getattr(self, name))

    def __call__(self, photo: Image.Image) -> Tensor:
        """The model's input."""
        return self.function(photo)


def mean_and_std(preprocess: Preprocess) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that values in [0, 1] are normalised by, three numbers each.

    Args:
        preprocess: As `cci_captum.load_clip` returns it, or any callable that has `mean` and
            `std`, such as `Preprocessing`. Steps without a Normalize leave values in [0, 1]: the
            mean is 0 and the standard deviation 1.

    Raises:
        ValueError: If preprocess neither lists its steps nor has these attributes.

    Example:
        >>> import cci_captum
        >>> mean, std = mean_and_std(cci_captum.load_clip("tiny").preprocess)
        >>> round(mean[0], 3), round(std[0], 3)
        (0.481, 0.269)
    """
    if hasattr(preprocess, "mean") and hasattr(preprocess, "std"):
        return _three_numbers("mean", preprocess.mean), _three_numbers("std", preprocess.std)
    steps = steps_of(preprocess)
    if steps is None:
        raise ValueError(
            "preprocess: expected transforms that list their steps, or mean and std as attributes, "
            f"got {named(preprocess)}, of which it is not known how it normalises; {REMEDY}"
        )
    found = [step for step in steps if kind(step) == "Normalize"]
    unknown = [kind(step) for step in steps if not getattr(step, "scale", True)]
    if not found:
        unknown += [kind(step) for step in steps if kind(step) not in (*IN_PLACE, *MOVING)]
    if unknown or len(found) > 1:
        got = ", ".join(unknown) or f"{len(found)} steps Normalize"
        raise ValueError(
            f"preprocess: expected values scaled to [0, 1] and at most one Normalize, got {got}; "
            f"{REMEDY}"
        )
    if not found:
        return (0.0,) * 3, (1.0,) * 3
    return _three_numbers("mean", found[0].mean), _three_numbers("std", found[0].std)


def seen_box(preprocess: Preprocess, size: tuple[int, int]) -> Box:
    """The part of a photo that reaches the model: all of it, or what a central crop leaves.

    Args:
        preprocess: As `cci_captum.load_clip` returns it, or any callable that has
            `field_of_view`, such as `Preprocessing`.
        size: Width and height of the photo.

    Raises:
        ValueError: If preprocess neither lists its steps nor has this attribute; or has steps
            that neither resize nor crop the centre, so that it is not known what they do to the
            photo.

    Example:
        >>> import cci_captum
        >>> seen_box(cci_captum.load_clip("tiny").preprocess, (640, 480))
        (80, 0, 560, 480)
    """
    own = getattr(preprocess, "field_of_view", None)
    if own is not None:
        return checked_box(own(size), size)
    width, height = size
    shown = (float(width), float(height))
    scaled = shown
    for step in listed_steps(preprocess):
        name = kind(step)
        if name == "Resize":
            sides = step.size if isinstance(step.size, (tuple, list)) else [step.size]
            factor = sides[0] / min(width, height)
            scaled = (
                (width * factor, height * factor)
                if len(sides) == 1
                else (float(sides[1]), float(sides[0]))
            )
        elif name == "CenterCrop":
            cut = (min(step.size[1], scaled[0]), min(step.size[0], scaled[1]))
            shown = (width * cut[0] / scaled[0], height * cut[1] / scaled[1])
        elif name not in IN_PLACE:
            raise ValueError(
                f"preprocess: expected steps that resize or crop the centre, got {name}, of which "
                f"it is not known which part of the photo it leaves; {REMEDY}"
            )
    wide, high = max(round(shown[0]), 1), max(round(shown[1]), 1)
    left, top = (width - wide) // 2, (height - high) // 2
    return left, top, left + wide, top + high


def check_seen_box(preprocess: Preprocess) -> None:
    """Raise ValueError unless `seen_box` can be told of preprocess."""
    if not hasattr(preprocess, "field_of_view"):
        seen_box(preprocess, (2, 2))


def resize_mask(mask: Tensor, box: Box, size: tuple[int, int]) -> Tensor:
    """What a mask (H, W) of a photo is in the model's input: (h, w) bool, nearest pixels."""
    left, top, right, bottom = box
    seen = mask[top:bottom, left:right].to(torch.uint8)
    return F.interpolate(seen[None, None], size, mode="nearest-exact")[0, 0].bool()


def _three_numbers(name: str, values: Sequence[float]) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or (name == "std" and not min(numbers) > 0):
        positive = "positive " if name == "std" else ""
        raise ValueError(f"{name}: expected three {positive}numbers, got {values!r}")
    return numbers


def checked_box(box: Any, size: tuple[int, int]) -> Box:
    """What a `field_of_view` of the user's said, if it is a part of the photo."""
    try:
        left, top, right, bottom = (int(edge) for edge in box)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"field_of_view: expected (left, top, right, bottom) in pixels, got {box!r}"
        ) from error
    if not (0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]):
        raise ValueError(
            f"field_of_view: expected a part of a photo of {size[0]} x {size[1]} pixels, got {box}"
        )
    return left, top, right, bottom
