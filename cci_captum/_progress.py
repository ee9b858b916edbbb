"""Progress bars; a notebook without ipywidgets gets the text ones, without a word of warning."""

from __future__ import annotations

import warnings
from typing import Any, TypeAlias

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # IProgress not found
    from tqdm.auto import tqdm

__all__ = ["Progress", "Silent", "progress_bar", "tqdm"]


class Silent:
    """A bar that nobody asked for, in the place of tqdm's own `disable=True`.

    That takes a lock which all forked processes share, and starts a thread: one process that is
    killed at the wrong moment stops all others for good.

    Example:
        >>> with Silent(total=2) as progress:
        ...     progress.update()
    """

    def __init__(self, total: float = 0) -> None:
        self.total = total

    def update(self, count: float = 1) -> None:
        """Nothing."""

    def refresh(self) -> None:
        """Nothing."""

    def set_postfix_str(self, text: str) -> None:
        """Nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass


Progress: TypeAlias = tqdm | Silent


def progress_bar(show: bool, total: float, desc: str, **options: Any) -> Progress:
    """A bar, or one that says nothing.

    Args:
        show: Which.
        total: How many steps there are.
        desc: What is being done.
        options: Others of `tqdm`.
    """
    return tqdm(total=total, desc=desc, **options) if show else Silent(total)
