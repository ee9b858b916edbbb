"""How a command works through a run: alone, or as one of many workers that share a folder."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.names import readable

from ._common import CommandError

if TYPE_CHECKING:
    import torch

    from ..comparison import FolderStore
    from ..comparison.plan import Key
    from ..runner import Claims, Measurable, Place, Record, Stop

PARTS = "parts"
"""Where units are, in the folder of a run."""

PLAN = "plan.json"
WORKERS = "workers"
_EVERY = 30.0  # seconds between two lines of progress
_PAUSE = 1.0  # seconds between two looks at who writes


class Working:
    """One worker, for as long as a command runs.

    Args:
        place: Which of how many it is; None is the only one.
        keep_records: Whether the folder says who worked in it, and what was asked for, so that
            `cci-captum run` goes on from there.
        threads: Of torch; None is as many as the folder's plan says, else this worker's share of
            the cores.
        readers: Processes that read images ahead; None is 2 with a GPU, else none.
        only_checks: Whether the command does nothing but say what is wrong with what is asked for.

    Attributes:
        stop: Whether the process was asked to end.
    """

    def __init__(
        self,
        place: Place | None = None,
        *,
        keep_records: bool = False,
        threads: int | None = None,
        readers: int | None = None,
        only_checks: bool = False,
    ) -> None:
        self._place, self._keep_records, self._threads = place, keep_records, threads
        self._readers, self.only_checks = readers, only_checks
        self.stop: Stop
        self._doing = ""
        self._claims: Claims
        self._record: Record | None = None
        self._write_plan: Callable[[], None] = lambda: None  # once the run is known to be the same

    @property
    def alone(self) -> bool:
        """Whether this process was not told of others."""
        return self._place is None or self._place.world == 1

    @property
    def _speaks(self) -> bool:
        """Whether this worker says how far all of them are."""
        return self._place is not None and self._place.world > 1 and self._place.rank == 0

    def device(self, name: str) -> str:
        """The GPU that is this worker's, where the user says "auto" or "cuda"."""
        import torch

        if self._place is None or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        return f"cuda:{self._place.local_rank % torch.cuda.device_count()}"

    @contextmanager
    def of(
        self, out: Path, parts: Path, device: torch.device, asked: dict[str, Any]
    ) -> Iterator[None]:
        """While a command runs.

        Args:
            out: Folder of the run.
            parts: Folder of its units.
            device: What this worker computes on.
            asked: The command and its options, for the folder's plan.
        """
        from ..runner import Claims, Place, Record, Stop

        self._doing = asked["command"].split()[-1]
        claims = parts / "claims"
        with ExitStack() as stack:
            self.stop = stack.enter_context(Stop())
            if self._keep_records:
                self._set_threads(out, parts, device, asked)
            stack.callback(_remove_empty, parts)  # where it was refused before it began
            stack.callback(_remove_empty, claims)
            self._claims = stack.enter_context(Claims(claims))
            if self._keep_records:
                record = Record(out / WORKERS, self._place or Place(), device, self.stop)
                self._record = stack.enter_context(record)
            yield

    def measure(self, run: Measurable, store: FolderStore) -> bool:
        """Measure what is missing and nobody else measures; whether nothing is missing then."""
        from cci_captum._progress import progress_bar

        from ..comparison.parts import unit_path
        from ..runner import Worker

        self._write_plan()
        plan, last = run.plan, time.monotonic()
        sizes = [len(places) for places in plan.blocks]
        missing = store.missing(plan.all_keys())
        total = plan.items * sum(map(run.maps_of, plan.keys(0)))
        there = total - sum(sizes[key.block] * run.maps_of(key) for key in missing)
        unit = "map" if any(plan.methods) else "image"
        bar = progress_bar(self.alone, total, self._doing, initial=there, unit=unit)

        def done(key: Key, items: int) -> None:
            nonlocal last
            bar.set_postfix_str(key.method)
            bar.update(items * run.maps_of(key))
            if self._record is not None and key.method:
                self._record.count(items, unit_path(store.folder, key))
            now = time.monotonic()
            if self._speaks and now - last >= _EVERY:
                last = now
                self._say_progress(store.folder)

        with bar:
            return Worker(
                run, store, self._claims, self.stop, self._place, done, self._readers_for(run)
            ).work()

    def _readers_for(self, run: Measurable) -> int:
        """Processes that read ahead; a command that is no long run reads as it goes."""
        if getattr(run.task.data, "in_process", False):
            return 0
        if self._readers is not None:
            return self._readers
        return 2 if self._keep_records and run.task.device.type == "cuda" else 0

    def first_to(self, name: str, path: Path) -> bool:
        """Whether a file is this worker's to write, with others that belong to it.

        Args:
            name: Of what is done, for a claim.
            path: Written last: no worker did so since this one began, or measured something.
        """
        claim = f"{name} {path.name}"
        while not self._claims.take(claim):
            if self._is_written(path) or self._claims.is_alive(claim) or self.stop:
                return False
            time.sleep(_PAUSE)  # until its owner is seen to live, or taken for dead
        return not self._is_written(path)

    def _is_written(self, path: Path) -> bool:
        return self._record is not None and path.exists() and self._record.is_older_than(path)

    def _say_progress(self, parts: Path) -> None:
        from ..runner import Progress

        with suppress(OSError, ValueError):  # of files that others are writing
            print(f"cci-captum: {Progress.of(parts).line()}", file=sys.stderr, flush=True)

    def _set_threads(
        self, out: Path, parts: Path, device: torch.device, asked: dict[str, Any]
    ) -> None:
        """Compute as the folder's first worker did: another number of threads rounds otherwise."""
        import torch

        from ..comparison.parts import write_text

        path = out / PLAN
        stored = read_plan(path) if path.exists() else {}
        usual = torch.get_num_threads()
        if self._place is not None and not self.alone and "OMP_NUM_THREADS" not in os.environ:
            usual = max(_cores() // self._place.local_world, 1)
        threads = self._threads or stored.get("threads") or usual
        if device.type == "cpu" and stored.get("threads", threads) != threads:
            raise CommandError(
                f"--threads: the run in {out} was begun with {stored['threads']}, which round "
                f"otherwise than {threads}; leave it out, or take another folder"
            )
        torch.set_num_threads(threads)
        text = json.dumps({**asked, "threads": threads}, indent=2) + "\n"
        if not path.exists() and not any(parts.glob("plan-*.json")):
            write_text(path, text)  # at once: all who come read the number of threads there
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            self._write_plan = partial(write_text, path, text)  # a run of others may refuse this


@contextmanager
def errors_of_run(out: Path, options: Mapping[str, str]) -> Iterator[None]:
    """What a run refuses or cannot write, as errors of options; what is kept when it ends.

    Args:
        out: Folder of the run.
        options: Argument, as errors begin with it -> the option that chose it.
    """
    try:
        yield
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        text = str(error.args[-1]) if error.args else str(error)
        argument, _, rest = text.partition(": ")
        if argument in options:
            text = f"{options[argument]}: {rest}"
        elif isinstance(error, (OSError, RuntimeError)):
            raise
        other = "results of the same run" in text
        remedy = "; take another folder, or --restart" if other else ""
        raise CommandError(f"{text}{remedy}") from error
    except KeyboardInterrupt:
        print(
            f"\ncci-captum: what was measured is in {readable(out / PARTS)}; the same command goes "
            "on from there",
            file=sys.stderr,
        )
        raise


def read_plan(path: Path) -> dict[str, Any]:
    """What a plan asks for: "command", and its options by their names."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"PLAN: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise CommandError(f"PLAN: expected JSON in {path}: {error}") from error
    if not isinstance(found, dict) or not isinstance(found.get("command"), str):
        raise CommandError(
            f'PLAN: expected an object with a "command", such as {{"command": "compare", "data": '
            f'"scenes", "out": "run"}}, in {path}'
        )
    return found


def _cores() -> int:
    """That this process may use: a job's, where a scheduler binds it to some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
