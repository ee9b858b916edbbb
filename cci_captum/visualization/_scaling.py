"""At which value the colours of a map are full, and which maps are zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ._inputs import Array, positive_number, to_array

Scale = Literal["per-map", "per-row", "per-column", "shared"] | float

_ROUNDINGS = 16  # in units of the dtype's epsilon: what sums and differences make of one
_SMALLEST = 1e-12


def floors(maps: Mapping[str, Any], largest: Array, floor: Any) -> Array:
    """The largest absolute value that counts as zero, for each column and row."""
    if isinstance(floor, Mapping) and (unknown := [name for name in floor if name not in maps]):
        raise ValueError(f"floor: expected columns among {[*maps]}, got {unknown}")
    floors = np.empty_like(largest)
    for row, (name, column) in zip(floors, maps.items(), strict=True):
        given = floor.get(name) if isinstance(floor, Mapping) else floor
        if given is None:
            own = largest[list(maps).index(name)].max()
            row[:] = max(_ROUNDINGS * _epsilon(column) * own, _SMALLEST)
            continue
        numbers = to_array(given).astype(np.float64)
        if numbers.shape not in ((), row.shape) or not (numbers >= 0).all():
            raise ValueError(
                f"floor: expected one or {len(row)} numbers that are not negative, got {given!r}"
            )
        row[:] = numbers
    return floors


def _epsilon(column: Any) -> float:
    """Of the dtype of maps; float32's where it has fewer digits or is no floating point type."""
    double = "float64" in str(getattr(column[0], "dtype", ""))
    return float(np.finfo(np.float64 if double else np.float32).eps)


def full_colour(largest: Array, scale: Scale) -> Array:
    """The value at which the colours are full, for each column and row: (columns, rows)."""
    if not isinstance(scale, str):
        return np.full_like(largest, positive_number("scale", scale))
    shared_axes = {"per-map": (), "per-row": (0,), "per-column": (1,), "shared": (0, 1)}
    if scale not in shared_axes:
        raise ValueError(f"scale: expected a number or one of {[*shared_axes]}, got {scale!r}")
    full = np.broadcast_to(largest.max(axis=shared_axes[scale], keepdims=True), largest.shape)
    return np.where(full > 0, full, 1.0)  # a map of zeros stays white


def ticks_of(style: str, scale: Scale, full: Array) -> list[str]:
    """Ticks of the colour bar: its ends are numbers if they are the same for all maps."""
    end = "max" if isinstance(scale, str) and scale != "shared" else f"{full.flat[0]:.2g}"
    if style == "spotlight":
        return ["\N{LESS-THAN OR EQUAL TO} 0", end]
    return [f"\N{MINUS SIGN}{end}", "0", end]
