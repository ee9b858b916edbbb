"""What each worker says of itself in the run's folder: where it ran, with what, how it ended."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import socket
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from ..comparison.parts import write_text
from ..versions import PACKAGES, revision, version_of
from .place import Place
from .stopping import Stop


class Record:
    """A file of a worker, written as it begins and as it ends; one that is killed leaves no end.

    Args:
        folder: Where records are; made where there is none.
        place: Which worker this is.
        device: What it computes on.
        stop: Whether it was asked to end.

    Attributes:
        path: The file.
    """

    def __init__(self, folder: Path, place: Place, device: torch.device, stop: Stop) -> None:
        host = re.sub("[^A-Za-z0-9.-]+", "-", socket.gethostname())
        self.path = folder / f"{host}-{os.getpid()}-{secrets.token_hex(4)}.json"
        self.counts = {"units": 0, "images": 0}
        self._stop, self._began = stop, time.monotonic()
        self._facts: dict[str, Any] = {
            "started": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **place.__dict__,
            "device": str(device),
            **_hardware(device),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": {name: version_of(name) for name in PACKAGES},
            "revision": revision(),
            "command": sys.argv,
        }

    def __enter__(self) -> Record:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._write({})
        self._stamp = self.path.stat().st_mtime_ns
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        how = "done"
        if error is not None:
            how = f"{type(error).__name__}: {error}"
        elif self._stop:
            how = f"stopped by {self._stop.signal}"
        with suppress(OSError):  # of a full disk, say: the error that ended it is what counts
            seconds = round(time.monotonic() - self._began, 3)
            self._write({"ended": _now(), "how": how, "seconds": seconds, **self.counts})

    def is_older_than(self, path: Path) -> bool:
        """Whether a file was written since the worker began, or stored its last unit.

        By the clock of their file system.
        """
        return path.stat().st_mtime_ns >= self._stamp

    def count(self, images: int, path: Path) -> None:
        """A unit of so many images was measured, and stored there."""
        self.counts["units"] += 1
        self.counts["images"] += images
        with suppress(FileNotFoundError):  # merged meanwhile
            self._stamp = path.stat().st_mtime_ns

    def _write(self, more: dict[str, Any]) -> None:
        write_text(self.path, json.dumps({**self._facts, **more}, indent=2) + "\n")


def _hardware(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        return {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    found = torch.cuda.get_device_properties(device)
    return {
        "gpu": found.name,
        "gpu_memory": found.total_memory,
        "cuda": torch.version.cuda,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
