"""Which photos and captions a file lists: Karpathy's JSON, or lines of a file and a caption."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cci_captum.names import readable

from ._tree import some

# A file's name has no comma in either data set, a caption has.
_LINE = re.compile(r"(?P<file>[^,]+\.(?:jpe?g|png|webp))\s*,(?P<caption>.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Photo:
    file: str  # below the folder of images, like "val2014/COCO_val2014_000000391895.jpg"
    captions: tuple[str, ...]
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


def file_of_captions(root: Path, names: Sequence[str]) -> Path:
    """The file that lists the images: root itself, or the first of these in it."""
    if root.is_file():
        return root
    if not root.is_dir():
        raise FileNotFoundError(f"root: no such folder or file: {readable(root)}")
    for name in names:
        if (root / name).is_file():
            return root / name
    raise FileNotFoundError(f"root: expected {' or '.join(names)} in {readable(root)}, got none")


def images_in(
    root: Path,
    images: str | os.PathLike[str] | None,
    folders: Sequence[str],
    photos: Sequence[Photo],
) -> Path:
    """The folder that files lie in: as given, or the first in root that has any of them."""
    if images is not None:
        if not Path(images).is_dir():
            raise FileNotFoundError(f"images: no such folder: {readable(images)}")
        return Path(images)
    for folder in (root, *(root / name for name in folders)):
        if files_in(folder, (photo.file for photo in photos)):
            return folder
    return root


def files_in(root: Path, files: Iterable[str]) -> set[str]:
    """Which of these are there; a listing of each folder is faster than a question a file."""
    files = set(files)
    found = set()
    for folder in {os.path.dirname(file) for file in files}:
        if (root / folder).is_dir():
            found |= {f"{folder}/{name}" if folder else name for name in os.listdir(root / folder)}
    return files & found


def from_karpathy(path: Path, split: str, dataset: str) -> list[Photo]:
    """The photos of a split that Karpathy's JSON lists."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_hook=_what_is_read)
    except ValueError as error:  # no UTF-8, too
        raise ValueError(f"root: cannot read {readable(path)}: {error}") from error
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise ValueError(
            'root: expected Karpathy\'s JSON, {"images": [{"filename": ..., "split": ..., '
            f'"sentences": [{{"raw": ...}}]}}]}}, got {_described(content)} in {readable(path)}'
        )
    if content.get("dataset", dataset) != dataset:
        raise ValueError(
            f"root: expected the dataset {dataset!r}, got {content['dataset']!r} in "
            f"{readable(path)}"
        )
    times, chosen = Counter[str](), []
    for entry in entries:
        photo = _photo(entry, path)
        times[photo.file] += 1
        if entry["split"] == split:
            chosen.append(photo)
    if twice := [file for file, number in times.items() if number > 1]:
        raise ValueError(
            f"root: expected each image once in {readable(path)}, got more than once {some(twice)}"
        )
    if not chosen:
        sizes = Counter(entry["split"] for entry in entries)
        there = ", ".join(f"{name} {number}" for name, number in sizes.items()) or "none"
        raise ValueError(
            f"split: expected one that {readable(path)} has images of ({there}), got {split!r}"
        )
    return chosen


def _what_is_read(found: dict[str, Any]) -> dict[str, Any]:
    """Of a sentence its text: its tokens would be most of the memory that the file takes."""
    return {"raw": found["raw"]} if "raw" in found else found


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), str) for key in ("filename", "split"))
        and isinstance(entry.get("filepath", ""), str)
        and isinstance(entry.get("sentences"), list)
        and all(isinstance(each, dict) for each in entry["sentences"])
        and all(isinstance(each.get("raw"), str) for each in entry["sentences"])
    )


def _photo(entry: Mapping[str, Any], path: Path) -> Photo:
    folder = entry.get("filepath", "")
    file = f"{folder}/{entry['filename']}" if folder else entry["filename"]
    captions = tuple(sentence["raw"] for sentence in entry["sentences"])
    if not captions or not all(map(str.strip, captions)):
        raise ValueError(
            f"root: expected captions of {file!r} in {readable(path)}, got {list(captions)}"
        )
    facts = {"cocoid": entry["cocoid"]} if isinstance(entry.get("cocoid"), int) else {}
    return Photo(file, captions, facts)


def _described(content: Any) -> str:
    """What a JSON is, in a few words."""
    if isinstance(content, dict):
        return f"an object of {some(content)}" if content else "an empty object"
    return f"a {type(content).__name__}"


def from_lines(path: Path) -> list[Photo]:
    """The photos that lines of a file and a caption list, in the order of their first lines."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise ValueError(f"root: cannot read {readable(path)}: {error}") from error
    captions: dict[str, list[str]] = {}
    for number, file, caption in _as_table(text) or _as_lines(text):
        if not caption.strip():
            raise ValueError(
                f"root: expected a file, a comma and a caption in line {number} of "
                f"{readable(path)}, got {file!r}"
            )
        captions.setdefault(file, []).append(caption)
    if not captions:
        raise ValueError(
            f'root: expected a line "image,caption" and then a file and a caption a line in '
            f"{readable(path)}, got no caption"
        )
    return [Photo(file, tuple(own)) for file, own in captions.items()]


def _as_table(text: str) -> list[tuple[int, str, str]]:
    """(line, file, caption) of a table whose every row is a file and a caption; else nothing."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if row:
                rows.append((reader.line_num, row))
    except csv.Error:
        return []
    rows = rows[_titles(rows[0][1][0] + ",") :] if rows else []
    if not all(len(row) == 2 and _LINE.fullmatch(f"{row[0]},") for _, row in rows):
        return []
    return [(line, file.strip(), caption) for line, (file, caption) in rows]


def _as_lines(text: str) -> list[tuple[int, str, str]]:
    """(line, file, caption); a line that is something else has no caption."""
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1)]
    rows = []
    for number, line in lines[_titles(lines[0][1]) :]:
        if line:
            match = _LINE.fullmatch(line)
            file, caption = match.group("file", "caption") if match else (line, "")
            rows.append((number, file.strip(), caption.strip()))
    return rows


def _titles(line: str) -> int:
    """How many lines of titles there are, given the first line: 1, or 0 if it names an image."""
    return 0 if _LINE.fullmatch(line) else 1
