"""One rule for numbers that are none: an error that names the method, the images and what it was.

No method returns a map that is not finite, nor one of scores that are not.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def check_finite(values: Tensor, what: str, method: str = "") -> None:
    """Raise NotFiniteError unless all values (B, ...) are finite."""
    finite = values.isfinite()
    if not bool(finite.all()):
        rows = (~finite).view(len(values), -1).any(dim=1).nonzero().flatten()
        raise NotFiniteError(what, rows.tolist(), method)
