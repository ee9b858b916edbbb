"""COVAR: photos on other backgrounds, at other scales and places, with controls and exact masks."""

from __future__ import annotations

from cci_captum._extras import needed_by

with needed_by("cci_captum.benchmarks.covar"):
    from .backgrounds import BackgroundFolder, Backgrounds, Textures
    from .build import BuildRun
    from .compositor import Compositor
    from .counts import DryRun, dry_run
    from .cutout import Background
    from .design import CONTROLS, Design
    from .editors import Edited, Editor
    from .sources import Photos, Usable
    from .transformations import FACTORS, TRANSFORMATIONS, Transformation, transformations

__all__ = [
    "CONTROLS",
    "FACTORS",
    "TRANSFORMATIONS",
    "Background",
    "BackgroundFolder",
    "Backgrounds",
    "BuildRun",
    "Compositor",
    "Design",
    "DryRun",
    "Edited",
    "Editor",
    "Photos",
    "Textures",
    "Transformation",
    "Usable",
    "dry_run",
    "transformations",
]
