"""Several workers on this machine, each a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from .place import OWN, Place
from .stopping import STOPPED, Stop


def launch(command: Sequence[str], workers: int) -> list[int]:
    """Run a command of `cci-captum` in several processes, in place of this one; wait for all.

    A signal that asks this process to end is handed on; a worker that dies leaves the others.

    Args:
        command: Its words, without "cci-captum".
        workers: How many.

    Returns:
        The exit code of each; negative is the number of a signal.

    Raises:
        KeyboardInterrupt: If this process was interrupted, once all have ended.
    """
    environ = dict(os.environ)
    with Stop() as stop:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "cci_captum.benchmarks.cli", *command],
                env={**environ, OWN: place},
            )
            for place in Place.find(environ).split(workers)
        ]
        told = interrupted = False
        waiting = list(running)
        while waiting:
            try:
                waiting[0].wait(timeout=0.2)
                waiting.pop(0)
                continue
            except subprocess.TimeoutExpired:
                pass
            except KeyboardInterrupt:  # which a terminal sends to all of them, others to this one
                interrupted = True
            if (stop or interrupted) and not told:
                told = True
                for process in running:
                    with suppress(ProcessLookupError):
                        process.send_signal(signal.SIGTERM)
    if interrupted:
        raise KeyboardInterrupt
    # A worker that was told before it could heed it, while it was being started, had nothing begun.
    killed = {-signal.SIGTERM, -getattr(signal, stop.signal or "SIGTERM")} if stop else set()
    return [STOPPED if p.returncode in killed else p.returncode for p in running]


def exit_code(codes: Sequence[int]) -> int:
    """Of all workers together: 0 where each ended well."""
    if all(code == 0 for code in codes):
        return 0
    return STOPPED if STOPPED in codes else 1
