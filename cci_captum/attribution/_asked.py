"""A method that is called as `check_method` calls it, with a look at what it did beside."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..shared import Shared
from ..vision_towers import VisionTower
from ._left_behind import ModelState, process_state
from ._probes import rounding_of
from .inputs import Inputs
from .method_report import MethodError


class Stop(Exception):
    """Raised inside the model on purpose."""


class Asked:
    """One method, its model and what it is given.

    Args:
        make: From a forward_func to the method.
        forward_func: See `check_method`.
        given: What the method is given.
        tolerance: See `check_method`.
    """

    def __init__(
        self,
        make: Callable[[Callable[..., Tensor]], Any],
        forward_func: Callable[..., Tensor],
        given: Inputs,
        tolerance: float | None,
    ) -> None:
        self.make, self.forward_func, self.given = make, forward_func, given
        self.method = make(forward_func)
        self.name = type(self.method).__name__
        if not callable(getattr(self.method, "attribute", None)):
            raise TypeError(f"method: expected one with `attribute`, got {self.name}")
        self.modules = self._modules()
        self.state = ModelState(self.modules)
        self.tolerance = self._tolerance() if tolerance is None else tolerance

    def _modules(self) -> dict[str, nn.Module]:
        """The model, as far as it is known."""
        found = {}
        if isinstance(self.forward_func, nn.Module):
            found["forward_func"] = self.forward_func
        tower = getattr(self.method, "vision_tower", None)
        if isinstance(tower, VisionTower):
            found["vision_tower"] = tower.module
        return found

    def _tolerance(self) -> float:
        parts = [part for module in self.modules.values() for part in module.modules()]
        weights = (p for part in parts for p in part.parameters(recurse=False))
        if all(tensor.dtype == torch.float64 for tensor in (self.given.images, *weights)):
            return 1e-8
        return rounding_of(parts, self.given.images)[0]

    def _attribute(
        self,
        given: Inputs,
        check: str,
        *,
        method: Any = None,
        as_tuple: bool = False,
        **options: Any,
    ) -> Any:
        """What `attribute` returns, after a look at what it did beside.

        Args:
            given: What it is given, in copies.
            check: For which check; errors of the call then fail it.
            method: Another object than the first.
            as_tuple: Give the images in a tuple.
            options: Further arguments of `attribute`.
        """
        images, target = given.images.clone(), copy.deepcopy(given.target)
        args = tuple(_copied(arg) for arg in given.args)
        if target is not None:
            options["target"] = target
        if args:
            options["additional_forward_args"] = args
        before = process_state()
        try:
            found = (method or self.method).attribute((images,) if as_tuple else images, **options)
        except Exception as error:
            if not check or isinstance(error, Stop):
                raise
            raise self._failed(
                check, f"expected attributions, got {type(error).__name__}: {error}"
            ) from error
        self._check_process(before)
        names = ["images", "target", *(f"additional_forward_args[{i}]" for i in range(len(args)))]
        now, old = (images, target, *args), (given.images, given.target, *given.args)
        for name, one, other in zip(names, now, old, strict=True):
            if not _equal(one, other):
                raise self._failed("inputs", f"expected {name} with its values, got others")
        if images.requires_grad:
            raise self._failed("inputs", "expected images as they were, got requires_grad=True")
        if isinstance(found, Tensor) and _memory(found) == _memory(images):
            raise self._failed(
                "inputs", "expected attributions with memory of their own, got that of the images"
            )
        return found

    def _check_process(self, before: dict[str, Any]) -> None:
        after = process_state()
        for what, value in before.items():
            if after[what] != value:
                check = "grad mode" if what == "grad mode" else "random state"
                raise self._failed(check, f"expected the {what} as it was before the call")

    def _compare(self, check: str, found: Any, expected: Tensor, what: str) -> None:
        """Raise unless two computations of the same maps differ by rounding alone."""
        if not isinstance(found, Tensor) or found.shape != expected.shape:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise self._failed(check, f"expected {what}, got {got} for {tuple(expected.shape)}")
        one, other = found.detach().double(), expected.detach().double()
        largest = float(torch.maximum(one.abs(), other.abs()).max())
        difference = float((one - other).abs().max())
        if not difference <= self.tolerance * largest:  # NaN too
            share = difference / largest if largest else difference
            raise self._failed(
                check,
                f"expected {what}, by {share:.2g} of the largest value, {largest:.2g}; what is as "
                "small as rounding differs from call to call",
            )

    def _failed(self, check: str, message: str) -> MethodError:
        return MethodError(self.name, check, message)


def _copied(arg: Any) -> Any:
    """A further argument that may be written to."""
    if isinstance(arg, Shared):
        return Shared(arg.tensor.clone())
    return arg.clone() if isinstance(arg, Tensor) else arg


def _equal(one: Any, other: Any) -> bool:
    """Whether an argument holds the values of its copy; True for what is no tensor or list."""
    if isinstance(one, Shared):
        return torch.equal(one.tensor, other.tensor)
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return one == other if isinstance(one, list) else True


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
