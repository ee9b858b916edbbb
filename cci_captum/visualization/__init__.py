"""Pictures of attributions, of clusters and of benchmarks, as matplotlib figures.

Every function returns a `matplotlib.figure.Figure` that nothing else knows of: pyplot, the
backend and the global settings stay as they are, and nothing needs closing.
"""

from __future__ import annotations

from ._inputs import denormalize
from .clusters import show_clusters
from .curves import Band, faithfulness_curves
from .grid import attribution_grid
from .scatter import paired_scatter
from .texts import text_heat

__all__ = [
    "Band",
    "attribution_grid",
    "denormalize",
    "faithfulness_curves",
    "paired_scatter",
    "show_clusters",
    "text_heat",
]
