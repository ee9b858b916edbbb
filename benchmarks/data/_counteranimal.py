"""The folders of CounterAnimal: which of them are there, what is missing, and what it is called."""

from __future__ import annotations

import csv
import difflib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from timm.data import ImageNetInfo

from cci_captum._files import check_existing_folder
from cci_captum.names import readable

from ._tree import image_files, some

GROUPS = ("common", "counter")
BACKGROUNDS = (
    "ground", "water", "earth", "sand", "snow", "grass", "human", "sky", "road", "rock", "shrub",
    "indoor", "tree", "outdoor",
)  # fmt: skip
TOP = "LAION-final"
NAMES = "imagenet_names.txt"
LAYOUT = (
    f"{TOP}/<ImageNet index> <name>/common-<background>/ and counter-<background>/ with images, "
    "as in '296 ice bear, polar bear/common-snow/figure1.jpeg'"
)

_CLASSES = 1000
_ALIKE = 0.75  # of names, for one to be meant by the other
# The release's names are the synonyms of WordNet, as timm has them, but for one.
_SHORTENED = {349: "bighorn, bighorn sheep, cimarron"}


@dataclass(frozen=True)
class AnimalClass:
    """A class of CounterAnimal.

    Attributes:
        ca_id: Its number in the paper, 1 to 45.
        index: Its number in ImageNet, which begins the name of its folder.
        wnid: Its WordNet id.
        name: What follows the number in the name of its folder.
        common: The background of the group "common", as the paper's table has it; the folder may
            say it in another word.
        counter: The same of the group "counter".
        common_photos: How many photos Figure 3 of the paper gives to the group "common"; 25 for
            class 23, whose accuracies need 259.
        counter_photos: The same of the group "counter".
    """

    ca_id: int
    index: int
    wnid: str
    name: str
    common: str
    counter: str
    common_photos: int
    counter_photos: int


@cache
def animal_classes() -> tuple[AnimalClass, ...]:
    """The 45 classes of CounterAnimal, in the paper's order, which is ImageNet's.

    From Figure 3 and the appendix of "A Sober Look at the Robustness of CLIPs to Spurious
    Features" (arXiv 2403.11497), and the names of the released folders.

    Example:
        >>> bear = animal_classes()[38]
        >>> bear.index, bear.common, bear.counter
        (296, 'snow', 'grass')
    """
    text = files(__package__).joinpath("counteranimal.csv").read_text(encoding="utf-8")
    return tuple(
        AnimalClass(
            int(row["ca_id"]), int(row["index"]), row["wnid"], row["name"], row["common"],
            row["counter"], int(row["common_photos"]), int(row["counter_photos"]),
        )
        for row in csv.DictReader(text.splitlines())
    )  # fmt: skip


@cache
def imagenet_synonyms() -> tuple[str, ...]:
    """The full list of synonyms of each of ImageNet's 1000 classes, as CounterAnimal has them.

    Example:
        >>> imagenet_synonyms()[296]
        'ice bear, polar bear, Ursus Maritimus, Thalarctos maritimus'
    """
    info = ImageNetInfo("imagenet-1k")
    return tuple(
        _SHORTENED.get(index, info.index_to_description(index)) for index in range(_CLASSES)
    )


@dataclass(frozen=True)
class Group:
    """A folder of photos: the class, "common" or "counter", and what the folder says after that."""

    index: int
    group: str
    background: str


class Layout(NamedTuple):
    """What is there.

    Attributes:
        root: The folder of the class folders.
        folders: Folder with images, as "9 ostrich/common-ground", by its path -> what it is.
        notes: What a reader of the results should know.
    """

    root: Path
    folders: dict[str, Group]
    notes: list[str]


