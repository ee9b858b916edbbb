"""Cluster-based Concept Importance (CCI) for CLIP-like models, as a Captum attribution method.

The main names are here; `cci_captum.vision_towers`, `cci_captum.clustering` and
`cci_captum.visualization` hold what is under them. Names are imported when first used, so that
the command line answers without loading torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .attribution.base import PatchAttribution
    from .attribution.checking import check_method
    from .attribution.field_of_view import FieldOfView
    from .attribution.forward_checks import check_forward_func
    from .calls import call_memory
    from .cci import CCI
    from .clustering import KMeans
    from .coalitions import Coalitions, all_sets
    from .effects import ClusterEffects
    from .explained_words import ExplainedWords
    from .explaining import explain
    from .explanation import Explanation
    from .gate_gradient import GateGradient
    from .mean_over_seeds import MeanOverSeeds
    from .models.as_clip import as_clip
    from .models.classifier import ImageClassifier
    from .models.clip import ImageTextSimilarity, ZeroShotClassifier
    from .models.loading import LoadedCLIP, load_clip
    from .models.scores import Centred, LogProbability, Margin
    from .models.words import WordScores
    from .shapley import ShapleyCCI
    from .shapley_effects import ShapleyEffects
    from .shared import Shared
    from .vision_towers import VisionTower, find_vision_tower, register_vision_tower
    from .visualization import (
        attribution_grid,
        faithfulness_curves,
        paired_scatter,
        show_clusters,
        text_heat,
    )

_MODULES = {
    "CCI": "cci",
    "Centred": "models.scores",
    "ClusterEffects": "effects",
    "Coalitions": "coalitions",
    "ExplainedWords": "explained_words",
    "Explanation": "explanation",
    "FieldOfView": "attribution.field_of_view",
    "GateGradient": "gate_gradient",
    "ImageClassifier": "models.classifier",
    "ImageTextSimilarity": "models.clip",
    "KMeans": "clustering",
    "LoadedCLIP": "models.loading",
    "LogProbability": "models.scores",
    "Margin": "models.scores",
    "MeanOverSeeds": "mean_over_seeds",
    "PatchAttribution": "attribution.base",
    "ShapleyCCI": "shapley",
    "ShapleyEffects": "shapley_effects",
    "Shared": "shared",
    "VisionTower": "vision_towers",
    "WordScores": "models.words",
    "ZeroShotClassifier": "models.clip",
    "all_sets": "coalitions",
    "as_clip": "models.as_clip",
    "attribution_grid": "visualization",
    "call_memory": "calls",
    "check_forward_func": "attribution.forward_checks",
    "check_method": "attribution.checking",
    "explain": "explaining",
    "faithfulness_curves": "visualization",
    "find_vision_tower": "vision_towers",
    "load_clip": "models.loading",
    "paired_scatter": "visualization",
    "register_vision_tower": "vision_towers",
    "show_clusters": "visualization",
    "text_heat": "visualization",
}

__all__ = [
    "CCI",
    "Centred",
    "ClusterEffects",
    "Coalitions",
    "ExplainedWords",
    "Explanation",
    "FieldOfView",
    "GateGradient",
    "ImageClassifier",
    "ImageTextSimilarity",
    "KMeans",
    "LoadedCLIP",
    "LogProbability",
    "Margin",
    "MeanOverSeeds",
    "PatchAttribution",
    "ShapleyCCI",
    "ShapleyEffects",
    "Shared",
    "VisionTower",
    "WordScores",
    "ZeroShotClassifier",
    "__version__",
    "all_sets",
    "as_clip",
    "attribution_grid",
    "call_memory",
    "check_forward_func",
    "check_method",
    "explain",
    "faithfulness_curves",
    "find_vision_tower",
    "load_clip",
    "paired_scatter",
    "register_vision_tower",
    "show_clusters",
    "text_heat",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
