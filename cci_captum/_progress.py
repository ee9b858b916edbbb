"""Progress bars; a notebook without ipywidgets gets the text ones, without a word of warning."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # IProgress not found
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
