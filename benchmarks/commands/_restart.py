"""`--restart`: what an earlier run left in a folder is thrown away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from cci_captum.names import readable

from ._common import CommandError
from ._working import PARTS, PLAN, Working, read_plan

if TYPE_CHECKING:
    from ..comparison import FolderStore


def store_of(out: Path, restart: bool, working: Working) -> FolderStore:
    """Where units of a run are kept; emptied where the user says so.

    Raises:
        CommandError: If one of several workers is to empty it.
    """
    from ..comparison import FolderStore

    if restart:
        if not working.alone:
            raise refusal_to_restart(out / PARTS)
        empty(out)
    return FolderStore(out / PARTS)


def refusal_to_restart(parts: Path) -> CommandError:
    """That one of several workers may not throw away what others measure."""
    return CommandError(
        "--restart: expected it of one worker, which would throw away what others measure; remove "
        f"{readable(parts)} before they start"
    )


def empty(out: Path) -> None:
    """Throw units of a run away, and how many threads it was begun with."""
    from ..comparison.parts import write_text

    parts = out / PARTS
    for pattern in ("*.parquet", "*.unreadable", "*.json"):
        for path in parts.glob(pattern):
            path.unlink(missing_ok=True)
    if (out / PLAN).exists():
        asked = read_plan(out / PLAN)
        if asked.pop("threads", None) is not None:
            write_text(out / PLAN, json.dumps(asked, indent=2) + "\n")
