"""Does a map lie on the object? Measures against masks, and their values on fresh scenes."""

from __future__ import annotations

from .metrics import MEASURES, average_precision, best_iou, energy, pointing_game

__all__ = ["MEASURES", "average_precision", "best_iou", "energy", "pointing_game"]
