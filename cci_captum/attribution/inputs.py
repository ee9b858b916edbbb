"""What goes into `attribute`: images and further arguments, checked, and the rows of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .. import _captum
from .._checks import check_batch_size
from ..shared import Shared
from .targets import rows_of_target


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

    What is `Shared` has any shape. One row belongs to all images, and so has its mark after this.
    """
    args = list(_captum.args_of(additional_forward_args))
    for index, arg in enumerate(args):
        if not has_rows(arg):
            continue
        for tensor in arg.values() if isinstance(arg, Mapping) else [arg]:
            if len(tensor) not in (1, batch):
                raise ValueError(
                    f"additional_forward_args[{index}]: expected one row for each of the {batch} "
                    f"images, or one for all, got shape {tuple(tensor.shape)}; mark what belongs "
                    "to all images: cci_captum.Shared(tensor)"
                )
        if isinstance(arg, Tensor):
            args[index] = Shared(arg) if len(arg) < batch else arg
        else:
            kind: Any = type(arg)
            args[index] = kind({name: _expanded(rows, batch) for name, rows in arg.items()})
    return tuple(args)


def _expanded(rows: Tensor, batch: int) -> Tensor:
    return rows.expand(batch, *rows.shape[1:]) if len(rows) < batch else rows


def has_rows(arg: Any) -> bool:
    """Whether a further argument has a row an image: a tensor, or a BatchEncoding of tensors."""
    if isinstance(arg, Mapping):
        return "input_ids" in arg and all(isinstance(v, Tensor) and v.ndim for v in arg.values())
    return isinstance(arg, Tensor) and arg.ndim > 0


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a call of a method was given, checked.

    Attributes:
        images: (B, 3, H, W), floating point.
        target: As in Captum, for all B images.
        args: Further arguments of forward_func; tensors have a row an image.
        batch_size: Most images in one forward pass; None leaves it to the method.
    """

    images: Tensor
    target: Any
    args: tuple[Any, ...]
    batch_size: int | None = None

    @classmethod
    def of(
        cls,
        inputs: Any,
        target: Any = None,
        additional_forward_args: Any = None,
        internal_batch_size: int | None = None,
    ) -> Inputs:
        """The arguments of Captum's `attribute`, checked.

        Raises:
            TypeError: If inputs are no floating point tensor, or a tuple of one.
            ValueError: If a shape or internal_batch_size does not fit.
        """
        images = check_images(inputs)
        check_batch_size(internal_batch_size, len(images))
        args = check_additional_forward_args(additional_forward_args, len(images))
        return cls(images, target, args, internal_batch_size)

    def __len__(self) -> int:
        """The number of images, B."""
        return len(self.images)

    def parts(self, batch_size: int | None = None) -> Iterator[tuple[range, Inputs]]:
        """The images, so many at a time, each part with their places.

        Args:
            batch_size: None is that of these inputs, or all at once.

        Raises:
            ValueError: If target is a list or tensor of another length than B.
        """
        step = batch_size or self.batch_size or len(self)
        for start in range(0, len(self), step):
            rows = slice(start, start + step)
            target = rows_of_target(self.target, rows, len(self))
            part = Inputs(self.images[rows], target, rows_of_args(self.args, rows), step)
            yield range(len(self))[rows], part

    def outside_inference(self) -> Inputs:
        """The same as gradients can take it; see the function."""
        args = tuple(outside_inference(arg) for arg in self.args)
        return replace(self, images=outside_inference(self.images), args=args)


def rows_of_args(args: tuple[Any, ...], rows: slice | Tensor) -> tuple[Any, ...]:
    """The part of checked additional_forward_args that belongs to some of the images."""
    return tuple(_rows(arg, rows) if has_rows(arg) else arg for arg in args)


def _rows(arg: Any, rows: slice | Tensor) -> Any:
    if isinstance(arg, Mapping):
        kind: Any = type(arg)
        return kind({name: _rows(tensor, rows) for name, tensor in arg.items()})
    return arg[rows.to(arg.device) if isinstance(rows, Tensor) else rows]


def outside_inference(value: Any) -> Any:
    """An argument as gradients can take it: a copy of what was made in inference mode."""
    if isinstance(value, Shared):
        return Shared(outside_inference(value.tensor))
    return value.clone() if isinstance(value, Tensor) and value.is_inference() else value
