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
    from .foils import WorstFoils, worst_foil_audit
    from .interventions import Interventions
    from .judges import FineGrainedJudge
    from .rules import Energy, PaperIoU, Rule, ShapleyRegions, find_rule
    from .verdicts import VERDICTS, agreement

_MODULES = {
    "BorderClusters": "border_clusters",
    "Diagnoser": "diagnoser",
    "Donors": "donors",
    "Energy": "rules",
    "FineGrainedJudge": "judges",
    "Interventions": "interventions",
    "PaperIoU": "rules",
    "Rule": "rules",
    "ShapleyRegions": "rules",
    "VERDICTS": "verdicts",
    "WorstFoils": "foils",
    "agreement": "verdicts",
    "diagnose": "diagnosing",
    "find_rule": "rules",
    "worst_foil_audit": "foils",
}

__all__ = [
    "VERDICTS",
    "BorderClusters",
    "Diagnoser",
    "Donors",
    "Energy",
    "FineGrainedJudge",
    "Interventions",
    "PaperIoU",
    "Rule",
    "ShapleyRegions",
    "WorstFoils",
    "agreement",
    "diagnose",
    "find_rule",
    "worst_foil_audit",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
