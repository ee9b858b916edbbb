"""The files of a folder of units: their names, what their footers say, how they are written.

A family is a method of a model: each unit of it is `<family>-<block>.parquet`, and
`<family>-merged-<digest>.parquet` holds many.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from cci_captum.names import readable

from .plan import Key

BLOCK = "_block"
"""Column of a merged file: which block a row is of."""

_NAME = re.compile(
    r"(?P<family>[0-9a-f]{16})(-(?P<block>[0-9]{6,})|-merged-(?P<digest>[0-9a-f]{16}))\.parquet"
)
_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}")


class UnreadableError(ValueError):
    """A file that is no whole Parquet file, or none of ours."""


class Footer(NamedTuple):
    """What a file of units says of itself.

    Attributes:
        configuration: Fingerprint of the run's.
        blocks: Those that it holds.
    """

    configuration: str
    blocks: tuple[int, ...]


@dataclass
class Listing:
    """The files of units that are in a folder, by their names alone.

    Attributes:
        units: Family -> block -> file.
        merged: Family -> files.
        unfinished: Files that a killed process left, or one that runs is writing.
    """

    units: dict[str, dict[int, Path]] = field(default_factory=dict)
    merged: dict[str, list[Path]] = field(default_factory=dict)
    unfinished: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> Listing:
        """What is there now; files of other names are none of ours."""
        found = cls()
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                match, path = _NAME.fullmatch(entry.name), folder / entry.name
                if match and match["block"]:
                    found.units.setdefault(match["family"], {})[int(match["block"])] = path
                elif match:
                    found.merged.setdefault(match["family"], []).append(path)
                elif _UNFINISHED.fullmatch(entry.name):
                    found.unfinished.append(path)
        return found


def family_of(key: Key) -> str:
    """How the names of a method's files begin."""
    text = json.dumps([key.model, key.method, key.definition])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def unit_path(folder: Path, key: Key) -> Path:
    """Where a unit is."""
    return folder / f"{family_of(key)}-{key.block:06d}.parquet"


def merged_path(folder: Path, family: str, blocks: Iterable[int]) -> Path:
    """Where these blocks of a family are together."""
    digest = hashlib.sha256(json.dumps(sorted(blocks)).encode()).hexdigest()[:16]
    return folder / f"{family}-merged-{digest}.parquet"


def read_footer(path: Path) -> Footer:
    """What a file says of itself.

    Raises:
        FileNotFoundError: If there is none.
        OSError: If it cannot be read now.
        UnreadableError: If it is cut off, damaged, or no file of units.
    """
    try:
        found = pq.read_schema(path).metadata or {}
        return Footer(found[b"configuration"].decode(), tuple(json.loads(found[b"blocks"])))
    except (OSError, KeyError, ValueError) as error:
        _check_damaged(path, error)
        raise UnreadableError(f"cannot read {readable(path)}: {error}") from error


def read_table(path: Path) -> pa.Table:
    """The rows of a file.

    Raises:
        OSError: If it cannot be read now.
        UnreadableError: If it is damaged.
    """
    try:
        return pq.read_table(path, page_checksum_verification=True, partitioning=None)
    except (OSError, ValueError) as error:
        _check_damaged(path, error)
        raise UnreadableError(f"cannot read {readable(path)}: {error}") from error


def write_table(path: Path, table: pa.Table, footer: Footer, **facts: Any) -> None:
    """Write a file of units, whole or not at all.

    Args:
        path: See `unit_path` and `merged_path`.
        table: Its rows.
        footer: What it says of itself.
        facts: What else it says; as JSON.
    """
    own: dict[str, Any] = {
        "configuration": footer.configuration,
        "blocks": json.dumps(footer.blocks),
    }
    own |= {name: json.dumps(value) for name, value in facts.items()}
    known = table.schema.metadata or {}
    if b"pandas" in known:
        own["pandas"] = known[b"pandas"]
    table = table.replace_schema_metadata(own)
    _write(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True))


def write_text(path: Path, text: str, *, only_new: bool = False) -> None:
    """Write a text file, whole or not at all; only_new: unless another process was faster."""
    _write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), only_new)


def sync(folder: Path) -> None:
    """Have the disk know the folder's names."""
    if os.name == "posix":
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def cannot_write(folder: Path, error: OSError) -> OSError:
    """What stops a file of a run from being written, in words that say what to do."""
    reason = error.strerror or str(error)
    return OSError(
        error.errno,
        f"store: cannot write into {readable(folder)}: {reason}; what is there is kept: put that "
        "right, and run the same again",
    )


def _write(path: Path, write: Callable[[Path], object], only_new: bool = False) -> None:
    """Write a file that is there whole or not at all, whatever happens meanwhile."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        if not (only_new and _linked(temporary, path)):
            temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _linked(temporary: Path, path: Path) -> bool:
    """Give a file its name, unless another has it; False where the file system has no links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:
        return False
    return True


def _check_damaged(path: Path, error: Exception) -> None:
    """Raise an error that says nothing of the file's content: it may be read later."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error
    # pyarrow has errors of its own for what is no Parquet file; a folder is none either.
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"store: expected a file, got something else: {readable(path)}") from error
