"""How images are perturbed: one class for each resolution that a protocol can have.

A protocol is data. What it perturbs is a `Strategy`: pixels of the model's input, pixels of
photos, or patches. A further one is a class in `STRATEGIES`, and its name in `Resolution`.
"""

from __future__ import annotations

from typing import Any

from ..protocols import Resolution
from .base import Jobs, Perturbation, PreparedImages, Recipe, Strategy
from .photos import Photos
from .pixels import Pixels
from .tokens import Tokens

STRATEGIES: dict[Resolution, type[Strategy[Any, Any]]] = {
    strategy.resolution: strategy for strategy in (Pixels, Photos, Tokens)
}

__all__ = ["STRATEGIES", "Jobs", "Perturbation", "PreparedImages", "Recipe", "Strategy"]
