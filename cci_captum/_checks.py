"""Checks of plain arguments; each error names the argument, what was expected and what came."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any


def check_positive_int(argument: str, value: Any, otherwise: str = "") -> None:
    """Raise ValueError, naming `argument`, unless value is a positive int."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{argument}: expected a positive int{otherwise}, got {value!r}")


def check_fraction(argument: str, value: Any, otherwise: str = "") -> None:
    """Raise ValueError, naming the argument, unless value is a number from 0 to 1."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise ValueError(f"{argument}: expected a number from 0 to 1{otherwise}, got {value!r}")


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


def chosen_rows(index: Any, count: int) -> list[int]:
    """Which of so many rows an index chooses: an int, a slice, ints, or a bool for each row.

    Raises:
        IndexError: If it chooses none, or one that there is not.
        TypeError: If it is something else.
    """
    given = index.tolist() if hasattr(index, "tolist") else index  # tensors, numpy's numbers
    rows = range(count)
    if isinstance(given, slice):
        chosen = list(rows[given])
    elif isinstance(given, int) and not isinstance(given, bool):
        chosen = [rows[given]]
    elif isinstance(given, (list, tuple, range)):
        marks = [row for row in given if isinstance(row, bool)]
        if marks and len(marks) != count:
            raise IndexError(f"index: expected a bool for each of {count}, got {len(marks)}")
        chosen = [r for r in rows if given[r]] if marks else [rows[row] for row in given]
    else:
        raise TypeError(f"index: expected an int, a slice or a list of ints, got {index!r}")
    if not chosen:
        raise IndexError("index: expected at least one image, got none")
    return chosen


def check_pieces(argument: str, text: Any) -> list[tuple[str, float | None]]:
    """The pieces of a text, each with a finite value or None.

    Raises:
        TypeError: If a piece is not a string and a number or None.
        ValueError: If a value is not finite.
    """
    for index, piece in enumerate(text):
        known = isinstance(piece, tuple) and len(piece) == 2 and isinstance(piece[0], str)
        if not known or not isinstance(piece[1], (int, float, type(None))):
            raise TypeError(
                f"{argument}[{index}]: expected a string and a number or None, got {piece!r}"
            )
        if piece[1] is not None and not math.isfinite(piece[1]):
            raise ValueError(f"{argument}[{index}]: expected a finite value, got {piece[1]}")
    return list(text)
