"""The only door to Captum's private helpers: what a new version of it changes is put right here.

Its public names, `captum.attr`, are imported where they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from captum._utils.common import (
    ExpansionTypes,
    _expand_target,
    _format_additional_forward_args,
    _format_output,
    _is_tuple,
    _run_forward,
    _select_targets,
)
from captum._utils.models.model import Model
from captum.log import log_usage
from torch import Tensor

__all__ = [
    "Model",
    "args_of",
    "as_given",
    "call",
    "log_usage",
    "repeat_target",
    "select_outputs",
]


def call(forward_func: Callable[..., Any], inputs: Any, args: tuple[Any, ...]) -> Any:
    """What forward_func returns for inputs and further arguments."""
    return _run_forward(forward_func, inputs, additional_forward_args=args)


def args_of(additional_forward_args: Any) -> tuple[Any, ...]:
    """Further arguments as a tuple, empty for None."""
    return _format_additional_forward_args(additional_forward_args) or ()


def select_outputs(outputs: Tensor, target: Any) -> Tensor:
    """The outputs (B, ...) that a target chooses.

    Raises:
        AssertionError: If target does not fit the outputs, as IndexError and TypeError.
    """
    return _select_targets(outputs, target)


def repeat_target(target: Any, times: int) -> Any:
    """The target of B images as one of B * times: each so many times, one after the other."""
    return _expand_target(target, times, ExpansionTypes.repeat_interleave)


def as_given(inputs: Any, attributions: Tensor) -> Any:
    """Attributions as inputs came: in a tuple where these are in one."""
    return _format_output(_is_tuple(inputs), (attributions,))
