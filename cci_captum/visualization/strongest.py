"""Which clusters a picture outlines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._inputs import to_array

if TYPE_CHECKING:
    from ..effects import ClusterEffects


def outlined(
    effects: ClusterEffects, target: Any, outline: bool | Sequence[int]
) -> list[NDArray[np.bool_] | None]:
    """Of each image the patches of one cluster.

    Args:
        effects: Of B images.
        target: As in `ClusterEffects.drops`.
        outline: True, of each image the cluster with the largest drop, if that is above
            `ClusterEffects.rounding`; False, none; or the number of a cluster of each.

    Returns:
        B masks (h, w), None where there is no such cluster.

    Raises:
        TypeError: If outline is something else.
        ValueError: If it has another length than B, or an image has no such cluster.
    """
    labels, numbers = to_array(effects.labels), to_array(effects.clusters)
    if isinstance(outline, (bool, np.bool_)):
        if not outline:
            return [None] * len(labels)
        drops = to_array(effects.drops(target))
        strong = drops.max(axis=1) > to_array(effects.rounding(target))
        best = drops.argmax(axis=1)
        return [own == k if s else None for own, k, s in zip(labels, best, strong, strict=True)]
    if isinstance(outline, str) or not hasattr(outline, "__len__"):
        raise TypeError(
            f"outline: expected True, False or the number of a cluster of each image, got "
            f"{outline!r}"
        )
    if len(outline) != len(labels):
        raise ValueError(
            f"outline: expected {len(labels)} numbers, one an image, got {len(outline)}"
        )
    found: list[NDArray[np.bool_] | None] = []
    for index, number in enumerate(outline):
        own = numbers[index][numbers[index] >= 0].tolist()
        if number not in own:
            raise ValueError(f"outline[{index}]: expected one of the clusters {own}, got {number}")
        found.append(labels[index] == own.index(number))
    return found
