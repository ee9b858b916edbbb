"""The original and its eleven transformations, each a planar homography."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Moves = Literal["object", "picture"]
"""What a transformation moves: the object alone, on a background that stays; or the whole."""

Matrix = tuple[tuple[float, float, float], ...]

_DISTANCE = 3.0  # of the eye of a viewpoint, in half sides of what it looks at


@dataclass(frozen=True)
class Transformation:
    """A planar homography of the object, or of the whole picture.

    Coordinates are relative to what moves: x to the right and y down, from -1 to 1 over the
    picture, or over the square of the longer side of the object's box around that box's centre.

    Attributes:
        factor: What it changes.
        level: How far, as text; "" where the factor has one version that needs no number.
        moves: See `Moves`.
        matrix: 3 x 3, rows of floats: from a point (x, y, 1) of the original to where it goes, up
            to a factor.

    Example:
        >>> [str(change) for change in TRANSFORMATIONS][:2]
        ['original', 'scale 30%']
        >>> TRANSFORMATIONS[1].placed((0.5, 0.0), 0.25)[0].round(2).tolist()
        [0.3, 0.0, 0.35]
    """

    factor: str
    level: str
    moves: Moves
    matrix: Matrix

    def __str__(self) -> str:
        return f"{self.factor} {self.level}".strip()

    def placed(self, centre: tuple[float, float], half: float) -> NDArray[np.float64]:
        """The homography in the picture's coordinates.

        Args:
            centre: Of the object's box, in the picture's coordinates.
            half: Half of the longer side of that box, in the same.

        Returns:
            (3, 3), from a point of the picture to where it goes, if it moves.
        """
        own = np.array(self.matrix, dtype=np.float64)
        if self.moves == "picture":
            return own
        to_picture = np.array([[half, 0, centre[0]], [0, half, centre[1]], [0, 0, 1.0]])
        return to_picture @ own @ np.linalg.inv(to_picture)

    def described(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "factor": self.factor,
            "level": self.level,
            "moves": self.moves,
            "matrix": [list(row) for row in self.matrix],
        }


_IDENTITY: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

ORIGINAL = Transformation("original", "", "object", _IDENTITY)
"""Nothing moves."""


def _scale(share: float) -> Transformation:
    matrix = ((share, 0.0, 0.0), (0.0, share, 0.0), (0.0, 0.0, 1.0))
    return Transformation("scale", f"{share:.0%}", "object", matrix)


def _viewpoint(degrees: int, axis: str) -> Transformation:
    """A flat card, turned about an upright or a level axis, as an eye in front of it sees it.

    A point (x, y) of the card goes to (x cos, y, x sin) by a turn about the upright axis; the eye
    sees it divided by 1 + depth / distance.
    """
    turn = math.radians(degrees)
    narrow, deep = math.cos(turn), math.sin(turn) / _DISTANCE
    if axis == "side":
        matrix = ((narrow, 0.0, 0.0), (0.0, 1.0, 0.0), (deep, 0.0, 1.0))
    else:
        matrix = ((1.0, 0.0, 0.0), (0.0, narrow, 0.0), (0.0, deep, 1.0))
    return Transformation("viewpoint", f"{axis} {degrees}\N{DEGREE SIGN}", "object", matrix)


def _rotation(degrees: int) -> Transformation:
    turn = math.radians(degrees)
    cos, sin = math.cos(turn), math.sin(turn)  # y is down: this turns clockwise
    matrix = ((cos, -sin, 0.0), (sin, cos, 0.0), (0.0, 0.0, 1.0))
    return Transformation("rotation", f"{degrees}\N{DEGREE SIGN}", "picture", matrix)


def _crop(share: float) -> Transformation:
    matrix = ((1 / share, 0.0, 0.0), (0.0, 1 / share, 0.0), (0.0, 0.0, 1.0))
    return Transformation("crop", f"{share:.0%}", "picture", matrix)


def _translation(share: float) -> Transformation:
    matrix = ((1.0, 0.0, 2 * share), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    return Transformation("translation", f"right {share:.0%}", "picture", matrix)


TRANSFORMATIONS: tuple[Transformation, ...] = (
    ORIGINAL,
    *map(_scale, (0.3, 0.5, 0.7, 1.4)),
    _viewpoint(40, "side"),
    _viewpoint(40, "above"),
    Transformation(
        "horizontal flip", "", "picture", ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    ),
    Transformation(
        "vertical flip", "", "picture", ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
    ),
    _translation(0.2),
    _crop(0.75),
    _rotation(20),
)
"""The original and eleven others. The paper says how many there are of each factor; levels, and
what moves, are ours. Scale and viewpoint are of the object: they change it against a background
that stays, as what the paper reports of scale (more errors by the background) asks for. Flips,
translation, crop and rotation are of the picture, as a camera that is turned, aimed or zoomed
makes them: the paper reports that they hardly raise such errors, and that crops often help."""

FACTORS = tuple(dict.fromkeys(change.factor for change in TRANSFORMATIONS))
"""The original and the seven factors, in their order."""


def transformations(moves: Mapping[str, Moves] | None = None) -> tuple[Transformation, ...]:
    """`TRANSFORMATIONS`, of which some factors move something else.

    Args:
        moves: Factor -> what it moves; None is as they are.

    Raises:
        ValueError: If there is no such factor, or it cannot move that.

    Example:
        >>> changed = transformations({"viewpoint": "picture"})
        >>> [change.moves for change in changed if change.factor == "viewpoint"]
        ['picture', 'picture']
    """
    wanted = dict(moves or {})
    for factor, what in wanted.items():
        if factor not in FACTORS[1:]:
            raise ValueError(f"moves: expected some of {', '.join(FACTORS[1:])}, got {factor!r}")
        if what not in get_args(Moves):
            raise ValueError(f"moves: expected object or picture for {factor}, got {what!r}")
    return tuple(
        replace(change, moves=wanted.get(change.factor, change.moves)) for change in TRANSFORMATIONS
    )
