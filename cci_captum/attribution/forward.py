"""How a forward_func is run, whichever method asks, and what it is to return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import _captum
from ..calls import new_pass, running_call
from ..models.scores import without_score
from ..shared import Shared
from ..vision_towers import VisionTower, find_vision_tower
from ._refusals import check_takes
from .inputs import has_rows, rows_of_args


def check_callable(forward_func: Any) -> None:
    """Raise TypeError unless forward_func can be called."""
    if not callable(forward_func):
        raise TypeError(
            f"forward_func: expected a module or function, got {type(forward_func).__name__}"
        )


def tower_of(
    forward_func: Callable[..., Tensor], vision_tower: nn.Module | VisionTower | None
) -> VisionTower:
    """The adapter of `vision_tower`, or of the one image encoder in forward_func where it is None.

    Raises:
        TypeError: If the image encoder is of a kind that cannot be explained, or forward_func is
            a model of images and texts.
        ValueError: If none or several are found, or forward_func is no module.
    """
    if hasattr(forward_func, "get_image_features") and hasattr(forward_func, "get_text_features"):
        raise TypeError(
            f"forward_func: expected a function of images, got {type(forward_func).__name__}, "
            "which takes texts first; ZeroShotClassifier(model, processor, names) and "
            "ImageTextSimilarity(model) are such functions"
        )
    if vision_tower is None:
        if not isinstance(forward_func, nn.Module):
            raise ValueError(
                "vision_tower: a forward_func that is no module needs the image encoder "
                "that it runs, for instance vision_tower=model.visual"
            )
        vision_tower = forward_func
    check_tower(vision_tower)
    return find_vision_tower(vision_tower)


def check_tower(vision_tower: Any) -> None:
    """Raise TypeError unless something may be an image encoder, or is None."""
    if not isinstance(vision_tower, nn.Module | VisionTower | None):
        raise TypeError(
            "vision_tower: expected the image encoder that forward_func runs, its adapter or None, "
            f"got {type(vision_tower).__name__}; options go by name"
        )


def run_forward(
    forward_func: Callable[..., Tensor], images: Tensor, args: tuple[Any, ...]
) -> Tensor:
    """The output of forward_func, checked: (B,) or (B, C, ...), at least float32, a copy.

    The one place where outputs are taken, so that forward_func may reuse its buffers.

    Raises:
        TypeError: If it returns no tensor of floating point numbers.
        ValueError: If it returns another number of rows.
    """
    new_pass()
    output = _output(forward_func, images, args)
    if not isinstance(output, Tensor):
        raise TypeError(
            "forward_func: expected it to return a tensor of shape (B,) or (B, C), got "
            f"{type(output).__name__}; ImageTextSimilarity and ZeroShotClassifier wrap CLIP "
            "models so that they do"
        )
    if not output.is_floating_point():
        raise TypeError(
            f"forward_func: expected floating point scores, got {output.dtype}; for the index of "
            "a class (argmax) return the scores of all, for a count or a rank its .float()"
        )
    if output.ndim == 0 and len(images) == 1:
        output = output[None]
    if output.ndim == 0 or len(output) != len(images):
        raise ValueError(
            f"forward_func: expected {len(images)} rows of output for {len(images)} images, "
            f"got shape {tuple(output.shape)}"
        )
    _check_columns(forward_func, images, args, output)
    wide = torch.promote_types(output.dtype, torch.float32)
    return output.to(images.device, wide, copy=True)


def _output(forward_func: Callable[..., Tensor], images: Tensor, args: tuple[Any, ...]) -> Any:
    """What forward_func returns, whatever it is."""
    whole = tuple(arg.tensor if isinstance(arg, Shared) else arg for arg in args)
    try:
        return _captum.call(forward_func, images, whole)
    except TypeError:
        check_takes(forward_func, whole)
        raise


def _check_columns(
    forward_func: Callable[..., Tensor], images: Tensor, args: tuple[Any, ...], output: Tensor
) -> None:
    """Put off to the end of the call: do the rows of an argument make the columns of the output?

    They do where forward_func compares all images with all texts. With as many columns as
    images that cannot be seen, and forward_func is run on one image with one row: as many columns
    once more, and the argument has one row an image.

    Raises:
        ValueError: At the end of the call, if they do.
    """
    call = running_call()
    rows = [index for index, arg in enumerate(args) if has_rows(arg)]
    if call is None or call.columns_known or not rows or len(output) == 1 or output.ndim == 1:
        return
    call.columns_known = True
    if output.shape[1] != len(output):
        return
    columns, first = len(output), slice(0, 1)

    def check() -> None:
        with torch.no_grad():
            # A score over classes would stumble over the one column that is looked for.
            outputs = without_score(forward_func)
            one = _output(outputs, images[first], rows_of_args(args, first))
        if one.shape[1:2] != (columns,):
            names = " or ".join(f"additional_forward_args[{index}]" for index in rows)
            raise ValueError(
                f"{names}: expected one row for each image, got one whose rows make the columns "
                f"of forward_func's output (one image with one row gives {tuple(one.shape)}, "
                f"{columns} images with {columns} rows {tuple(output.shape)}); "
                "cci_captum.Shared(tensor) marks what belongs to all images"
            )

    call.put_off = check


def check_passes(passes: int) -> None:
    """Raise RuntimeError unless the vision tower ran once while patches were hidden."""
    if passes != 1:
        raise RuntimeError(
            "forward_func: expected it to run the vision tower once in every call, it ran it "
            f"{passes} times with patches hidden"
        )
