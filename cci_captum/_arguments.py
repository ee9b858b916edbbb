"""What the arguments of Captum's `attribute` mean, and the errors for those that do not fit.

Shared by all methods, so that inputs, target and additional_forward_args mean the same in each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import _captum
from ._checks import check_choice
from .calls import new_pass, running_call
from .field_of_view import FieldOfView, place
from .shared import Shared
from .vision_towers import VisionTower, find_vision_tower

Upsample = Literal["nearest", "bilinear", "bicubic"]


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
        TypeError: If the image encoder is of a kind that cannot be explained.
        ValueError: If none or several are found, or forward_func is no module.
    """
    if vision_tower is None:
        if not isinstance(forward_func, nn.Module):
            raise ValueError(
                "vision_tower: a forward_func that is no module needs the image encoder "
                "that it runs, for instance vision_tower=model.visual"
            )
        vision_tower = forward_func
    return find_vision_tower(vision_tower)


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
    return _captum.call(forward_func, images, whole)


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
    rows = [index for index, arg in enumerate(args) if isinstance(arg, Tensor) and arg.ndim]
    if call is None or call.columns_known or not rows or len(output) == 1 or output.ndim == 1:
        return
    call.columns_known = True
    if output.shape[1] != len(output):
        return
    columns, first = len(output), slice(0, 1)

    def check() -> None:
        with torch.no_grad():
            one = _output(forward_func, images[first], rows_of_args(args, first))
        if one.shape[1:2] != (columns,):
            names = " or ".join(f"additional_forward_args[{index}]" for index in rows)
            raise ValueError(
                f"{names}: expected one row for each image, got one whose rows make the columns "
                f"of forward_func's output (one image with one row gives {tuple(one.shape)}, "
                f"{columns} images with {columns} rows {tuple(output.shape)}); "
                "cci_captum.Shared(tensor) marks what belongs to all images"
            )

    call.put_off = check


def check_images(inputs: Tensor | tuple[Tensor, ...], argument: str = "inputs") -> Tensor:
    """The one tensor of images in `inputs`, or an error that says what is wrong with it."""
    images = inputs
    if isinstance(inputs, tuple):
        if len(inputs) != 1:
            raise ValueError(
                f"{argument}: expected one tensor of images, got {len(inputs)}; pass other tensors "
                "as additional_forward_args"
            )
        images = inputs[0]
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"{argument}: expected a floating point tensor of images, got {got}")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"{argument}: expected images of shape (B, 3, H, W), B at least 1, got "
            f"{tuple(images.shape)}"
        )
    return images


def check_additional_forward_args(additional_forward_args: Any, batch: int) -> tuple[Any, ...]:
    """The further arguments as a tuple; ValueError unless tensors have a row an image.

    What is `Shared` has any shape.
    """
    args = _captum.args_of(additional_forward_args)
    for index, arg in enumerate(args):
        if isinstance(arg, Tensor) and arg.ndim and len(arg) != batch:
            raise ValueError(
                f"additional_forward_args[{index}]: expected one row for each of the {batch} "
                f"images, got shape {tuple(arg.shape)}; expand it to {batch} rows, or mark what "
                "belongs to all images: cci_captum.Shared(tensor)"
            )
    return args


def rows_of_target(target: Any, rows: slice, batch: int) -> Any:
    """The part of a target that belongs to some of the B images.

    Raises:
        ValueError: If target is a list or tensor of another length than B.
    """
    is_tensor = isinstance(target, Tensor) and target.numel() > 1
    if not is_tensor and not isinstance(target, list):
        return target
    if len(target) != batch:
        raise ValueError(
            f"target: expected one for each of the {batch} images, got {len(target)}: {target!r}"
        )
    return target[rows]


