"""Long runs: any number of processes that share a folder, and nothing else."""

from __future__ import annotations

from .claims import Claims
from .launch import exit_code, launch
from .place import Place
from .progress import Progress
from .records import Record
from .stopping import STOPPED, Stop
from .worker import Measurable, Worker

__all__ = [
    "STOPPED",
    "Claims",
    "Measurable",
    "Place",
    "Progress",
    "Record",
    "Stop",
    "Worker",
    "exit_code",
    "launch",
]
