"""Maps that answer: a self-contained piece of HTML for notebooks and pages."""

from __future__ import annotations

from .view import map_view

__all__ = ["map_view"]
