"""What several commands need: errors for the user, devices, files written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.baselines.registry import METHODS, Method, find_method

if TYPE_CHECKING:
    import torch


class CommandError(Exception):
    """Something the user can put right; shown as one line, without a traceback."""


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first GPU where there is one, else the CPU."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CommandError(f"--device: {name!r} is not available on this machine") from error
    return device


def normalization(preprocess: Any) -> Any:
    """The last step of open_clip's preprocessing, torchvision's Normalize: it has mean and std."""
    return preprocess.transforms[-1]


def choose_methods(names: Sequence[str], *, masks: bool) -> list[Method]:
    """The methods of these names, each once; "all" is every method that can be used.

    Args:
        names: What the user gave as --method.
        masks: Whether the command has masks for the methods that need them.
    """
    chosen: dict[str, Method] = {}
    for name in names:
        try:
            methods = METHODS.values() if name == "all" else [find_method(name)]
        except ValueError as error:
            raise CommandError(f"--{error}") from error
        for method in methods:
            if masks or not method.needs_masks:
                chosen[method.name] = method
            elif name != "all":
                raise CommandError(
                    f"--method: {name} needs masks of the objects, which this command does not have"
                )
    return list(chosen.values())


def check_output(path: Path, option: str, suffixes: tuple[str, ...]) -> None:
    """Raise CommandError unless a file with one of the suffixes can be written at path."""
    if path.suffix.lower() not in suffixes:
        known = ", ".join(suffixes)
        raise CommandError(f"{option}: expected a file name ending in {known}, got {path}")
    if path.is_dir():
        raise CommandError(f"{option}: expected a file, got a folder: {path}")
    check_folder(path.absolute().parent, option)


def check_folder(folder: Path, option: str) -> None:
    """Raise CommandError unless files can be written into the folder."""
    if not folder.is_dir():
        raise CommandError(f"{option}: no such folder: {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"{option}: no permission to write into {folder}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name to write to that becomes ``path`` at the end, unless something goes wrong."""
    temporary = path.with_name(f".{path.stem}-{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
