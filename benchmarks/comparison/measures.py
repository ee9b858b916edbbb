"""All measures of a comparison in one table: what it measures, summarises and shows."""

from __future__ import annotations

import math
from dataclasses import replace

from ..faithfulness import TIES
from ..localization import MEASURES as LOCALIZATION
from ..measures import Measure

_AREAS = {"score": "score", "probability": "probability", "top1": "top-1", "top5": "top-5"}

AREAS = tuple(
    Measure(
        f"{direction}_{name}",
        f"{direction} {title}",
        "curve",
        "lower" if direction == "deletion" else "higher",
        *((-math.inf, math.inf) if name == "score" else (0, 1)),
    )
    for direction in ("deletion", "insertion")
    for name, title in _AREAS.items()
)
"""Under the curves of `FaithfulnessCurves`."""

RANKED = {
    f"{direction}_rank": f"{direction}_probability" for direction in ("deletion", "insertion")
}
"""Rank among the methods on an image -> the area that it goes by."""

COSTS = (
    Measure("forward_passes", "forward passes an image"),
    Measure("seconds", "seconds an image"),
)

UNDER_TIES = (
    "deletion_top1",
    "insertion_top1",
    "deletion_probability",
    "insertion_probability",
)
"""Areas that are measured under several orders of ties; columns end in "_raster", ..."""

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        *AREAS,
        *(
            replace(area, name=f"{area.name}_{order}", title=f"{area.title}, {order}")
            for area in AREAS
            if area.name in UNDER_TIES
            for order in TIES
        ),
        Measure("tied", "tied", "curve", None, 0, 1),
        *(Measure(name, name.replace("_", " "), "curve", None, 1) for name in RANKED),
        *LOCALIZATION,
        *COSTS,
        Measure("similarity", "similarity", lowest=-1, highest=1),
    )
}
"""Name -> measure, in the order of the columns."""

__all__ = ["AREAS", "COSTS", "LOCALIZATION", "MEASURES", "RANKED", "UNDER_TIES"]
