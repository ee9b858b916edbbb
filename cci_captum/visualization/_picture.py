"""Figures that show themselves in a notebook, and whose fonts journals take."""

from __future__ import annotations

import io
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

TRUETYPE = 42  # journals refuse Type 3 fonts, matplotlib's default


class Picture(Figure):
    """A matplotlib figure that a notebook shows as the last line of a cell, whatever the backend.

    Text in PDF and PostScript files stays text, in fonts of type 42. No global setting changes.

    Example:
        >>> picture = Picture(figsize=(2, 1))
        >>> picture._repr_png_()[1:4]
        b'PNG'
    """

    def savefig(self, fname: Any, **options: Any) -> None:
        """As `matplotlib.figure.Figure.savefig`.

        Args:
            fname: A path or a file; its ending says the format.
            options: As there.
        """
        with rc_context({"pdf.fonttype": TRUETYPE, "ps.fonttype": TRUETYPE}):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """The picture as notebooks ask for it."""
        content = io.BytesIO()
        self.savefig(content, format="png", dpi="figure")
        return content.getvalue()
