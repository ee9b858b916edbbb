"""Checks of plain arguments; each error names the argument, what was expected and what came."""

from __future__ import annotations

from typing import Any


def check_positive_int(argument: str, value: Any, otherwise: str = "") -> None:
    """Raise ValueError, naming `argument`, unless value is a positive int."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{argument}: expected a positive int{otherwise}, got {value!r}")


def check_batch_size(internal_batch_size: int | None, batch: int) -> int:
    """Images in one forward pass: `batch` for None; ValueError unless a positive int."""
    if internal_batch_size is None:
        return batch
    check_positive_int("internal_batch_size", internal_batch_size, " or None")
    return internal_batch_size


def check_choice(argument: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError, naming `argument`, unless value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(choices)}, got {value!r}")


def check_seed(seed: Any) -> None:
    """Raise ValueError unless seed is an int that is not negative."""
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed: expected an int that is not negative, got {seed!r}")
