"""Where finished units are kept: in memory, or in a folder that outlives the process."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pandas as pd

from cci_captum.names import readable

from .plan import OF_MODEL, Key, differences, fingerprint

_CONFIGURATION = "configuration.json"


class Store(Protocol):
    """Units of one run, by their keys."""

    def begin(self, configuration: Mapping[str, Any], model: str = "") -> None:
        """Take units of this model under this configuration from now on.

        Raises:
            ValueError: If those there have another configuration, but for what belongs to other
                models.
        """
        ...

    def has(self, key: Key) -> bool:
        """Whether the unit is there, whole."""
        ...

    def add(self, key: Key, unit: pd.DataFrame) -> None:
        """Keep a unit."""
        ...

    def load(self, key: Key) -> pd.DataFrame:
        """A unit that is there."""
        ...


class MemoryStore:
    """Units of this process."""

    def __init__(self) -> None:
        self._units: dict[Key, pd.DataFrame] = {}
        self._begun: dict[str, Mapping[str, Any]] = {}

    def begin(self, configuration: Mapping[str, Any], model: str = "") -> None:
        """See `Store`."""
        parts = _parts(configuration, model)
        for name, part in parts.items():
            _check_same(self._begun.get(name), part, "memory")
        self._begun |= parts

    def has(self, key: Key) -> bool:
        """See `Store`."""
        return key in self._units

    def add(self, key: Key, unit: pd.DataFrame) -> None:
        """See `Store`."""
        self._units[key] = unit

    def load(self, key: Key) -> pd.DataFrame:
        """See `Store`."""
        return self._units[key]


class FolderStore:
    """Units as Parquet files in a folder: each is there whole, or not at all.

    A file gets its name when its content is on the disk, so that a process can be killed at any
    moment. Any number of processes may add units, the same ones too: they write the same.

    Args:
        folder: Made where there is none.

    Raises:
        ValueError: If the path is that of a file.

    Example:
        >>> import tempfile
        >>> store = FolderStore(tempfile.mkdtemp())
        >>> store.begin({"seed": 0})
        >>> key = Key("tiny", 0, "cci")
        >>> store.has(key)
        False
        >>> store.add(key, pd.DataFrame({"index": [0], "energy": [0.5]}))
        >>> store.has(key), store.load(key)["energy"].tolist()
        (True, [0.5])
        >>> FolderStore(store.folder).begin({"seed": 1})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: store: expected results of the same run ...
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"store: expected a folder, got the file {readable(self.folder)}")
        self._fingerprint = ""

    def begin(self, configuration: Mapping[str, Any], model: str = "") -> None:
        """See `Store`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known = json.loads(json.dumps(configuration))
        missing = {}
        for name, part in _parts(known, model).items():
            path = self.folder / name
            stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
            _check_same(stored, part, readable(self.folder))
            if stored is None:
                missing[path] = json.dumps(part, indent=2) + "\n"
        for path, text in missing.items():
            _write(path, partial(_write_text, text=text))
        self._fingerprint = fingerprint(known)

    def has(self, key: Key) -> bool:
        """See `Store`; a file that cannot be read, or of another run, is none."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._path(key)
        if not path.exists():
            return False
        try:
            metadata = pq.read_schema(path).metadata or {}
        except (OSError, pa.ArrowInvalid):
            return False
        return metadata.get(b"configuration", b"").decode() == self._fingerprint

    def add(self, key: Key, unit: pd.DataFrame) -> None:
        """See `Store`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pandas(unit, preserve_index=False)
        own = {"configuration": self._fingerprint, "key": json.dumps(key)}
        table = table.replace_schema_metadata((table.schema.metadata or {}) | own)
        _write(self._path(key), lambda temporary: pq.write_table(table, temporary))

    def load(self, key: Key) -> pd.DataFrame:
        """See `Store`."""
        return pd.read_parquet(self._path(key))

    def _path(self, key: Key) -> Path:
        return self.folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.parquet"


def _parts(configuration: Mapping[str, Any], model: str) -> dict[str, dict[str, Any]]:
    """Name of a file -> what it holds: what all models share, and what is this model's."""
    shared = {name: value for name, value in configuration.items() if name != OF_MODEL}
    own = {"model": model, **configuration.get(OF_MODEL, {})}
    digest = hashlib.sha256(model.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return {_CONFIGURATION: shared, f"model-{digest}.json": own}


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _check_same(stored: Mapping[str, Any] | None, wanted: Mapping[str, Any], where: str) -> None:
    if stored is not None and stored != wanted:
        found = "; ".join(differences(stored, wanted))
        raise ValueError(
            f"store: expected results of the same run in {where}, found those of another: {found}"
        )


def _write(path: Path, write: Any) -> None:
    """Write a file that is there whole or not at all, whatever happens meanwhile."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
