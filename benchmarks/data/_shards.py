"""What lies where in tar files of samples, by WebDataset's rules for their names."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cci_captum.names import readable

from ._tree import some, suffixes

_IMAGES = ("webp", "png", "jpg", "jpeg")  # in the order in which CLIP_benchmark looks for one
_FILE = re.compile(r"(?P<key>(?:.*/)?[^./]+)\.(?P<suffix>[^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__($|/)")  # of a data set, of no sample
_COUNT = "nshards.txt"


@dataclass(frozen=True)
class Entry:
    """A sample: its shard, its key, and where the content of each of its files lies."""

    shard: Path
    key: str
    files: dict[str, tuple[int, int]]  # suffix: first byte in the shard, bytes
    image: str  # the suffix of its image
    label: int | None
    captions: tuple[str, ...] | None

    def __str__(self) -> str:
        return f"{self.shard.name}/{self.key}"

    @property
    def sizes(self) -> list[int]:
        """Of its files, in bytes."""
        return [size for _, size in self.files.values()]


def shards_in(folder: Path) -> list[Path]:
    count = folder / _COUNT
    if count.exists():
        text = count.read_text(encoding="utf-8").strip()
        if not text.isdecimal() or not int(text):
            raise ValueError(
                f"root: expected a number of shards in {readable(count)}, got {text!r}"
            )
        shards = [folder / f"{number}.tar" for number in range(int(text))]
        if missing := [path.name for path in shards if not path.is_file()]:
            raise FileNotFoundError(
                f"root: expected {text} shards in {readable(folder)}, as {_COUNT} says, but "
                f"{len(missing)} are missing: {some(missing)}"
            )
        return shards
    there = sorted(os.scandir(folder), key=lambda entry: entry.name)
    names = [entry.name for entry in there if entry.is_file()]
    found = sorted((name for name in names if name.lower().endswith(".tar")), key=_by_number)
    if not found:
        packed = [name for name in names if re.search(r"\.(tar\.\w+|tgz)$", name, re.IGNORECASE)]
        folders = [entry.name for entry in there if entry.is_dir()]
        got = f"none but folders, {some(folders)}; split says which" if folders else "none"
        if packed:
            got = f"compressed ones, {some(packed)}; unpack them"
        raise FileNotFoundError(f"root: expected files *.tar in {readable(folder)}, got {got}")
    return [folder / name for name in found]


def _by_number(name: str) -> list[tuple[int, int, str]]:
    """So that 10.tar comes after 2.tar."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def entries_of(path: Path) -> list[Entry]:
    """The samples of a shard, in its order."""
    try:
        with tarfile.open(path, "r:") as shard:
            members = shard.getmembers()
            _check_end(path, shard.offset)
            known = suffixes()
            found = [_entry(path, *sample, shard, known) for sample in _samples(path, members)]
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"root: cannot read {readable(path)}: {error}; expected an uncompressed tar file"
        ) from error
    if not found:
        raise ValueError(f"root: expected samples in {readable(path)}, got none")
    return found


def _check_end(path: Path, end: int) -> None:
    """Raise unless there are zeros alone from where tarfile stopped, and a block of them at least.

    It takes a header that it cannot read for the end of the file, unless it is the first.
    """
    with path.open("rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError(f"it is torn or damaged at byte {end}")
        while rest := file.read(1 << 20):
            if rest.strip(tarfile.NUL):
                raise tarfile.ReadError(f"its end is marked at byte {end}, but there is more")


def _samples(
    path: Path, members: Iterable[tarfile.TarInfo]
) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Keys with their files by suffix: those of one key that follow each other."""
    last: str | None = None
    files: dict[str, tarfile.TarInfo] = {}
    for member in members:
        match = _FILE.fullmatch(member.name)
        if not member.isreg() or _META.match(member.name) or not match:
            continue
        key, suffix = match["key"], match["suffix"].lower()
        if key != last and files:
            yield str(last), files
            files = {}
        last = key
        if suffix in files:
            raise ValueError(
                f"root: expected one file .{suffix} of {key!r} in {readable(path)}, got another"
            )
        files[suffix] = member
    if files:
        yield str(last), files


def _entry(
    path: Path,
    key: str,
    members: Mapping[str, tarfile.TarInfo],
    shard: tarfile.TarFile,
    known: Collection[str],
) -> Entry:
    def text(suffix: str) -> str | None:
        if suffix not in members:
            return None
        file = shard.extractfile(members[suffix])
        assert file is not None  # a regular file
        try:
            return file.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"root: expected UTF-8 in {key}.{suffix} of {readable(path)}: {error}"
            ) from error

    number, lines = text("cls"), text("txt")
    label = None
    if number is not None:
        if not number.strip().isdecimal():
            raise ValueError(
                f"root: expected the number of a class in {key}.cls of {readable(path)}, got "
                f"{number[:40]!r}"
            )
        label = int(number)
    captions = None
    if lines is not None:
        captions = tuple(line.strip() for line in lines.splitlines() if line.strip())
        if not captions:
            raise ValueError(f"root: expected captions in {key}.txt of {readable(path)}, got none")
    images = [suffix for suffix in members if f".{suffix}" in known]
    images = [suffix for suffix in _IMAGES if suffix in images][:1] or images
    if len(images) != 1:
        raise ValueError(
            f"root: expected one image of {key!r} in {readable(path)}, like .jpg, got "
            f"{some(f'.{suffix}' for suffix in members)}"
        )
    files = {suffix: (member.offset_data, member.size) for suffix, member in members.items()}
    return Entry(path, key, files, images[0], label, captions)
