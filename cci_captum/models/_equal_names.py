"""Class names that a model cannot tell apart, because their embeddings are the same."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

_SHOWN = 3  # groups in a warning, and names in a group
_ROWS = 1024  # compared with all others at once
_ROUNDING = 1e-5  # of unit vectors, at least


def equal_rows(features: Tensor, rounding: float = 0.0) -> list[list[int]]:
    """Groups of rows that are the same but for rounding.

    Args:
        features: (C, D) unit vectors.
        rounding: The largest distance that rounding may leave between equal rows; 1e-5 at least,
            where cosines differ from 1 by 5e-11.

    Returns:
        The places of each group of two or more, in the order of their first places.

    Example:
        >>> import torch
        >>> equal_rows(torch.eye(3)[[0, 1, 0, 2, 1]])
        [[0, 2], [1, 4]]
    """
    unit = F.normalize(features.detach().cpu().double(), dim=1)
    closest = 1 - max(rounding, _ROUNDING) ** 2 / 2
    groups: list[list[int]] = []
    taken: set[int] = set()
    for start in range(0, len(unit), _ROWS):
        same = unit[start : start + _ROWS] @ unit.T >= closest
        for row in (same.sum(dim=1) > 1).nonzero().flatten().tolist():
            group = [
                place for place in same[row].nonzero().flatten().tolist() if place not in taken
            ]
            if start + row in group and len(group) > 1:
                groups.append(group)
                taken.update(group)
    return groups


def warn_about_equal_names(
    groups: Sequence[Sequence[str]], count: int, stacklevel: int = 2
) -> None:
    """One UserWarning for all names that have their embedding in common with another.

    Args:
        groups: The names that have the same embedding.
        count: How many names there are.
        stacklevel: As `warnings.warn` takes it.
    """
    if groups:
        warnings.warn(
            f"{sum(map(len, groups))} of {count} names have the same embedding as another, so that "
            f"no image can tell them apart: {describe(groups)}; the model may not know their "
            "words, or reads only the beginning of them",
            stacklevel=stacklevel,
        )


def describe(groups: Sequence[Sequence[str]]) -> str:
    """The first few groups of names.

    Example:
        >>> describe([["zebra", "yak"], ["a", "b", "c", "d", "e"]])
        "'zebra' = 'yak'; 'a' = 'b' = 'c' = 2 more"
    """
    shown = []
    for group in groups[:_SHOWN]:
        more = [f"{len(group) - _SHOWN} more"] if len(group) > _SHOWN else []
        shown.append(" = ".join([*map(repr, group[:_SHOWN]), *more]))
    if len(groups) > _SHOWN:
        shown.append(f"and {len(groups) - _SHOWN} more")
    return "; ".join(shown)
