"""Scenes with exact masks, drawn on the fly: what the embedded models are trained and tested on."""

from __future__ import annotations

from .generator import ARTWORK, KINDS, SceneGenerator
from .scene import Scene

__all__ = ["ARTWORK", "KINDS", "Scene", "SceneGenerator"]
