"""Where in a photo a model's input lies, exactly, also where it is padded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ._steps import IN_PLACE, REMEDY, CenterCrop, kind, listed_steps
from .preprocessing import Preprocess, checked_box

Area = tuple[float, float, float, float]  # left, top, right, bottom, in pixels of the photo


@dataclass(frozen=True)
class _Side:
    """The width, or the height, of what a photo has become."""

    start: float  # where it begins in the photo, in the photo's pixels
    scale: float  # the photo's pixels in one of its own
    length: int  # of its own pixels

    def resized(self, length: int) -> _Side:
        return _Side(self.start, self.scale * self.length / length, length)

    def cut(self, first: int, length: int) -> _Side:
        """From its pixel `first` on, which may lie before its own first one."""
        return replace(self, start=self.start + self.scale * first, length=length)


def seen_area(preprocess: Preprocess, size: tuple[int, int]) -> Area:
    """The rectangle of a photo that a model's input shows, in pixels of the photo.

    Unlike `seen_box`, whose edges are whole pixels of a central part, this follows the sizes that
    resizing rounds and the margins that a crop of an odd size leaves, and reaches beyond the photo
    where the input is padded.

    Args:
        preprocess: As `cci_captum.load_clip` returns it: steps that resize, crop the centre or pad
            around it; or any callable that has `field_of_view`, such as `Preprocessing`.
        size: Width and height of the photo.

    Returns:
        left, top, right, bottom; left and top are negative where the input is padded there.

    Raises:
        ValueError: If preprocess neither lists its steps nor has a field of view; or has steps of
            which it is not known where they move the photo to.

    Example:
        >>> import cci_captum
        >>> seen_area(cci_captum.load_clip("tiny").preprocess, (640, 480))
        (80.0, 0.0, 560.0, 480.0)
    """
    own = getattr(preprocess, "field_of_view", None)
    if own is not None:
        left, top, right, bottom = checked_box(own(size), size)
        return float(left), float(top), float(right), float(bottom)
    sides = (_Side(0.0, 1.0, size[0]), _Side(0.0, 1.0, size[1]))
    for step in listed_steps(preprocess):
        move = _MOVES.get(kind(step))
        if move is not None:
            sides = move(step, sides)
        elif kind(step) not in IN_PLACE:
            raise ValueError(
                "preprocess: expected steps that resize, crop or pad around the centre, got "
                f"{kind(step)}, of which it is not known which part of the photo it leaves; "
                f"{REMEDY}"
            )
    ends = [side.start + side.scale * side.length for side in sides]
    return sides[0].start, sides[1].start, ends[0], ends[1]


_Sides = tuple[_Side, _Side]


def _resize(step: Any, sides: _Sides) -> _Sides:
    """torchvision's: both sides, or the shorter one, the longer rounded down."""
    wanted = [step.size] if isinstance(step.size, int) else [*step.size]
    width, height = (side.length for side in sides)
    if len(wanted) == 2:
        lengths = (wanted[1], wanted[0])
    elif getattr(step, "max_size", None) is not None:
        raise ValueError(
            f"preprocess: expected a Resize without max_size, got {step.max_size}; {REMEDY}"
        )
    else:
        (short,) = wanted
        lengths = (
            (short, int(short * height / width))
            if width <= height
            else (int(short * width / height), short)
        )
    return sides[0].resized(lengths[0]), sides[1].resized(lengths[1])


def _resize_keep_ratio(step: Any, sides: _Sides) -> _Sides:
    """open_clip's and timm's: the longer side (longest=1), the shorter (0), or between them."""
    if getattr(step, "random_scale_prob", 0) or getattr(step, "random_aspect_prob", 0):
        raise ValueError(f"preprocess: expected a ResizeKeepRatio without chance; {REMEDY}")
    ratios = [side.length / wanted for side, wanted in zip(sides, step.size[::-1], strict=True)]
    ratio = max(ratios) * step.longest + min(ratios) * (1 - step.longest)
    width, height = (side.resized(round(side.length / ratio)) for side in sides)
    return width, height


def _center_crop(step: Any, sides: _Sides) -> _Sides:
    """Torchvision's and open_clip's, which pad what is too small; or that of image processors."""
    wanted = (step.size, step.size) if isinstance(step.size, int) else tuple(step.size)
    width, height = (
        side.cut(_margin(step, side.length, length), length)
        for side, length in zip(sides, (wanted[-1], wanted[0]), strict=True)
    )
    return width, height


def _margin(step: Any, length: int, wanted: int) -> int:
    """The first pixel that is left of so many, negative where it is padded."""
    if isinstance(step, CenterCrop):
        return (length - wanted) // 2
    return -((wanted - length) // 2) if wanted > length else round((length - wanted) / 2)


_MOVES: dict[str, Callable[[Any, _Sides], _Sides]] = {
    "Resize": _resize,
    "ResizeKeepRatio": _resize_keep_ratio,
    "CenterCrop": _center_crop,
    "CenterCropOrPad": _center_crop,
}
