"""The pictures in all cells of a grid, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from ._cells import Look, contour, draw_outline, sharpened, show
from ._inputs import Array
from ._scaling import Scale, floors, full_colour

ROUNDED = "zero within rounding"  # below maps that are
_ZERO = "zero everywhere"
_DARK = "no positive value"  # below spotlights of other maps


class Drawing:
    """The pictures of all cells: columns of B maps over B images."""

    def __init__(
        self,
        pictures: list[Array],
        values: list[list[Array]],
        look: Look,
        boxes: list[tuple[float, ...] | None],
        masks: list[NDArray[np.bool_]] | None,
        outlines: dict[str, list[NDArray[np.bool_] | None]],
        names: list[str],
    ) -> None:
        self.look, self.outlines = look, outlines
        self._pictures, self._sharp = pictures, [sharpened(picture) for picture in pictures]
        self._values, self._boxes, self._masks, self._names = values, boxes, masks, names
        self._zero = np.zeros((len(values), len(pictures)), dtype=bool)
        self.full = np.ones(self._zero.shape)  # the value at which a look is full

    def scaled(
        self, maps: Mapping[str, Any], floor: Any, scale: Scale, unit: str | None
    ) -> list[list[str]]:
        """Settle where a look is full and which maps are zero; what to say below each of them."""
        spotlight = self.look.style == "spotlight"
        largest = np.array([[np.abs(map_).max() for map_ in column] for column in self._values])
        least = floors(maps, largest, floor)
        self._zero = zero = largest <= least
        if spotlight:
            largest = np.array([[map_.max() for map_ in column] for column in self._values])
        dark = largest <= least
        self.full = full_colour(np.where(dark, 0.0, largest), scale)

        def note(column: int, row: int) -> str:
            map_ = self._values[column][row]
            if zero[column, row]:
                return ROUNDED if np.abs(map_).max() else _ZERO
            if dark[column, row]:
                return _DARK
            if unit is None:
                return ""
            strongest = map_.max() if spotlight else map_.flat[np.abs(map_).argmax()]
            return f"{strongest:.3g} {unit}".rstrip().replace("-", "\N{MINUS SIGN}", 1)

        return [[note(column, row) for row in range(zero.shape[1])] for column in range(len(zero))]

    def image(self, axes: Axes, row: int) -> None:
        """Draw an image as it is."""
        show(axes, self._sharp[row], self._pictures[row].shape)

    def cell(self, axes: Axes, column: int, row: int) -> None:
        """Draw a map with its image, and the lines over them."""
        size, box, full = self._pictures[row].shape, self._boxes[row], self.full[column, row]
        shares = (0.0 if self._zero[column, row] else 1.0) * self._values[column][row] / full
        painted = self.look.painted(self._sharp[row], shares, box)
        show(axes, painted, size, self.look.colours, self.look.norm(full))
        if self._masks is not None:
            contour(axes, self._masks[row], size)
        lines = self.outlines.get(self._names[column])
        if lines is not None and (mask := lines[row]) is not None:
            draw_outline(axes, mask, size, box)
