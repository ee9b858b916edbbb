"""Maps over their images as HTML that holds all it needs: for a notebook, a report, a page.

One view, made by `map_view`: a template, plain JavaScript and a style sheet lie beside this
file, and what comes out asks nothing of anywhere else.
"""

from __future__ import annotations

from .view import map_view

__all__ = ["map_view"]
