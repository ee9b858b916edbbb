"""All measures of a comparison in one table: what it measures, summarises and shows."""

from __future__ import annotations

import math
from dataclasses import replace

from ..faithfulness import TIES
from ..faithfulness.curves import DIRECTIONS
from ..localization import MEASURES as LOCALIZATION
from ..measures import Measure
from ..tasks import KINDS

_VALUES = {name: title for kind in KINDS.values() for name, title in kind.values.items()}

AREAS = tuple(
    Measure(
        f"{direction}_{name}",
        f"{direction} {title}",
        "curve",
        "lower" if direction == "deletion" else "higher",
        *((-math.inf, math.inf) if name == "score" else (0, 1)),
    )
    for direction in DIRECTIONS
    for name, title in _VALUES.items()
)
"""Under the curves of `FaithfulnessCurves`, of every kind of task."""

RANKS = tuple(f"{direction}_rank" for direction in DIRECTIONS)
"""Rank among the methods on an item, by the area that the kind of task says."""

COSTS = (
    Measure("forward_passes", "forward passes an image"),
    Measure("seconds", "seconds an image"),
)

_UNDER_TIES = {name for kind in KINDS.values() for name in kind.areas(*kind.under_ties)}

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        *AREAS,
        *(
            replace(area, name=f"{area.name}_{order}", title=f"{area.title}, {order}")
            for area in AREAS
            if area.name in _UNDER_TIES
            for order in TIES
        ),
        Measure("tied", "tied", "curve", None, 0, 1),
        *(Measure(name, name.replace("_", " "), "curve", None, 1) for name in RANKS),
        *LOCALIZATION,
        *COSTS,
        Measure("similarity", "similarity", lowest=-1, highest=1),
    )
}
"""Name -> measure, in the order of the columns."""

__all__ = ["AREAS", "COSTS", "LOCALIZATION", "MEASURES", "RANKS"]
