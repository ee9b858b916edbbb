"""Methods and measures, called as a paper calls them."""

from __future__ import annotations

from cci_captum.baselines.registry import METHODS

from .measures import MEASURES

ARROWS = {"deletion": "\N{DOWNWARDS ARROW}", "insertion": "\N{UPWARDS ARROW}"}


def title(method: str) -> str:
    """A method's name as a paper prints it; of an unknown one, the name itself."""
    return METHODS[method].title if method in METHODS else method


def both_areas(deletion: float, insertion: float) -> str:
    """Both areas in as few characters as can be read below a map."""
    return f"{deletion:.2f} {ARROWS['deletion']}  {insertion:.2f} {ARROWS['insertion']}"


def heading(measure: str) -> str:
    """A measure with an arrow to its better side, where that side is part of the measure.

    Example:
        >>> heading("deletion_top1"), heading("pointing_game")
        ('deletion top-1 \u2193', 'pointing game')
    """
    return MEASURES[measure].heading
