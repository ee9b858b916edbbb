"""Methods compared on the same images, by the same measures, with references and intervals."""

from __future__ import annotations

from cci_captum._extras import needed_by

with needed_by("compare"):
    # Now: a store would miss pyarrow only once there is something to keep.
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401

    from .compare import compare
    from .folder_store import FolderStore
    from .measures import MEASURES
    from .randomization import CHECKS
    from .results import Comparison
    from .run import Run
    from .store import MemoryStore

__all__ = ["CHECKS", "MEASURES", "Comparison", "FolderStore", "MemoryStore", "Run", "compare"]
