"""Maps over their images as HTML that holds all it needs: for a notebook, a report, a page.

`map_view` shows maps over photos, `cluster_view` clusters without them. A template, plain
JavaScript and a style sheet lie beside this file, and what comes out asks nothing of anywhere else.
"""

from __future__ import annotations

from .clusters import cluster_view
from .view import map_view

__all__ = ["cluster_view", "map_view"]
