"""A worker: it measures what is missing of a run, whoever else does the same."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol

import pandas as pd
import torch

from ..comparison import FolderStore
from ..comparison.plan import Key, Plan
from ..data import ImageData
from ..tasks import read_blocks
from .claims import Claims
from .place import Place
from .stopping import Stop

_PAUSE = 1.0  # seconds between two looks at what others are measuring


class Readable(Protocol):
    """What workers read ahead, such as a `cci_captum.benchmarks.tasks.Task`."""

    @property
    def reader(self) -> Any:
        """From the places of a block to what is read of it, with `notes` and `pin_memory`."""
        ...

    @property
    def data(self) -> ImageData:
        """The images."""
        ...

    @property
    def device(self) -> torch.device:
        """What works on them."""
        ...


class Measurable(Protocol):
    """What workers can share, such as `cci_captum.benchmarks.comparison.Run`."""

    @property
    def task(self) -> Readable:
        """What is read."""
        ...

    @property
    def plan(self) -> Plan:
        """Its units, and all that decides their numbers."""
        ...

    def maps_of(self, key: Key) -> int:
        """How many maps of an item a unit has."""
        ...

    def measure(
        self, places: Sequence[int], keys: Iterable[Key], loaded: Any = None
    ) -> Iterator[tuple[Key, pd.DataFrame]]:
        """Units of a block, one after the other, as the caller asks for the next."""
        ...


def order_of(blocks: int, place: Place) -> list[int]:
    """Blocks in the order in which a worker takes them.

    Its own share first, one after the other; then those of others, in an order of its own, so that
    two that come to help meet rarely.

    Args:
        blocks: How many there are.
        place: Which worker it is.

    Example:
        >>> order_of(6, Place(rank=1, world=3))[:2]
        [2, 3]
    """
    own = range(place.rank * blocks // place.world, (place.rank + 1) * blocks // place.world)
    others = [block for block in range(blocks) if block not in own]
    random.Random(place.rank).shuffle(others)
    return [*own, *others]


class Worker:
    """A worker of a run.

    Args:
        run: What is to be measured.
        store: Begun with the run's plan.
        claims: Of the workers that share the store; inside its context.
        stop: Where it is set, the worker ends after the unit in progress.
        place: Which worker it is; None is the only one.
        done: Called after each unit that it measured, with the number of its items.
        readers: Processes that read images ahead; see `read_blocks`.
    """

    def __init__(
        self,
        run: Measurable,
        store: FolderStore,
        claims: Claims,
        stop: Stop,
        place: Place | None = None,
        done: Callable[[Key, int], None] = lambda key, items: None,
        readers: int = 0,
    ) -> None:
        self._run, self._store, self._claims, self._stop = run, store, claims, stop
        self._place, self._done, self._readers = place or Place(), done, readers
        self._model = hashlib.sha256(run.plan.model.encode("utf-8", "surrogatepass")).hexdigest()

    def work(self) -> bool:
        """Measure units until none is missing but those that others are measuring.

        Returns:
            Whether none is missing at all.

        Raises:
            OSError: If a unit cannot be stored, or an image cannot be read now.
            RuntimeError: If the device fails, or a reader ends.
        """
        order = order_of(len(self._run.plan.blocks), self._place)
        left = self._without_claimed(order, self._readers)
        while left and not self._stop:
            left = [block for block in self._without_claimed(left) if self._missing(block)]
            if all(self._claims.is_alive(self._claim(block)) for block in left):
                break  # others end these
            time.sleep(_PAUSE)
        return not self._store.missing(self._run.plan.all_keys())

    def _without_claimed(self, blocks: Sequence[int], readers: int = 0) -> list[int]:
        """Measure these, but for those that others measure, which are returned."""
        left: list[int] = []

        def order() -> Iterator[tuple[int, range]]:
            for block in blocks:
                if self._stop:
                    return
                if self._claims.is_taken(self._claim(block)):
                    left.append(block)
                elif self._missing(block):
                    yield block, self._run.plan.blocks[block]

        task = self._run.task
        pin_memory = task.device.type == "cuda"
        with closing(read_blocks(task.reader, order(), readers, pin_memory)) as found:
            for block, loaded in found:
                if not self._measure(block, loaded):
                    left.append(block)
                if self._stop:
                    break
        return left

    def _measure(self, block: int, loaded: Any) -> bool:
        """Measure what is missing of a block; False if another worker does."""
        if not self._missing(block):
            return True
        if not self._claims.take(self._claim(block)):
            return False
        try:
            places = self._run.plan.blocks[block]
            for key, unit in self._run.measure(places, self._still_missing(block), loaded):
                self._store.add(key, unit)
                self._done(key, len(places))
        finally:
            self._claims.release(self._claim(block))
        return True

    def _missing(self, block: int) -> list[Key]:
        return self._store.missing(self._run.plan.keys(block))

    def _still_missing(self, block: int) -> Iterator[Key]:
        """Units that are missing when they are asked for."""
        for key in self._run.plan.keys(block):
            if self._stop:
                return
            if self._store.missing([key]):
                yield key

    def _claim(self, block: int) -> str:
        return f"{self._model[:16]}-{block:06d}"
