"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .names import readable


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write to, in the same folder, that becomes path unless something goes wrong."""
    temporary = temporary_name(path.parent, path.suffix)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        with suppress(OSError):  # what went wrong before is what counts
            temporary.unlink()


def as_open_makes_it(path: Path) -> None:
    """Give a file that a library made its owner's alone the rights of one that `open` makes."""
    other = temporary_name(path.parent, "")
    try:
        other.touch()
        path.chmod(stat.S_IMODE(other.stat().st_mode))
    except OSError:  # a file system without rights; the file is there
        pass
    finally:
        with suppress(OSError):
            other.unlink()


def temporary_name(folder: Path, suffix: str) -> Path:
    """A name that no file has, and that is no longer than most."""
    return folder / f".cci-captum-{secrets.token_hex(6)}{suffix}"


def check_file(path: Path, argument: str) -> None:
    """Raise an error of the argument unless a file may be written, or replaced, at a path.

    Raises:
        FileNotFoundError: If there is no such folder.
        OSError: If something else than a file is there: a folder, a device, a pipe.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{argument}: no such folder: {readable(path.parent)}")
    if path.exists() and not path.is_file():  # replacing would take a device away
        got = "a folder" if path.is_dir() else "a device or pipe"
        raise OSError(f"{argument}: expected a file, got {got}: {readable(path)}")


def check_folder(path: Path, argument: str) -> None:
    """Raise NotADirectoryError, of the argument, if something else than a folder is at a path."""
    if path.exists():
        check_existing_folder(path, argument)


def check_existing_folder(path: Path, argument: str) -> None:
    """Raise an error of the argument unless there is a folder at a path.

    Raises:
        FileNotFoundError: If nothing is there.
        NotADirectoryError: If something else is.
    """
    if not path.exists():
        raise FileNotFoundError(f"{argument}: no such folder: {readable(path)}")
    if not path.is_dir():
        raise NotADirectoryError(f"{argument}: expected a folder, got a file: {readable(path)}")
