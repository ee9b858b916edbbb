"""What Python refuses with a count of arguments, said as a user can put it right."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from torch import Tensor, nn

Function = TypeVar("Function", bound=Callable[..., Any])


def by_name(function: Function, owner: str) -> Function:
    """A method whose TypeError for too many arguments by position says how to write them.

    Args:
        function: A method of a class, with arguments that go by name alone; others are returned
            as they are.
        owner: The class's name.
    """
    _, *parameters = inspect.signature(function).parameters.values()
    first = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    if not named or any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return function
    called = owner if function.__name__ == "__init__" else f"{owner}.{function.__name__}"

    @wraps(function)
    def refusing(self: Any, *args: Any, **options: Any) -> Any:
        if len(args) > len(first):
            raise TypeError(
                f"{called}: expected {_joined(first)} by position and the rest by name "
                f"({', '.join(f'{name}=...' for name in named)}), got {len(args)} by position"
            )
        return function(self, *args, **options)

    return cast("Function", refusing)


def name_arguments(cls: type) -> None:
    """Let a class's constructor and public methods refuse arguments as `by_name` does."""
    for name, function in list(vars(cls).items()):
        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_")):
            setattr(cls, name, by_name(function, cls.__name__))


def check_takes(forward_func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    """Raise TypeError if forward_func cannot be called with images and these arguments.

    Asked after it was refused, since its signature may not tell all that it takes.
    """
    called = forward_func.forward if isinstance(forward_func, nn.Module) else forward_func
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return
    if not signature.parameters:
        return
    try:
        signature.bind(None, *args)
    except TypeError as error:
        _, *taken = signature.parameters.values()
        expected = ", ".join(str(p.replace(annotation=p.empty)) for p in taken) or "nothing"
        got = ", ".join(map(_shown, args)) or "nothing"
        name = getattr(forward_func, "__name__", type(forward_func).__name__)
        raise TypeError(
            f"additional_forward_args: expected what forward_func, {name}, takes after the images, "
            f"{expected}, got {got} (by position attribute takes inputs, target and "
            "additional_forward_args, effects inputs and additional_forward_args)"
        ) from error


def _shown(arg: Any) -> str:
    if isinstance(arg, Tensor):
        return f"a tensor of shape {tuple(arg.shape)}"
    text = repr(arg)
    return text if len(text) <= 40 else type(arg).__name__


def _joined(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
