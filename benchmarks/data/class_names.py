"""The names of class folders: what the folders say, what a file says, and what neither can say."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from open_clip import IMAGENET_CLASSNAMES
from timm.data import ImageNetInfo

from ._tree import some

_WORDNET_ID = re.compile(r"n\d{8}")


def read_class_names(path: str | os.PathLike[str]) -> list[str] | dict[str, str]:
    r"""Class names from a file, in its order.

    Args:
        path: A UTF-8 text file with a name a line, or with a folder, a tab and its name a line;
            or, ending in .json, a list of names, or an object from folders to names. Space around
            names and empty lines do not count.

    Returns:
        The names, or folder -> name.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is neither of these, or has a folder twice.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "classes.txt"
        ...     _ = path.write_text("10\tpolar bear\n7\tcat\n")
        ...     read_class_names(path)
        {'10': 'polar bear', '7': 'cat'}
    """
    path = Path(path)
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".json":
        return _from_json(text, path)
    lines = {n: line.strip() for n, line in enumerate(text.splitlines(), 1) if line.strip()}
    tabs = [number for number, line in lines.items() if "\t" in line]
    if not tabs:
        return list(lines.values())
    without = next((number for number in lines if number not in tabs), None)
    if without is not None:
        raise ValueError(
            f"{path}: expected a tab between folder and name in every line or in none, line "
            f"{without} has none: {lines[without]!r}"
        )
    return _without_doubles([_two(line, path) for line in lines.values()], path)


def names_of_folders(folders: Sequence[str], root: Path) -> dict[str, str]:
    """What the folders are named: folder -> name, with spaces for underscores.

    WordNet ids of ImageNet's 1000 classes stand for OpenAI's names of these.

    Raises:
        ValueError: If there are other WordNet ids, or names without a letter: as texts, like
            "a photo of a 10.", they would say nothing.
    """
    ids = dict(zip(ImageNetInfo("imagenet-1k").label_names(), IMAGENET_CLASSNAMES, strict=True))
    names = {folder: ids.get(folder, spaced(folder)) for folder in folders}
    nameless = [
        folder
        for folder, name in names.items()
        if _WORDNET_ID.fullmatch(name) or not any(map(str.isalpha, name))
    ]
    if nameless:
        raise ValueError(
            f"root: expected folders named as their classes, but {len(nameless)} of the "
            f"{len(folders)} in {root} are numbers: {some(nameless)}; class_names (--classes) "
            "says what they are called, by folder"
        )
    return names


def check_names(names: Sequence[str] | Mapping[str, str]) -> None:
    """Raise unless these are class names, or folders with their class names."""
    if isinstance(names, str) or not names:
        raise ValueError(f"class_names: expected a sequence of at least one name, got {names!r}")
    every = [*names, *names.values()] if isinstance(names, Mapping) else names
    wrong = [name for name in every if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"class_names: expected strings, got {type(wrong[0]).__name__}")


def check_mapping(names: Mapping[str, str], folders: Sequence[str], root: Path) -> None:
    """Raise ValueError unless these are the folders of the mapping."""
    unknown = [folder for folder in names if folder not in folders]
    missing = [folder for folder in folders if folder not in names]
    for what, wrong in (("without a folder", unknown), ("missing", missing)):
        if wrong:
            raise ValueError(
                f"class_names: expected a name for each of the {len(folders)} folders in {root}, "
                f"{what} {some(wrong)}"
            )


def check_different(what: str, names: Iterable[str]) -> None:
    """Raise ValueError if names are the same, spaces and underscores not told apart."""
    twice = [name for name, times in Counter(map(spaced, names)).items() if times > 1]
    if twice:
        raise ValueError(
            f"{what}: expected different names, spaces and underscores being the same, got "
            f"more than once {some(twice)}"
        )


def spaced(name: str) -> str:
    """The name with spaces for underscores."""
    return name.replace("_", " ")


def _two(line: str, path: Path) -> tuple[str, str]:
    folder, *names = (part.strip() for part in line.split("\t"))
    if len(names) != 1 or not folder or not names[0]:
        raise ValueError(f"{path}: expected a folder, a tab and a name, got {line!r}")
    return folder, names[0]


def _from_json(text: str, path: Path) -> list[str] | dict[str, str]:
    found = json.loads(text, object_pairs_hook=lambda pairs: _without_doubles(pairs, path))
    values = list(found.values()) if isinstance(found, dict) else found
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(
            f"{path}: expected a list of names, or an object from folders to names, got "
            f"{text.strip()[:60]!r}"
        )
    return found


def _without_doubles(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    twice = [folder for folder, times in Counter(key for key, _ in pairs).items() if times > 1]
    if twice:
        raise ValueError(f"{path}: expected each folder once, got more than once {some(twice)}")
    return dict(pairs)
