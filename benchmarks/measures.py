"""What a measure of a map is: the facts that tables, ranks, summaries and titles go by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

_ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}"}


@dataclass(frozen=True)
class Measure:
    """A number that says something about each map.

    Attributes:
        name: Its column.
        title: As a paper calls it.
        grain: "map", the same whatever the protocol; or "curve", one for each protocol.
        better: Which side is; None where neither is.
        lowest: The least possible value.
        highest: The greatest possible value.
        function: From maps (B, h, w) and masks (B, H, W) bool to (B,) values; for measures of maps
            against masks. None where the comparison itself knows the number.

    Example:
        >>> Measure("deletion_top1", "deletion top-1", "curve", "lower", 0, 1).heading
        'deletion top-1 \u2193'
    """

    name: str
    title: str
    grain: Literal["map", "curve"] = "map"
    better: Literal["lower", "higher"] | None = None
    lowest: float = -math.inf
    highest: float = math.inf
    function: Callable[..., Any] | None = None

    @property
    def heading(self) -> str:
        """The title; of areas, with an arrow to the better side, which is part of the measure."""
        area = self.grain == "curve" and self.better is not None
        return f"{self.title} {_ARROWS[self.better]}" if area and self.better else self.title

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest possible value."""
        return self.lowest, self.highest
