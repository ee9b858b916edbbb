"""Captum's rules for `target`: one output an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import _captum


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


def for_each_target(explain: Callable[[Any], Tensor], target: Any, targets: Any) -> Tensor:
    """What a function of one target gives for several: (B, ...) each -> (B, T, ...).

    Args:
        explain: From a target by Captum's rules to a tensor with a row an image.
        target: What the caller was given beside targets: None.
        targets: T of them, a sequence or a tensor (T,).

    Raises:
        TypeError: If targets is no sequence.
        ValueError: If target was given, too, or targets is empty; see also `select_target`.
    """
    if target is not None:
        raise ValueError(f"targets: expected no target beside them, got target={target!r}")
    listed = targets.tolist() if isinstance(targets, Tensor) else targets
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise TypeError(f"targets: expected a sequence of targets, such as [0, 3], got {targets!r}")
    if not listed:
        raise ValueError("targets: expected at least one target, got none")
    return torch.stack([explain(one) for one in listed], dim=1)


def rows_of_target(target: Any, rows: slice | Tensor, batch: int) -> Any:
    """The part of a target that belongs to some of the B images.

    Args:
        target: As in Captum.
        rows: Which images: a slice, or (n,) int64, where an image may come more than once.
        batch: B.

    Raises:
        ValueError: If target is a list or tensor of another length than B.
    """
    if isinstance(target, Tensor):
        if target.numel() == 1 and target.shape != (batch,):
            return target  # the same for all
    elif not isinstance(target, list):
        return target
    if len(target) != batch:
        raise ValueError(
            f"target: expected one for each of the {batch} images, got {len(target)}: {target!r}"
        )
    if isinstance(rows, Tensor):
        if isinstance(target, list):
            return [target[row] for row in rows.tolist()]
        rows = rows.to(target.device)
    return target[rows]


def _check_indices(target: Any, sizes: Sequence[int]) -> None:
    """Raise IndexError unless every int of a target is the index of an output.

    Here, because a gather on the GPU would not say so.
    """
    for row in target if isinstance(target, list) else [target]:
        indices = row if isinstance(row, tuple) else (row,)
        for index, size in zip(indices, sizes, strict=False):
            if isinstance(index, bool) or (isinstance(index, int) and not 0 <= index < size):
                raise IndexError
