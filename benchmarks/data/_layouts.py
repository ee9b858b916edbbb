"""The layouts of published data sets, which an error shows where files lie otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from cci_captum.names import readable

_SHOWN = 8  # names of what is there


def unlike(argument: str, expected: str, folder: Path, tree: str) -> str:
    """What an error says of a folder that is laid out in another way.

    Args:
        argument: Which names the folder.
        expected: What should be there, in words.
        folder: What was given.
        tree: The right layout, as text.

    Returns:
        The message: what is there, and the right layout.
    """
    return f"{argument}: expected {expected}, got {contents(folder)}; the layout is\n{tree}"


def contents(folder: Path) -> str:
    """The first few names in a folder, for an error.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     (Path(root) / "val").mkdir()
        ...     said = contents(Path(root))
        >>> said.startswith("val/ in ")
        True
    """
    shown = sorted(
        readable(entry.name) + "/" * entry.is_dir()
        for entry in os.scandir(folder)
        if not entry.name.startswith(".")
    )
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"{', '.join(shown[:_SHOWN]) or 'nothing'}{more} in {readable(folder)}"
