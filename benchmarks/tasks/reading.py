"""Blocks of items, read by other processes while the model works on those before."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from .loaded import Loaded

AHEAD = 2
"""Blocks that a reader reads before the first of them is asked for."""

# A copy of this process would hold its locks as they are and its GPU's context, and would share the
# places in its open files. So readers start from a process that has none of that.
_START = "forkserver" if sys.platform == "linux" else "spawn"
# What is sent to all processes of a run is for this one: a scheduler says that it will end.
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
]

Block = tuple[int, Sequence[int]]
"""Number of a block, and the places of its items."""


def read_blocks(
    reader: Callable[[Sequence[int]], Loaded],
    order: Iterable[Block],
    readers: int = 0,
    pin_memory: bool = False,
) -> Generator[tuple[int, Loaded], None, None]:
    """Blocks of items in the order asked for, each read when it is needed or a little before.

    What is read is the same, bit for bit, whatever readers is. Readers are processes without the
    model, started afresh and handed the reader by pickling it: they end with the iterator, when it
    is dropped, closed, or left by an exception, and within seconds when this process is killed;
    signals to a group of processes they leave to this one. A script that uses them has to start
    its work under `if __name__ == "__main__":`.

    Args:
        reader: Of a task, `Task.reader`.
        order: Numbers of blocks, each with the places of its items. It is asked for a block only
            when a reader is free: at most `AHEAD` x readers before what was given out.
        readers: Processes that read ahead; 0 reads in this one.
        pin_memory: Put tensors where a GPU copies them while the CPU goes on; where there is no
            GPU, nothing.

    Returns:
        Number and content of each block.

    Raises:
        OSError: If an image could not be read now; see `Reader`.
        RuntimeError: If a reader ended, as when memory was short.
        TypeError: If readers is no int; or reader, with its data and preprocess, cannot be pickled.
        ValueError: If readers is negative.

    Example:
        >>> import cci_captum
        >>> from cci_captum.benchmarks.data import Scenes
        >>> from cci_captum.benchmarks.tasks import Reader
        >>> reader = Reader(Scenes(5), cci_captum.load_clip("tiny").preprocess)
        >>> [(number, loaded.names) for number, loaded in read_blocks(reader, [(1, [3, 4])])]
        [(1, ['scene 3', 'scene 4'])]
    """
    if not isinstance(readers, int) or isinstance(readers, bool):
        raise TypeError(f"readers: expected an int, got {type(readers).__name__}")
    if readers < 0:
        raise ValueError(f"readers: expected 0 or more processes, got {readers}")
    pin_memory = pin_memory and torch.cuda.is_available()
    return (
        _ahead(reader, order, readers, pin_memory) if readers else _here(reader, order, pin_memory)
    )


def _here(
    reader: Any, order: Iterable[Block], pin_memory: bool
) -> Generator[tuple[int, Loaded], None, None]:
    for number, places in order:
        loaded = reader(places)
        yield number, loaded.pin_memory() if pin_memory else loaded


def _ahead(
    reader: Any, order: Iterable[Block], readers: int, pin_memory: bool
) -> Generator[tuple[int, Loaded], None, None]:
    failed: list[Exception] = []
    loader = DataLoader(
        _Blocks(reader),
        batch_size=None,
        sampler=_until_failure(order, failed),
        num_workers=readers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        worker_init_fn=partial(_settle, parent=os.getpid()),
        multiprocessing_context=_START,
        prefetch_factor=AHEAD,
        generator=torch.Generator(),  # else one number of the global one is drawn
    )
    noted = False
    with closing(_Processes(loader, readers)) as processes:
        for number, found in processes:
            if isinstance(found, Exception):
                raise found
            if not noted and (note := next(filter(None, found.notes), "")):
                noted = True
                warnings.warn(note, UserWarning, stacklevel=2)  # as data do, where they are read
            yield number, found
    if failed:
        raise failed[0]


def _until_failure(order: Iterable[Block], failed: list[Exception]) -> Iterator[Block]:
    """Blocks until order raises something, which is for after those that were asked for."""
    try:
        yield from order
    except Exception as error:
        failed.append(error)


class _Processes:
    """What the readers send; raises what befalls them in words that name the option."""

    def __init__(self, loader: DataLoader, readers: int) -> None:
        self._readers = readers
        if _START == "forkserver":
            _start_server()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Got pickle error")  # said below
                self._found: Any = iter(loader)
        except (AttributeError, TypeError, pickle.PicklingError) as error:
            raise TypeError(
                "readers: expected data and preprocess that other processes can be handed, which "
                f"these cannot: {error}; 0 readers read in this one"
            ) from error
        except (EOFError, OSError) as error:
            raise RuntimeError(
                f"readers: {readers} of them could not be started: {error}"
            ) from error

    def __iter__(self) -> Iterator[tuple[int, Loaded | Exception]]:
        while True:
            try:
                found = next(self._found)
            except StopIteration:
                return
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                raise RuntimeError(
                    f"readers: expected {self._readers} processes to read until the end, but one "
                    f"ended. Mostly memory is short, where each holds up to {AHEAD} blocks, or "
                    "room in /dev/shm: use fewer readers or smaller batches. If one ends at once, "
                    "and data or preprocess are of the script that runs, start its work under "
                    'if __name__ == "__main__":, or use 0 readers'
                ) from error
            yield found

    def close(self) -> None:
        """End the readers now, which else ends them when nothing refers to the iterator."""
        self._found._shutdown_workers()


class _Blocks(Dataset):
    """Blocks by number and places, as a DataLoader asks for them."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getitem__(self, block: Block) -> tuple[int, Loaded | Exception]:
        number, places = block
        try:
            return number, self._reader(places)
        except Exception as error:
            # Sent as it is, where it can be: a DataLoader makes a text of it and its traceback.
            pickle.loads(pickle.dumps(error))
            return number, error


def _as_it_is(found: Any) -> Any:
    return found


def _start_server() -> None:
    """Start what readers start from, where it does not run yet; it imports torch for them all."""
    from multiprocessing import forkserver, resource_tracker  # of Unix alone

    multiprocessing.set_forkserver_preload(["__main__", __name__])
    resource_tracker.ensure_running()  # which lets signals through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _settle(worker: int, parent: int) -> None:
    """Make a process a reader: quiet, and deaf to all signals to end but its parent's."""
    warnings.simplefilter("ignore")
    if hasattr(signal, "sigtimedwait"):
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=_heed, args=(parent,), daemon=True).start()


def _heed(parent: int) -> None:
    """End this process when its parent has ended, or sends it SIGTERM.

    torch's workers look at who started them, which is not the parent but what they start from.
    """
    own = multiprocessing.parent_process()
    while own is not None and own.is_alive():
        told = signal.sigtimedwait({signal.SIGTERM}, 1)
        if told is not None and told.si_pid == parent:
            break
    os._exit(0)
