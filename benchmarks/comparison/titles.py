"""Methods and measures, called as a paper calls them."""

from __future__ import annotations

from cci_captum.baselines.spec import MethodSpec

from .measures import MEASURES

ARROWS = {"deletion": "\N{DOWNWARDS ARROW}", "insertion": "\N{UPWARDS ARROW}"}


def title(method: str) -> str:
    """A method's name as a paper prints it; of a name of one's own, the name itself.

    Args:
        method: A spec's text, as it is the key of a comparison. Another way to write a spec counts
            as a name of one's own, so that two keys have two titles.

    Example:
        >>> title("cci"), title("rise(masks=200)"), title("mine (v2)")
        ('CCI', 'RISE (200 masks)', 'mine (v2)')
    """
    try:
        spec = MethodSpec.parse(method)
    except ValueError:
        return method
    return spec.title if str(spec) == method else method


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
