"""Methods compared on the same images, by the same measures, with references and intervals."""

from __future__ import annotations

from .compare import compare
from .randomization import CHECKS
from .results import Comparison

__all__ = ["CHECKS", "Comparison", "compare"]
