"""The steps of a preprocessing, where it lists them, and one that no library has."""

from __future__ import annotations

from typing import Any

from PIL.Image import Image
from torch import nn
from torchvision import transforms

# Steps of torchvision's and open_clip's preprocessing that move no pixel.
IN_PLACE = (
    "MaybeConvertMode",
    "_convert_to_rgb",
    "MaybeToTensor",
    "ToTensor",
    "Normalize",
    "ConvertImageDtype",
    "PILToTensor",
    "ToImage",
    "ToDtype",
)
MOVING = ("Resize", "ResizeKeepRatio", "CenterCrop", "CenterCropOrPad")
REMEDY = (
    "say what it does by cci_captum.models.preprocessing.Preprocessing(function, mean, std, "
    "field_of_view)"
)


def steps_of(preprocess: Any) -> list[Any] | None:
    """The steps one by one, those of steps within steps too; None where they are not listed."""
    listed = [*preprocess] if isinstance(preprocess, nn.Sequential) else None
    listed = getattr(preprocess, "transforms", listed)
    if listed is None:
        return [preprocess] if kind(preprocess) in IN_PLACE else None
    parts = [steps_of(step) for step in listed]
    return [
        step
        for one, part in zip(listed, parts, strict=True)
        for step in ([one] if part is None else part)
    ]


def listed_steps(preprocess: Any) -> list[Any]:
    """The steps of one that lists them.

    Raises:
        ValueError: If it does not, so that it is not known where a photo goes.
    """
    steps = steps_of(preprocess)
    if steps is None:
        raise ValueError(
            "preprocess: expected transforms that list their steps, or field_of_view as an "
            f"attribute, got {named(preprocess)}, of which it is not known which part of the "
            f"photo it leaves; {REMEDY}"
        )
    return steps


def kind(step: Any) -> str:
    """A step's name; functions have one of their own: open_clip 3.0 converts to RGB by one."""
    return str(getattr(step, "__name__", type(step).__name__))


def named(preprocess: Any) -> str:
    return str(getattr(preprocess, "__qualname__", type(preprocess).__name__))


class CenterCrop(transforms.CenterCrop):
    """Crops as image processors do: an odd margin is smaller at the top and at the left."""

    def forward(self, image: Image) -> Image:
        """The centre of a PIL image; black where the image is smaller."""
        height, width = self.size
        left, top = (image.width - width) // 2, (image.height - height) // 2
        return image.crop((left, top, left + width, top + height))
