"""Units in a folder, which outlives the process and may be shared by many."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from cci_captum.names import readable

from .parts import (
    BLOCK,
    Footer,
    Listing,
    UnreadableError,
    family_of,
    merged_path,
    read_footer,
    read_table,
    sync,
    unit_path,
    write_table,
    write_text,
)
from .plan import OF_MODEL, Key, Plan, fingerprint
from .store import check_same, configured

_CONFIGURATION = "configuration.json"
_OF_PLAN = ("model", "items", "block_size", "methods", "settings")
_LOOK_AGAIN = 5.0  # seconds between two looks for merged files
_HOUR = 3600.0  # after which an unfinished file is nobody's


def read_plans(folder: Path) -> list[Plan]:
    """What a folder's units are of, model by model, sorted by name.

    Raises:
        FileNotFoundError: If the folder has none.
        ValueError: If a file that says so is damaged.
    """
    found = []
    for path in folder.glob("plan-*.json"):
        known = _read_json(path)
        configurations = [_read_json(folder / name) for name in _names(known["model"])]
        del configurations[1]["model"]
        found.append(Plan({**configurations[0], OF_MODEL: configurations[1]}, **known))
    if not found:
        raise FileNotFoundError(f"store: expected a run in {readable(folder)}, found none")
    return sorted(found, key=lambda plan: plan.model)


class Compacted(NamedTuple):
    """What `FolderStore.compact` did: numbers of files."""

    before: int
    after: int


class FolderStore:
    """Units as Parquet files in a folder: each is there whole, or not at all.

    A file gets its name when its content is on the disk, so that a process can be killed at any
    moment. Any number of processes may add units, the same ones too: they write the same. A file
    that is cut off or damaged is set aside, with a warning, and its unit measured again.

    Args:
        folder: Made where there is none.

    Raises:
        ValueError: If the path is that of a file.

    Example:
        >>> import tempfile
        >>> store = FolderStore(tempfile.mkdtemp())
        >>> plan = Plan({"seed": 0}, "tiny", 1, 32, {"": "", "cci": ""})
        >>> store.begin(plan)
        >>> key = Key("tiny", 0, "cci")
        >>> store.missing(plan.keys(0)) == plan.keys(0)
        True
        >>> store.add(key, pd.DataFrame({"index": [0], "energy": [0.5]}))
        >>> store.missing([key]), store.load([key])[0]["energy"].tolist()
        ([], [0.5])
        >>> FolderStore(store.folder).begin(Plan({"seed": 1}, "tiny", 1, 32, {"": ""}))
        ... # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: store: expected results of the same run ...
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"store: expected a folder, got the file {readable(self.folder)}")
        self._fingerprints: dict[str, str] = {}  # of each model that was begun
        self._whole: set[Key] = set()  # that were seen to be there
        self._merged: dict[str, dict[int, Path]] = {}
        self._footers: dict[Path, Footer] = {}  # of merged files
        self._looked = -_LOOK_AGAIN

    def begin(self, plan: Plan) -> None:
        """See `Store`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = replace(plan, configuration=json.loads(json.dumps(plan.configuration)))
        for name, part in zip(_names(plan.model), configured(known), strict=True):
            path = self.folder / name
            if not path.exists():  # of two runs that begin at once one alone writes it
                write_text(path, json.dumps(part, indent=2) + "\n", only_new=True)
            check_same(_read_json(path), part, readable(self.folder))
        path, text = self.folder / _plan_name(plan.model), _plan_text(plan)
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # more methods, say
            write_text(path, text)
        self._fingerprints[plan.model] = fingerprint(known.configuration)

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """See `Store`.

        Raises:
            ValueError: If a file of another run is where a unit should be.
        """
        left = [key for key in keys if key not in self._whole and not self._is_unit(key)]
        if left and time.monotonic() - self._looked >= _LOOK_AGAIN:
            self._look_for_merged()
        for key in left:
            if path := self._merged.get(family_of(key), {}).get(key.block):
                self._check_of_run(path, self._footers[path], key)
                self._whole.add(key)
        return [key for key in left if key not in self._whole]

    def add(self, key: Key, unit: pd.DataFrame) -> None:
        """See `Store`.

        Raises:
            OSError: If it cannot be written; what is there stays.
        """
        table = pa.Table.from_pandas(unit, preserve_index=False)
        footer = Footer(self._fingerprints[key.model], (key.block,))
        write_table(unit_path(self.folder, key), table, footer, key=key)
        self._whole.add(key)

    def load(self, keys: Iterable[Key]) -> list[pd.DataFrame]:
        """See `Store`.

        Raises:
            ValueError: If one is not there, or damaged.
        """
        tables: list[pa.Table] = []
        together: dict[Path, list[int]] = {}  # merged files, with the blocks to take of them
        try:
            for key in keys:
                path = unit_path(self.folder, key)
                try:
                    tables.append(read_table(path))
                except FileNotFoundError:  # merged, perhaps since it was seen
                    together.setdefault(self._merged_file(key), []).append(key.block)
            tables += [_of_blocks(read_table(path), blocks) for path, blocks in together.items()]
        except UnreadableError as error:
            raise ValueError(
                f"store: {error}; move it away, and run the same again: it is measured anew"
            ) from error
        return [table.to_pandas() for table in tables]

    def compact(self) -> Compacted:
        """Merge the units of each method into one file; also while others add units.

        A block that is in several files counts once. Files that a killed process left unfinished
        more than an hour ago are removed.

        Returns:
            How many files of units there were, and are.

        Raises:
            OSError: If a file cannot be written; what is there stays.
            ValueError: If a file is damaged, or the units of a method are of several runs.
        """
        listing = Listing.of(self.folder)
        before = after = 0
        for family in listing.units.keys() | listing.merged.keys():
            files = [*listing.merged.get(family, ()), *listing.units.get(family, {}).values()]
            before += len(files)
            after += self._merge(family, files)
        now = _clock_of(self.folder) if listing.unfinished else 0.0
        for path in listing.unfinished:
            with suppress(OSError):
                if abs(now - path.stat().st_mtime) > _HOUR:
                    path.unlink()
        return Compacted(before, after)

    def _merge(self, family: str, files: list[Path]) -> int:
        """How many files these became."""
        if len(files) < 2:
            return len(files)
        try:
            footers = {path: read_footer(path) for path in files}
            if len(found := {footer.configuration for footer in footers.values()}) > 1:
                raise ValueError(
                    f"store: expected units of one run in {readable(self.folder)}, got those of "
                    f"{len(found)}, such as {readable(files[-1])}"
                )
            taken: set[int] = set()
            tables = []
            for path, footer in footers.items():
                tables.append(_numbered(read_table(path), footer, taken))
                taken.update(footer.blocks)
        except UnreadableError as error:
            raise ValueError(f"store: {error}; move it away, and run the same again") from error
        blocks = tuple(sorted(taken))
        order = pa.concat_tables(tables, promote_options="permissive")
        target = merged_path(self.folder, family, blocks)
        write_table(target, order.sort_by(BLOCK), Footer(found.pop(), blocks))
        for path in files:
            if path != target:
                path.unlink(missing_ok=True)
        sync(self.folder)
        return 1

    def _is_unit(self, key: Key) -> bool:
        """Whether a unit is there in a file of its own, whole."""
        path = unit_path(self.folder, key)
        try:
            footer = read_footer(path)
        except FileNotFoundError:
            return False
        except UnreadableError as error:
            aside = path.with_name(f"{path.name}.unreadable")
            with suppress(FileNotFoundError):  # another process was faster
                path.replace(aside)
                warnings.warn(
                    f"store: {error}; it is kept as {aside.name}, and measured again", stacklevel=4
                )
            return False
        self._check_of_run(path, footer, key)
        self._whole.add(key)
        return True

    def _check_of_run(self, path: Path, footer: Footer, key: Key) -> None:
        own = footer.configuration == self._fingerprints[key.model]
        if not own or key.block not in footer.blocks:
            raise ValueError(
                f"store: expected units of this run in {readable(self.folder)}, found {path.name}, "
                f"which is of another{' block' if own else ''}; move it away"
            )

    def _look_for_merged(self) -> None:
        self._looked = time.monotonic()
        self._merged = {}
        for family, files in Listing.of(self.folder).merged.items():
            for path in files:
                with suppress(FileNotFoundError, UnreadableError):  # merged again meanwhile
                    if path not in self._footers:
                        self._footers[path] = read_footer(path)
                    blocks = self._footers[path].blocks
                    self._merged.setdefault(family, {}).update(dict.fromkeys(blocks, path))

    def _merged_file(self, key: Key) -> Path:
        for _ in range(2):
            path = self._merged.get(family_of(key), {}).get(key.block)
            if path is not None and path.exists():
                return path
            self._look_for_merged()
        raise ValueError(f"store: expected the unit {tuple(key)} in {readable(self.folder)}")


def _names(model: str) -> tuple[str, str]:
    """Files of what all models share of a configuration, and of what is this model's."""
    return _CONFIGURATION, f"model-{_digest(model)}.json"


