"""The colours of maps, the same in figures and in HTML."""

from __future__ import annotations

# At equal steps from opposes (blue) over zero (white) to supports (red): the two ends stay apart
# for every common kind of colour blindness.
DIVERGING_STOPS = ("#1f56a3", "#4393c3", "#b9d8ea", "#ffffff", "#f9c4ab", "#de6e56", "#b51c2e")


LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue

_DARK = 0.55


def is_dark(red: float, green: float, blue: float) -> bool:
    """Whether letters on a colour, of 0 to 1 each, are white."""
    return sum(a * b for a, b in zip(LUMINANCE, (red, green, blue), strict=True)) < _DARK


def diverging(value: float) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a value from -1 (opposes) to 1 (supports).

    Example:
        >>> diverging(0.0), diverging(1.0)
        ((255, 255, 255), (181, 28, 46))
    """
    place = (min(max(value, -1.0), 1.0) + 1) / 2 * (len(DIVERGING_STOPS) - 1)
    index = min(int(place), len(DIVERGING_STOPS) - 2)
    low, high = (bytes.fromhex(stop[1:]) for stop in DIVERGING_STOPS[index : index + 2])
    red, green, blue = (
        round(a + (place - index) * (b - a)) for a, b in zip(low, high, strict=True)
    )
    return red, green, blue
