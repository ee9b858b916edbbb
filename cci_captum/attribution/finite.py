"""One rule for maps and scores: an error that names the method, the images and what was wrong.

No method returns a map that is no map of its images or not finite, nor one of such scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor


class NotFiniteError(ValueError):
    """NaN or infinity where a number is needed.

    Attributes:
        images: Which of the images, as they were given.
        what: What is not finite.
    """

    def __init__(self, what: str, images: Sequence[int], method: str = "") -> None:
        self.what = what
        self.images = list(images)
        prefix = f"{method}: " if method else ""
        super().__init__(
            f"{prefix}expected finite {what}, got NaN or infinity for images {self.images}"
        )

    def within(self, method: str, images: Sequence[int]) -> NotFiniteError:
        """The same error of a method that was given more images, of which it ran these."""
        return NotFiniteError(self.what, sorted({images[row] for row in self.images}), method)


def check_map(values: Any, source: str, shape: tuple[int | str, ...]) -> None:
    """Raise an error of the source unless values are floating point maps of this shape.

    Args:
        values: What a method's own code returned.
        source: Its name.
        shape: A number, or the name of any number, for each dimension.

    Raises:
        TypeError: If values are no floating point tensor.
        ValueError: If they have another shape.
    """
    wanted = f"a floating point tensor ({', '.join(map(str, shape))})"
    if not isinstance(values, Tensor) or not values.is_floating_point():
        got = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"{source}: expected {wanted}, got {got}")
    fits = zip(values.shape, shape, strict=False)
    if values.ndim != len(shape) or any(isinstance(n, int) and size != n for size, n in fits):
        flat = "; .unflatten(1, recording.grid) makes a map of (B, N)" if values.ndim == 2 else ""
        raise ValueError(f"{source}: expected {wanted}, got shape {tuple(values.shape)}{flat}")


def check_finite(values: Tensor, what: str, method: str = "") -> None:
    """Raise NotFiniteError unless all values (B, ...) are finite."""
    finite = values.isfinite()
    if not bool(finite.all()):
        rows = (~finite).view(len(values), -1).any(dim=1).nonzero().flatten()
        raise NotFiniteError(what, rows.tolist(), method)
