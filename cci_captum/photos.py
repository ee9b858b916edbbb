"""What a user gives as images: files, pictures, arrays, or a model's inputs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from .images import convert_with_scaling, crop_to_ratio, read_image
from .models._steps import kind, steps_of
from .models.preprocessing import Preprocess, mean_and_std
from .models.seen_area import Area, seen_area
from .names import readable
from .visualization import denormalize


class Photo(NamedTuple):
    """One image.

    Attributes:
        name: Its file, or "image 2".
        image: As a viewer shows it, mode "RGB".
        inputs: (3, H, W), ready for the model.
        area: The rectangle of the image that inputs show, in its pixels; see `seen_area`.
    """

    name: str
    image: Image.Image
    inputs: Tensor
    area: Area


def read_photos(images: Any, preprocess: Preprocess) -> list[Photo]:
    """Images of any of the kinds that `cci_captum.explain` takes, prepared.

    Args:
        images: One image, a sequence of them, or a tensor or array with a batch dimension.
        preprocess: Of the model.

    Raises:
        FileNotFoundError: If there is no such file.
        TypeError: If something is of another kind.
        ValueError: If something cannot be read, or inputs differ in size.
    """
    photos = [_photo(image, place, preprocess) for place, image in enumerate(_one_by_one(images))]
    if not photos:
        raise ValueError("images: expected at least one image, got none")
    sizes = {tuple(photo.inputs.shape): photo.name for photo in photos}
    if len(sizes) > 1:
        shown = ", ".join(f"{shape} of {name}" for shape, name in sizes.items())
        raise ValueError(f"images: expected inputs of one size, got {shown}")
    return photos


def _one_by_one(images: Any) -> Iterator[Any]:
    if isinstance(images, (str, os.PathLike, Image.Image)):
        return iter([images])
    if isinstance(images, (Tensor, np.ndarray)):
        return iter([images] if images.ndim in (2, 3) else images)
    if hasattr(images, "__iter__"):
        return iter(images)
    raise TypeError(
        "images: expected files, PIL images, arrays or tensors, or a list of them, got "
        f"{type(images).__name__}"
    )


def _photo(image: Any, place: int, preprocess: Preprocess) -> Photo:
    name = f"image {place}"
    if isinstance(image, Tensor) and image.is_floating_point():
        return _of_inputs(image, name, f"images[{place}]", preprocess)
    if isinstance(image, (str, os.PathLike)):
        text = os.fspath(image)
        if text.split("://")[0] in ("http", "https", "ftp", "s3", "gs"):
            raise ValueError(
                f"images[{place}]: expected a file, got a URL, {text!r}; download it first"
            )
        name, picture = readable(image), read_image(image)
    else:
        picture, scaling = convert_with_scaling(_picture(image, f"images[{place}]"), name)
        if scaling:
            warnings.warn(f"{name}: {scaling}", UserWarning, stacklevel=4)
    shown, (left, top) = _without_ends(picture, preprocess)
    area = seen_area(preprocess, shown.size)
    moved = (area[0] + left, area[1] + top, area[2] + left, area[3] + top)
    return Photo(name, picture, preprocess(shown), moved)


def _picture(image: Any, argument: str) -> Image.Image:
    """A PIL image, or whole numbers from 0 to 255: a tensor (C, H, W), an array (H, W, C)."""
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, Tensor):
        pixels = image.permute(1, 2, 0).cpu().numpy() if image.ndim == 3 else image.cpu().numpy()
    elif isinstance(image, np.ndarray):
        pixels = image
    else:
        raise TypeError(
            f"{argument}: expected a file, a PIL image, an array or a tensor, got "
            f"{type(image).__name__}"
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] in ((3,), (4,))):
        kinds = (
            "an array (H, W), (H, W, 3) or (H, W, 4) or a tensor (C, H, W) of uint8, or a tensor "
            "of floats, the model's input"
        )
        raise ValueError(
            f"{argument}: expected {kinds}, got {image.dtype} of shape {tuple(image.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _of_inputs(inputs: Tensor, name: str, argument: str, preprocess: Preprocess) -> Photo:
    """A tensor of floating point numbers is what the model is given; its photo is drawn from it."""
    if inputs.ndim != 3 or len(inputs) != 3:
        raise ValueError(
            f"{argument}: expected inputs of the model of shape (3, H, W), got "
            f"{tuple(inputs.shape)}"
        )
    colours = denormalize(inputs.detach().cpu().double(), *mean_and_std(preprocess))
    pixels = (colours * 255).round().byte().permute(1, 2, 0).numpy()
    height, width = inputs.shape[1:]
    area = (0.0, 0.0, float(width), float(height))
    return Photo(name, Image.fromarray(pixels), inputs.detach(), area)


def _without_ends(
    image: Image.Image, preprocess: Preprocess
) -> tuple[Image.Image, tuple[int, int]]:
    """An elongated image cut to what the crop leaves anyway, and where that begins."""
    if not any(kind(step) == "CenterCrop" for step in steps_of(preprocess) or []):
        return image, (0, 0)
    cut = crop_to_ratio(image)
    return cut, ((image.width - cut.width) // 2, (image.height - cut.height) // 2)
