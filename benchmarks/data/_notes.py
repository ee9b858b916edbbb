"""What is said of images whose values had to be scaled to 8 bits."""

from __future__ import annotations

import warnings


class ScalingNotes:
    """Notes of images as they are read: each has its own, the data's notes the first alone.

    Args:
        notes: Those of the data, which get it.
    """

    def __init__(self, notes: list[str]) -> None:
        self._notes, self._said = notes, False

    def of(self, name: str, scaling: str) -> str:
        """The note of an image, "" where nothing was scaled; the first is warned about.

        Called by what the reader of the data calls, so that the warning names the reader's line.
        """
        note = f"{name}: {scaling}; other images of this kind are read alike" if scaling else ""
        if note and not self._said:
            self._said = True
            self._notes.append(note)
            warnings.warn(note, UserWarning, stacklevel=3)
        return note
