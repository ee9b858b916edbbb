"""Methods compared on the same images, by the same measures, with references and intervals."""

from __future__ import annotations

from .compare import compare
from .measures import MEASURES
from .randomization import CHECKS
from .results import Comparison
from .store import FolderStore, MemoryStore

__all__ = ["CHECKS", "MEASURES", "Comparison", "FolderStore", "MemoryStore", "compare"]
