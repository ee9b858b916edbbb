"""Why was it right, or wrong: the object, or what is behind it? Verdicts on predictions.

Names are imported when first used: pandas, of the extra "benchmark", is needed by tables alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .border_clusters import BorderClusters
    from .diagnoser import Diagnoser
    from .diagnosing import diagnose
    from .donors import Donors
    from .interventions import Interventions
    from .rules import Energy, PaperIoU, Rule, ShapleyRegions, find_rule
    from .verdicts import VERDICTS, agreement

_MODULES = {
    "BorderClusters": "border_clusters",
    "Diagnoser": "diagnoser",
    "Donors": "donors",
    "Energy": "rules",
    "Interventions": "interventions",
    "PaperIoU": "rules",
    "Rule": "rules",
    "ShapleyRegions": "rules",
    "VERDICTS": "verdicts",
    "agreement": "verdicts",
    "diagnose": "diagnosing",
    "find_rule": "rules",
}

__all__ = [
    "VERDICTS",
    "BorderClusters",
    "Diagnoser",
    "Donors",
    "Energy",
    "Interventions",
    "PaperIoU",
    "Rule",
    "ShapleyRegions",
    "agreement",
    "diagnose",
    "find_rule",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
