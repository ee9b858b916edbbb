"""The images that `--data` and the options beside it choose."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, cast

from ._common import CommandError, shared_default

if TYPE_CHECKING:
    from cci_captum.models.preprocessing import Preprocess

    from ..data import CaptionData, ImageData

# Options of sources that a command has beside `--data`.
_OPTIONS = ("n", "objects", "artwork", "classes", "masks", "captions", "split", "seed")


def check_data(arguments: argparse.Namespace) -> None:
    """Raise CommandError unless the options that choose images go together."""
    from ..data import SOURCES

    scheme, given = _read(arguments)
    source = SOURCES[scheme]
    taken = {option.name for option in source.options}
    for name in ("classes", "masks"):
        if getattr(arguments, name) and name not in taken:
            raise CommandError(f"--{name}: {source.own}; expected --data DIR")
    for name in ("captions", "split"):
        if getattr(arguments, name, None) is not None and name not in taken:
            raise CommandError(f"--{name}: {scheme} has no such option")
    for name, said in given.items():
        if name not in _OPTIONS or name == "seed":  # --seed is of ties, too
            continue
        value = getattr(arguments, name, None)
        if value not in (None, shared_default(f"--{name}"), said):
            raise CommandError(f"--{name}: --data says {name}={said}, got {value!r}")


def has_masks(arguments: argparse.Namespace) -> bool:
    """Whether the images that `--data` chooses have masks, or `--masks` gives them some."""
    from ..data import SOURCES

    return bool(arguments.masks) or SOURCES[_read(arguments)[0]].has_masks


def find_data(arguments: argparse.Namespace, preprocess: Preprocess | None) -> ImageData:
    """The images of classes, found but not yet read.

    Args:
        arguments: With those of `--data`, `--n`, `--objects`, `--artwork`, `--classes`, `--masks`
            and `--seed`.
        preprocess: Of the model, which says how large scenes have to be; None leaves it to them.
    """
    data = _open(arguments, preprocess)
    if not data.class_names:
        raise CommandError(f"--data: expected images of classes, got captions alone: {data.name}")
    return data


def find_captions(arguments: argparse.Namespace, preprocess: Preprocess) -> CaptionData:
    """The images with captions, found but not yet read.

    Args:
        arguments: As for `find_data`, and `--captions` and `--split`.
        preprocess: Of the model, which says how large scenes have to be.
    """
    data = _open(arguments, preprocess)
    if not any(getattr(data, "captions", ())):
        raise CommandError(f"--data: expected images with captions, got none in {data.name}")
    return cast("CaptionData", data)


def _open(arguments: argparse.Namespace, preprocess: Preprocess | None) -> ImageData:
    from ..data import SOURCES, open_data

    scheme, given = _read(arguments)
    values: dict[str, Any] = {
        option.name: getattr(arguments, option.name, None)
        for option in SOURCES[scheme].options
        if option.name in _OPTIONS and option.name not in given
    }
    options = {name: value for name, value in values.items() if value is not None}
    try:
        return open_data(arguments.data, preprocess=preprocess, **options)
    except (OSError, ValueError) as error:
        argument, _, rest = str(error).partition(": ")
        if argument in (*_OPTIONS, "data"):
            raise CommandError(f"--{argument}: {rest}") from error
        raise CommandError(f"--data: {error}") from error


def _read(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The scheme of `--data` and what is said with it."""
    from ..data.open import read_source

    try:
        return read_source(arguments.data)
    except (OSError, ValueError) as error:
        raise CommandError(f"--{error}") from error
