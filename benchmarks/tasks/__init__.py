"""What is explained and what judges the explanation: classification, retrieval.

A task hands items to a comparison block by block, says what a method explains of them and what
deletion and insertion run; the loop, the store and the tables know nothing more of it.
"""

from __future__ import annotations

from .base import Batch, Question, Task
from .classification import Classification, Explained
from .kinds import KINDS, Kind
from .loaded import Loaded, Reader
from .reading import read_blocks
from .retrieval import Retrieval

__all__ = [
    "KINDS",
    "Batch",
    "Classification",
    "Explained",
    "Kind",
    "Loaded",
    "Question",
    "Reader",
    "Retrieval",
    "Task",
    "read_blocks",
]