def _plan_name(model: str) -> str:
    return f"plan-{_digest(model)}.json"


def _plan_text(plan: Plan) -> str:
    known = {name: getattr(plan, name) for name in _OF_PLAN}
    return json.dumps(known, indent=2) + "\n"


def _clock_of(folder: Path) -> float:
    """What time it is by the clock that stamps the folder's files."""
    path = folder / f".clock.{uuid4().hex}"
    path.touch()
    try:
        return path.stat().st_mtime
    finally:
        path.unlink()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"store: expected JSON in {readable(path)}, got a damaged file ({error}); remove it, "
            "and run the same again, which writes it anew"
        ) from error


def _digest(model: str) -> str:
    return hashlib.sha256(model.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _numbered(table: pa.Table, footer: Footer, taken: set[int]) -> pa.Table:
    """Rows with their block; without those of blocks that were taken already."""
    if BLOCK not in table.column_names:
        (block,) = footer.blocks
        table = table.append_column(BLOCK, pa.array([block] * table.num_rows, pa.int64()))
    return _rows_of(table, set(footer.blocks) - taken)


def _of_blocks(table: pa.Table, blocks: list[int]) -> pa.Table:
    return _rows_of(table, set(blocks)).drop_columns(BLOCK)


def _rows_of(table: pa.Table, blocks: set[int]) -> pa.Table:
    wanted = pa.array(sorted(blocks), pa.int64())
    return table.filter(pc.is_in(table[BLOCK], value_set=wanted))
