"""How the lines of methods look: apart from each other, and the same in every panel."""

from __future__ import annotations

from typing import Any, NamedTuple

# Okabe and Ito (2008) without yellow and black, then two dark colours: at least 10 apart
# (CIEDE2000) for full colour vision and for each of the three kinds of colour blindness.
_COLOURS = (
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#332288",
    "#6B3D10",
)
_MARKERS = "os^DvPX*"
_DASHES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
_REFERENCES: tuple[Any, ...] = ((0, (1, 1.5)), (0, (6, 2)), (0, (6, 2, 1, 2)))  # dashes
GREY = "#8C8C8C"


class Look(NamedTuple):
    """The colour, dashes and marker of a line; a filled marker has the line's colour inside."""

    colour: str
    dashes: Any
    marker: str
    filled: bool

    def options(self) -> dict[str, Any]:
        """What `Axes.plot` takes."""
        return {
            "color": self.colour,
            "linestyle": self.dashes,
            "linewidth": 1.2 if self.marker else 0.9,
            "marker": self.marker,
            "markerfacecolor": self.colour if self.filled else "white",
            "markersize": 5 if self.marker == "*" else 3.6,
            "markeredgewidth": 0.7,
        }


def method_look(index: int) -> Look:
    """The look of a method; those of the first 32 differ, those of the first 8 in colour."""
    turn, colour = divmod(index, len(_COLOURS))
    return Look(
        _COLOURS[colour],
        _DASHES[turn % len(_DASHES)],
        _MARKERS[(colour + 3 * turn) % len(_MARKERS)],  # the same colour, another marker
        filled=turn % 2 == 0,
    )


def reference_look(index: int) -> Look:
    """The look of a reference: grey, without a marker."""
    return Look(GREY, _REFERENCES[index % len(_REFERENCES)], "", filled=True)