def read_layout(root: Path, groups: Sequence[str], partial: bool) -> Layout:
    """The groups of photos in a folder.

    Args:
        root: The folder of the class folders, or the one that it lies in.
        groups: Which are wanted, of "common" and "counter".
        partial: Whether to go on where some are missing.

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If it is a file.
        ValueError: If it is another folder, or something is missing and it is not partial; names
            all that is.
    """
    check_existing_folder(root, "root")
    top = _top(root)
    numbered, others = _numbered(top)
    wrong = [f"{name!r} has no index from 0 to 999" for name, i in numbered.items() if i >= 1000]
    twice = [index for index, times in Counter(numbered.values()).items() if times > 1]
    wrong += [f"index {i} twice: {some(n for n in numbered if numbered[n] == i)}" for i in twice]
    folders, odd = _groups(top, numbered, groups)
    missing = _missing(top, numbered, folders, groups)
    nameless = [f"{name!r}{_meant(name, numbered.values())}" for name in others]
    # All that is missing, however much: who downloads again has to know what.
    said = [*wrong, *missing]
    said += [f"folders without a number: {', '.join(nameless)}"] if nameless else []
    said += [f"folders of no group: {', '.join(odd)}"] if odd else []
    folders = {name: each for name, each in folders.items() if image_files(top / name)}
    if wrong or not folders or (missing and not partial):
        end = "" if wrong or not folders else "; partial=True goes on with what is there"
        raise ValueError(f"root: expected {LAYOUT}, got in {readable(top)}: {'; '.join(said)}{end}")
    notes = [f"in {readable(top)}: {each}" for each in said]
    return Layout(top, folders, notes + _background_notes(folders))


def read_names(root: Path) -> tuple[tuple[str, ...], list[str]]:
    """The names of ImageNet's classes, and what a reader of the results should know of them.

    From the release's own list where it is there, else as `imagenet_synonyms` has them.

    Raises:
        ValueError: If the list is damaged.
    """
    path, known = root / NAMES, imagenet_synonyms()
    if not path.is_file():
        return known, []
    lines = path.read_bytes().decode("utf-8-sig", "replace").rstrip().splitlines()
    expected = f"root: expected {_CLASSES} lines of index, tab and names in {readable(path)}"
    found = []
    for place, line in enumerate(lines[:_CLASSES]):
        number, _, name = line.partition("\t")
        if number.strip() != str(place) or not name.strip() or "\N{REPLACEMENT CHARACTER}" in name:
            raise ValueError(f"{expected}, got {line[:60]!r} in line {place + 1}")
        found.append(name.strip())
    if len(lines) != _CLASSES:
        raise ValueError(f"{expected}, got {len(lines)}")
    other = [
        f"{place} {name}"
        for place, (name, own) in enumerate(zip(found, known, strict=True))
        if name.casefold() != own.casefold()
    ]
    said = f"{len(other)} of the {_CLASSES} names in {readable(path)} are not ImageNet's synonyms: "
    return tuple(found), [said + some(other)] if other else []


def _top(root: Path) -> Path:
    """The folder of the class folders: root, or the release's top folder in it.

    Raises:
        ValueError: If there are no class folders; says where there are some.
    """
    top = root
    while not _numbered(top)[0]:
        if not (top / TOP).is_dir():
            raise ValueError(
                f"root: expected {LAYOUT}, got no folder that begins with a number in "
                f"{readable(top)}{_elsewhere(root)}"
            )
        top = top / TOP
    return top


def _elsewhere(root: Path) -> str:
    """Where the class folders may be instead."""
    if any(_group_of(name) for name in _folders(root)):
        return f", which looks like one class; use {readable(root.resolve().parent)}"
    if _group_of(root.resolve().name):
        return f", which is one group of a class; use {readable(root.resolve().parents[1])}"
    below = [root / name for name in _folders(root)]
    below += [folder / TOP for folder in below if (folder / TOP).is_dir()]
    found = [readable(folder) for folder in below if _numbered(folder)[0]]
    if found:
        return f"; use {found[0]}"
    return f", but {some(map(readable, _folders(root)))}" if _folders(root) else ""


