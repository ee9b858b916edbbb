"""Cluster-based Concept Importance (CCI) for CLIP-like models, as a Captum attribution method.

The main names are here; `cci_captum.vision_towers`, `cci_captum.clustering` and
`cci_captum.visualization` hold what is under them.
"""

from __future__ import annotations

from ._version import __version__
from .cci import CCI
from .clip import ImageTextSimilarity, LoadedCLIP, ZeroShotClassifier, load_clip
from .clustering import KMeans
from .effects import ClusterEffects
from .vision_towers import VisionTower, find_vision_tower
from .visualization import attribution_grid, show_clusters

__all__ = [
    "CCI",
    "ClusterEffects",
    "ImageTextSimilarity",
    "KMeans",
    "LoadedCLIP",
    "VisionTower",
    "ZeroShotClassifier",
    "__version__",
    "attribution_grid",
    "find_vision_tower",
    "load_clip",
    "show_clusters",
]
