"""Signals that ask a worker to end: it does so after the unit in progress."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

STOPPED = getattr(os, "EX_TEMPFAIL", 75)
"""Exit code of a worker that was asked to end: run the same again."""

_SIGNALS = ("SIGTERM", "SIGUSR1", "SIGUSR2")  # of Slurm, of submitit, of people


class Stop:
    """While the context lasts, signals are remembered instead of ending the process.

    Outside of the main thread, where Python takes no signals, they do what they did.

    Attributes:
        signal: Name of the first that came; "" until then.

    Example:
        >>> with Stop() as stop:
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     print(stop.signal, bool(stop))
        SIGTERM True
    """

    def __init__(self) -> None:
        self.signal = ""
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.signal)

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():
            for name in _SIGNALS:
                if number := getattr(signal, name, None):
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number).name
