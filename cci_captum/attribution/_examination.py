"""The questions of `check_method`, asked of a method one after the other."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ._asked import Asked, Stop
from ._left_behind import process_state, random_states_kept
from .base import ImageAttribution
from .inputs import Inputs, has_rows
from .method_report import MethodError, MethodReport


class Examination(Asked):
    """What `check_method` finds; see `Asked` for the arguments."""

    first: Tensor  # the attributions of the first call

    def report(self) -> MethodReport:
        """Run all checks, those first that say most about what others then stumble over."""
        self.first = self._attribute(self.given, "")
        checks: dict[str, Callable[[], str | None]] = {
            "shape": self._shape,
            "dtype": self._dtype,
            "detached": self._detached,
            "finite": self._finite,
            "not zero": self._not_zero,
            "channels": self._channels,
            "model": self._model,
            "again": self._again,
            "additional_forward_args": self._rows_of_args,
            "one by one": self._one_by_one,
            "internal_batch_size": self._internal_batch_size,
            "target": self._target,
            "tuple": self._tuple,
            "no_grad": self._no_grad,
            "inference_mode": self._inference_mode,
            "error": self._error,
        }
        passed, skipped = ["inputs", "grad mode", "random state"], {}
        for name, check in checks.items():
            why = check()
            if why is None:
                passed.append(name)
            else:
                skipped[name] = why
        self._model()  # after all calls
        return MethodReport(self.name, tuple(passed), skipped)

    # Checks: None where passed, or why there is nothing to check

    def _shape(self) -> str | None:
        images = self.given.images
        if not isinstance(self.first, Tensor):
            raise self._failed(
                "shape", f"expected a tensor for a tensor, got {type(self.first).__name__}"
            )
        if self.first.shape != images.shape:
            raise self._failed(
                "shape",
                f"expected attributions of the inputs' shape {tuple(images.shape)}, got "
                f"{tuple(self.first.shape)}",
            )
        return None

    def _dtype(self) -> str | None:
        dtype = self.first.dtype
        if not dtype.is_floating_point or torch.promote_types(dtype, torch.float32) != dtype:
            raise self._failed("dtype", f"expected at least torch.float32, got {dtype}")
        return None

    def _detached(self) -> str | None:
        if self.first.requires_grad:
            raise self._failed("detached", "expected attributions without a graph, got one")
        return None

    def _finite(self) -> str | None:
        rows = (~self.first.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        if rows:
            raise self._failed("finite", f"expected numbers, got NaN or infinity for images {rows}")
        return None

    def _not_zero(self) -> str | None:
        if not bool(self.first.any()):
            raise self._failed(
                "not zero",
                "expected some value that is not 0, got none; if that is right, give images of "
                "which it says more",
            )
        return None

    def _channels(self) -> str | None:
        if not isinstance(self.method, ImageAttribution):
            return "it is no ImageAttribution"
        if not torch.equal(self.first, self.first[:, :1].expand_as(self.first)):
            raise self._failed("channels", "expected one map in every channel, got different ones")
        return None

    def _model(self) -> str | None:
        if not self.modules:
            return "forward_func is a function, and no module is known"
        change = self.state.change()
        if change:
            raise self._failed("model", f"expected the model as it was, got {change}")
        return None

    def _again(self) -> str | None:
        what = "the same maps as in the first call, got others"
        self._compare("again", self._attribute(self.given, "again"), self.first, what)
        with random_states_kept(seed=1):
            found = self._attribute(self.given, "again")
        self._compare("again", found, self.first, f"{what} under another seed of the process")
        new = self._attribute(self.given, "again", method=self.make(self.forward_func))
        self._compare("again", new, self.first, f"{what} from a new object of the method")
        return None

    def _tuple(self) -> str | None:
        found = self._attribute(self.given, "tuple", as_tuple=True)
        if not isinstance(found, tuple) or len(found) != 1:
            got = f"one of {len(found)}" if isinstance(found, tuple) else type(found).__name__
            raise self._failed("tuple", f"expected a tuple of one for a tuple of one, got {got}")
        self._compare("tuple", found[0], self.first, "the same maps as for a tensor, got others")
        return None

    def _rows_of_args(self) -> str | None:
        """The first image as often as there are rows, so that rows alone tell maps apart."""
        given = self.given
        if not any(map(has_rows, given.args)):
            return "no tensor among them"
        alike = given.images[:1].repeat(len(given), 1, 1, 1)
        same = replace(given, images=alike, target=_targets(given)[0])
        self._compare(
            "additional_forward_args",
            self._attribute(same, "additional_forward_args"),
            torch.cat(self._alone(same, "additional_forward_args")),
            "each row of additional_forward_args to stay with its image, got other maps",
        )
        return None

    def _one_by_one(self) -> str | None:
        self._compare(
            "one by one",
            self.first,
            torch.cat(self._alone(self.given, "one by one")),
            "the maps of images alone, got others in a batch",
        )
        return None

    def _alone(self, given: Inputs, check: str) -> list[Tensor]:
        """The attributions of each image by itself, (1, 3, H, W) each."""
        found = []
        for places, part in given.parts(1):
            found.append(self._attribute(part, check))
            if not isinstance(found[-1], Tensor) or found[-1].shape != part.images.shape:
                raise self._failed(
                    check, f"expected attributions of image {places[0]} alone, of its shape"
                )
        return found

    def _internal_batch_size(self) -> str | None:
        check = "internal_batch_size"
        if check not in inspect.signature(self.method.attribute).parameters:
            return "attribute does not take it"
        for size in (1, 2):
            found = self._attribute(self.given, check, internal_batch_size=size)
            self._compare(check, found, self.first, f"the same maps with {size}, got others")
        return None

    def _target(self) -> str | None:
        if self.given.target is None:
            return "target is None"
        rows = _targets(self.given)
        forms: dict[str, Any] = {"a list": rows}
        if all(isinstance(row, int) for row in rows):
            forms["a tensor"] = torch.tensor(rows, device=self.given.images.device)
        for form, target in forms.items():
            found = self._attribute(replace(self.given, target=target), "target")
            what = f"the same maps for {form} of targets, {rows}, got others"
            self._compare("target", found, self.first, what)
        for value in dict.fromkeys(rows):
            chosen = torch.tensor([row == value for row in rows])
            found = self._attribute(replace(self.given, target=value), "target")
            what = f"the same maps for {value!r}, as one target of all images, got others"
            if not isinstance(found, Tensor) or found.shape != self.first.shape:
                self._compare("target", found, self.first, what)
            self._compare("target", found[chosen], self.first[chosen], what)
        return None

    def _no_grad(self) -> str | None:
        with torch.no_grad():
            found = self._attribute(self.given, "no_grad")
        self._compare(
            "no_grad", found, self.first, "the same maps inside torch.no_grad, got others"
        )
        return None

    def _inference_mode(self) -> str | None:
        try:
            with torch.inference_mode():
                found = self._attribute(self.given, "inference_mode")
        except MethodError as error:
            refused = isinstance(error.__cause__, RuntimeError)
            if isinstance(self.method, ImageAttribution) or not refused:
                raise
            return f"attribute refuses it: {error.__cause__}"
        what = "the same maps inside torch.inference_mode, got others"
        self._compare("inference_mode", found, self.first, what)
        return None

    def _error(self) -> str | None:
        with _stopping(self.modules) as stopped:
            before = process_state()
            try:
                self._attribute(self.given, "error")
            except (Stop, MethodError):
                if not stopped:
                    raise
            else:
                if stopped:
                    raise self._failed(
                        "error", "expected an error of the model to come through, got attributions"
                    )
        if not stopped:
            return "attribute runs no module that is known"
        self._check_process(before)
        change = self.state.change()
        if change:
            raise self._failed(
                "error", f"expected the model as it was after an error in it, got {change}"
            )
        return None


@contextmanager
def _stopping(modules: dict[str, nn.Module]) -> Iterator[list[nn.Module]]:
    """Inside, the modules raise where they would return; the list holds those that did."""
    stopped: list[nn.Module] = []

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        stopped.append(module)
        raise Stop(f"on purpose, in {type(module).__name__}")

    handles = [module.register_forward_hook(stop) for module in modules.values()]
    try:
        yield stopped
    finally:
        for handle in handles:
            handle.remove()


def _targets(given: Inputs) -> list[Any]:
    """The target of each image: an int, a tuple or None."""
    target = given.target
    if isinstance(target, Tensor):
        target = target.item() if target.numel() == 1 else target.tolist()
    return list(target) if isinstance(target, list) else [target] * len(given)