def _folders(root: Path) -> list[str]:
    """The folders in root, sorted, without hidden ones."""
    entries = (entry for entry in os.scandir(root) if entry.is_dir())
    return sorted(entry.name for entry in entries if not entry.name.startswith("."))


def _numbered(root: Path) -> tuple[dict[str, int], list[str]]:
    """Folders that begin with a number, with that, and the other folders."""
    names = _folders(root)
    heads = {name: name.split(" ", 1)[0] for name in names}
    found = {n: int(h) for n, h in heads.items() if h.isascii() and h.isdigit()}
    return found, [readable(name) for name in names if name not in found]


def _group_of(name: str) -> tuple[str, str] | None:
    """The group and the background of a folder's name; None where it is that of none."""
    group, _, background = name.partition("-")
    group, background = group.strip().lower(), background.strip().lower()
    return (group, background) if group in GROUPS and background else None


def _groups(
    top: Path, numbered: dict[str, int], wanted: Sequence[str]
) -> tuple[dict[str, Group], list[str]]:
    """The folders of groups in class folders, and other folders there, with what may be meant."""
    folders, odd = {}, []
    for name, index in numbered.items():
        for inner in _folders(top / name):
            found = _group_of(inner)
            if found is None:
                close = difflib.get_close_matches(inner.partition("-")[0].lower(), GROUPS, n=1)
                hint = f" ({close[0]}-...?)" if close else ""
                odd.append(f"{readable(f'{name}/{inner}')!r}{hint}")
            elif found[0] in wanted:
                folders[f"{name}/{inner}"] = Group(index, *found)
    return folders, odd


def _missing(
    top: Path, numbered: dict[str, int], folders: dict[str, Group], groups: Sequence[str]
) -> list[str]:
    """The classes and groups that are missing, or empty."""
    said = []
    absent = [each for each in animal_classes() if each.index not in numbered.values()]
    if absent:
        names = ", ".join(f"'{each.index} {_first(each.name)}'" for each in absent)
        said.append(f"{len(absent)} of the 45 classes missing: {names}")
    known = {each.index for each in animal_classes()}
    for name, index in numbered.items():
        for group in groups:
            own = [
                path for path, each in folders.items() if (each.index, each.group) == (index, group)
            ]
            shown = readable(name)
            if not own:
                said.append(f"no {group}-<background> in {shown!r}")
            elif not any(image_files(top / path) for path in own):
                said.append(f"no images in {readable(own[0])!r}")
        if index not in known and index < _CLASSES:
            said.append(f"{readable(name)!r} is none of the 45 classes")
    return said


def _meant(name: str, taken: Iterable[int]) -> str:
    """Which class folder of those that are missing may have lost its number."""
    full = {f"{each.index} {each.name}": each for each in animal_classes()}
    free = {text: each for text, each in full.items() if each.index not in set(taken)}
    names = {each.name.lower(): text for text, each in free.items()}
    names |= {_first(each.name).lower(): text for text, each in free.items()}
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=_ALIKE)
    return f" ({names[close[0]]!r}?)" if close else ""


def _first(name: str) -> str:
    return name.split(",")[0]


def _background_notes(folders: dict[str, Group]) -> list[str]:
    """What is said of backgrounds that are none of the paper's 14, or not those of its table."""
    table = {each.index: each for each in animal_classes()}
    unknown, other = [], []
    for name, each in folders.items():
        background = each.background
        own = getattr(table[each.index], each.group) if each.index in table else ""
        if background not in BACKGROUNDS:
            close = difflib.get_close_matches(background, BACKGROUNDS, n=1, cutoff=_ALIKE)
            meant = close[0] if close else own
            unknown.append(f"{readable(name)!r}" + (f" ({meant}?)" if meant else ""))
        elif own and background != own:
            other.append(f"{readable(name)!r} ({own})")
    notes = []
    if unknown:
        notes.append(f"backgrounds that are none of the paper's 14: {', '.join(unknown)}")
    if other:
        notes.append(f"backgrounds other than in the paper's table: {', '.join(other)}")
    return notes
