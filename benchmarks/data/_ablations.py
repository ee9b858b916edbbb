"""A picture without its object, and with noise on it or around it: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cci_captum._extras import needed_by

Pixels = NDArray[Any]
"""(H, W, 3) float64 from 0 to 1."""

Mask = NDArray[Any]
"""(H, W) bool, with an object."""

GREY = 0.5
SMALLEST = 100  # pixels of a box that "mean" fills, as released


def grey(pixels: Pixels, mask: Mask) -> Pixels:
    """The object in grey, its outline still there."""
    return np.where(mask[..., None], GREY, pixels)


def box(pixels: Pixels, mask: Mask) -> Pixels:
    """The box around all of the object in grey."""
    filled = pixels.copy()
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    filled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = GREY
    return filled


def mean(pixels: Pixels, mask: Mask) -> Pixels:
    """The box around each piece of the object in the mean colour of what else is in that box.

    Where nothing else is, that of what else is in the picture, or grey. Boxes of fewer than 100
    pixels stay as they are.
    """
    filled = pixels.copy()
    for place in _boxes(mask, SMALLEST):
        other: Mask = ~mask[place]
        filled[place] = pixels[place][other].mean(axis=0) if other.any() else _around(pixels, mask)
    return filled


def tile(pixels: Pixels, mask: Mask) -> Pixels:
    """The box around each piece of the object, tiled with what is beside it.

    A tile lies to the right, left, above or below, at most as large as the box, and ends at the
    picture's border and before the first row or column with some of the object; the largest is
    taken, in this order where equal, and repeated from the box's far side, as if it were moved by
    the box's size. Without any, the mean colour of what is not the object.
    """
    filled = pixels.copy()
    for place in _boxes(mask, 1):
        found = max(_tiles(pixels, mask, place), key=lambda one: one[0].shape[0] * one[0].shape[1])
        filled[place] = _repeated(*found, filled[place].shape[:2], _around(pixels, mask))
    return filled


ABLATIONS: dict[str, Callable[[Pixels, Mask], Pixels]] = {
    "grey": grey,
    "box": box,
    "mean": mean,
    "tile": tile,
}
"""Name -> what it makes of a picture and its object's pixels."""


def noisy(pixels: Pixels, region: Mask, noise: Pixels, sigma: float, l2: bool) -> Pixels:
    """Noise on a region, and what leaves 0 to 1 cut off.

    Args:
        pixels: The picture.
        region: Where noise is added.
        noise: (H, W, 3), standard normal.
        sigma: Its standard deviation; or, by l2, the Euclidean length of all that is added.
        l2: Whether noise is scaled so.
    """
    added = np.where(region[..., None], noise, 0.0)
    if l2:
        length = float(np.sqrt((added**2).sum()))
        added = added / length if length else added
    return (pixels + sigma * added).clip(0, 1)


def _boxes(mask: Mask, least: int) -> Iterator[tuple[slice, slice]]:
    """The box around each piece whose pixels touch by their sides, if it has so many pixels."""
    with needed_by("ObjectVariants"):
        from scipy import ndimage
    for place in ndimage.find_objects(ndimage.label(mask)[0]):
        if (place[0].stop - place[0].start) * (place[1].stop - place[1].start) >= least:
            yield place


def _around(pixels: Pixels, mask: Mask) -> Pixels:
    """The mean colour of all that is not the object, grey where it is all."""
    return np.full(3, GREY) if mask.all() else pixels[~mask].mean(axis=0)


def _tiles(
    pixels: Pixels, mask: Mask, place: tuple[slice, slice]
) -> Iterator[tuple[Pixels, int, bool]]:
    """Tiles beside a box: pixels, the axis that they lie along, and whether they come before it."""
    for axis, before in ((1, False), (1, True), (0, True), (0, False)):
        along, size = place[axis], place[axis].stop - place[axis].start
        # The box's rows or columns, with the other axis first: what is beside it, nearest first.
        strip = mask[place[0]] if axis == 1 else mask[:, place[1]].T
        taken = np.asarray(strip.any(axis=0))
        if before:
            free = ~taken[max(along.start - size, 0) : along.start][::-1]
        else:
            free = ~taken[along.stop : along.stop + size]
        length = len(free) if free.all() else int(np.argmin(free))
        start = along.start - length if before else along.stop
        part = slice(start, start + length)
        where = (place[0], part) if axis == 1 else (part, place[1])
        yield pixels[where], axis, before


def _repeated(
    found: Pixels, axis: int, before: bool, size: tuple[int, ...], otherwise: Pixels
) -> Pixels:
    """A tile repeated over a box, from the far side of it; a colour where it is empty."""
    if not found.size:
        return np.broadcast_to(otherwise, (*size, 3))
    length = size[axis]
    times = -(-length // found.shape[axis])
    tiled = np.concatenate([found] * times, axis=axis)
    part = slice(tiled.shape[axis] - length, None) if before else slice(0, length)
    return tiled[:, part] if axis == 1 else tiled[part]