def rows_of_args(args: tuple[Any, ...], rows: slice | Tensor) -> tuple[Any, ...]:
    """The part of checked additional_forward_args that belongs to some of the images."""
    return tuple(
        arg[rows.to(arg.device) if isinstance(rows, Tensor) else rows]
        if isinstance(arg, Tensor) and arg.ndim
        else arg
        for arg in args
    )


def outside_inference(value: Any) -> Any:
    """An argument as gradients can take it: a copy of what was made in inference mode."""
    if isinstance(value, Shared):
        return Shared(outside_inference(value.tensor))
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value


def check_passes(passes: int) -> None:
    """Raise RuntimeError unless the vision tower ran once while patches were hidden."""
    if passes != 1:
        raise RuntimeError(
            "forward_func: expected it to run the vision tower once in every call, it ran it "
            f"{passes} times with patches hidden"
        )


def enlarge(
    patch_map: Tensor,
    size: tuple[int, int],
    upsample: Upsample,
    covered: tuple[int, int] | FieldOfView | None = None,
) -> Tensor:
    """Resize maps on the patch grid, (B, h, w), to the images' size, (B, H, W).

    Smooth maps are computed in float64 and then rounded, so that equal values stay equal: in
    float32, errors of the last bit would order them by their place.

    Args:
        patch_map: The maps.
        size: Height and width of the images.
        upsample: How.
        covered: The pixels under the grid (`TowerLayout.covered`): what is beyond the image is
            cut off, and pixels beyond the grid are 0. None is all of the image, and a
            `FieldOfView` any rectangle of it.
    """
    if isinstance(covered, FieldOfView):
        return place(patch_map, size, upsample, covered)
    pixels = covered or size
    if upsample == "nearest":
        maps = F.interpolate(patch_map[:, None], pixels, mode="nearest-exact")[:, 0]
    else:
        wide = patch_map[:, None].double()
        maps = F.interpolate(wide, pixels, mode=upsample, align_corners=False)[:, 0]
    # Negative padding cuts off.
    maps = F.pad(maps, (0, size[1] - pixels[1], 0, size[0] - pixels[0]))
    return maps.to(patch_map.dtype)


def check_upsample(upsample: str) -> None:
    """Raise ValueError unless `upsample` is one of the `Upsample` modes."""
    check_choice("upsample", upsample, get_args(Upsample))


def select_target(outputs: Tensor, target: Any) -> Tensor:
    """One output an image by Captum's target rules: (B, ...) -> (B,).

    Indices count from 0, however they are given. Captum counts negative ones from the end where
    target is an int or a tuple, and refuses them in a list or tensor; here they are refused
    everywhere: -1 often marks what has no label, and would explain the last class.

    Raises:
        ValueError: If target does not choose one existing output an image.
    """
    batch = len(outputs)
    chosen = target
    if isinstance(target, Tensor):
        chosen = target.item() if target.numel() == 1 else target.tolist()
    try:
        _check_indices(chosen, outputs.shape[1:])
        selected = _captum.select_outputs(outputs, chosen)
    except (AssertionError, IndexError, TypeError) as error:
        raise ValueError(
            f"target: expected indices into outputs of shape {tuple(outputs.shape)} (an int, "
            f"{batch} ints, a tuple of {outputs.ndim - 1} ints, or {batch} such tuples; from 0), "
            f"got {target!r}"
        ) from error
    if selected.numel() != batch:
        raise ValueError(
            f"target: outputs have shape {tuple(outputs.shape)}; choose one output an image, "
            f"got target {target!r}, which leaves {tuple(selected.shape)}"
        )
    return selected.reshape(batch)


def _check_indices(target: Any, sizes: Sequence[int]) -> None:
    """Raise IndexError unless every int of a target is the index of an output.

    Here, because a gather on the GPU would not say so.
    """
    for row in target if isinstance(target, list) else [target]:
        indices = row if isinstance(row, tuple) else (row,)
        for index, size in zip(indices, sizes, strict=False):
            if isinstance(index, bool) or (isinstance(index, int) and not 0 <= index < size):
                raise IndexError
