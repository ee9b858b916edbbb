"""What is done now to an image encoder's passes in one thread, and in no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

Done = TypeVar("Done")


class InThread(threading.local, Generic[Done]):
    """By the module at the entry of an encoder, which all its adapters share.

    Example:
        >>> entry, noted = nn.Identity(), InThread[str]()
        >>> with noted.during(entry, "patches hidden"):
        ...     noted.get(entry)
        'patches hidden'
        >>> noted.get(entry)
    """

    def __init__(self) -> None:
        self._by_entry: WeakKeyDictionary[nn.Module, Done] = WeakKeyDictionary()

    @contextmanager
    def during(self, entry: nn.Module, done: Done) -> Iterator[None]:
        """Note what is done to this encoder's passes in this thread inside the context."""
        self._by_entry[entry] = done
        try:
            yield
        finally:
            del self._by_entry[entry]

    def get(self, entry: nn.Module) -> Done | None:
        """What is done to this encoder's passes in this thread now."""
        return self._by_entry.get(entry)

    def getter(self, entry: nn.Module) -> Callable[[], Done | None]:
        """`get` of the thread that calls this, in whatever thread it is asked for."""
        by_entry = self._by_entry
        return lambda: by_entry.get(entry)
