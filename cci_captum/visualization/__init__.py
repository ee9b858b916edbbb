"""Pictures of attributions and of clusters, as matplotlib figures.

Every function returns a `matplotlib.figure.Figure` that nothing else knows of: pyplot, the
backend and the global settings stay as they are, and nothing needs closing.
"""

from __future__ import annotations

from ._inputs import denormalize
from .clusters import show_clusters
from .grid import attribution_grid

__all__ = ["attribution_grid", "denormalize", "show_clusters"]
