"""Regions of patches: their borders, and where a name stands in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def borders(labels: NDArray[np.generic]) -> NDArray[np.float64]:
    """The lines between patches (h, w) that differ, (N, 2, 2): x and y of both ends, in patches."""
    rows, columns = np.nonzero(labels[:, 1:] != labels[:, :-1])
    upright = np.stack([[columns + 1, rows], [columns + 1, rows + 1]])
    rows, columns = np.nonzero(labels[1:] != labels[:-1])
    level = np.stack([[columns, rows + 1], [columns + 1, rows + 1]])
    return np.concatenate([upright, level], axis=2).transpose(2, 0, 1).astype(np.float64)


def outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """As `borders`, all around a mask, along the edges of the picture too."""
    return borders(np.pad(mask, 1)) - 1


def innermost(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N, 2): row and column of a region's patches, those farthest from every other one first.

    The rim around the picture is outside.
    """
    cells = np.argwhere(inside)
    outside = np.argwhere(~np.pad(inside, 1)) - 1
    distance = ((cells[:, None] - outside[None]) ** 2).sum(-1).min(axis=1)
    return np.asarray(cells[np.argsort(-distance, kind="stable")])
