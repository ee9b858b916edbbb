"""Photos in tar files, as WebDataset writes them and CLIP_benchmark lays them out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cci_captum.names import readable

from ._drawing import check_drawing, drawn, drawn_alike, fewer
from ._shards import Entry, entries_of, shards_in
from ._tree import some
from .class_names import check_names
from .map_style import MapStyle

_NAMES, _TEMPLATES = "classnames.txt", "zeroshot_classification_templates.txt"


class WebDataset(MapStyle):
    r"""Photos in uncompressed tar files, called shards, with a class or captions each.

    Files of a shard whose names are the same up to the first dot of the last part, "000017.jpg"
    and "000017.cls", are a sample if they follow each other; suffixes in capitals count as small
    ones, and names like "__meta__" are of no sample. Of a sample are read

    - the image: webp, png, jpg or jpeg, the first of these that is there; else the one file with a
      suffix that Pillow reads;
    - "cls", the number of its class, from 0;
    - "txt", its captions, one a line.

    The shards are gone through once, which reads no image; then rows are read by number. The
    package webdataset itself, which reads streams, is not needed.

    Args:
        root: One shard; a folder of them; or, as CLIP_benchmark has it, the folder of

            - a folder for each split, with the shards 0.tar, 1.tar, ... and their number in
              nshards.txt;
            - classnames.txt, a name a line;
            - zeroshot_classification_templates.txt, a line like "a photo of a {c}." each.

            Without nshards.txt, all files named .tar are shards, in the order of the numbers in
            their names. The text files may also lie beside the shards.
        split: The folder in root. None: "test" if there is one, else root itself.
        class_names: The names to tell apart, by number. None: those of classnames.txt.
        templates: As `cci_captum.ZeroShotClassifier` takes them. None: those of the file if there
            is one, else "a photo of a {}.", or "{}" where there are captions alone.
        captions: How many of each image at most, the first ones; None is all.
        count: How many of the images to draw at random, as evenly over the classes as their
            numbers allow; None is all.
        seed: Of what is drawn.

    Attributes:
        listing: The shard and key of every sample, and the sizes of its files.

    Raises:
        FileNotFoundError: If root, the split or a shard is missing, or there are no shards.
        TypeError: If a class name is no string.
        ValueError: If a shard is damaged, compressed or empty; a sample has no image or twice the
            same; some have a class, or captions, and others none; a class is no number or has no
            name; there are neither classes nor captions; or another argument is not one of these.
            When a sample is read: if the image is damaged.

    References:
        https://github.com/webdataset/webdataset; the layout of
        https://github.com/LAION-AI/CLIP_benchmark, build_wds_dataset.

    Example:
        >>> import io, tarfile, tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> picture = io.BytesIO()
        >>> Image.new("RGB", (8, 6)).save(picture, "png")
        >>> with tempfile.TemporaryDirectory() as root:
        ...     _ = (Path(root) / "classnames.txt").write_text("cat\ndog\n")
        ...     with tarfile.open(Path(root) / "0.tar", "w") as shard:
        ...         for name, content in (("a.png", picture.getvalue()), ("a.cls", b"1")):
        ...             member = tarfile.TarInfo(name)
        ...             member.size = len(content)
        ...             shard.addfile(member, io.BytesIO(content))
        ...     data = WebDataset(root)
        ...     sample = data[0]
        >>> data.class_names, sample.name, sample.target
        (('cat', 'dog'), 'image 0 (0.tar/a)', 1)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str | None = None,
        *,
        class_names: Sequence[str] | None = None,
        templates: str | Sequence[str] | None = None,
        captions: int | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        check_drawing(count, seed, captions)
        if class_names is not None:
            check_names(class_names)
        shards, beside, title = _find(Path(root), split)
        entries = [entry for path in shards for entry in entries_of(path)]
        if class_names is None:
            class_names = _lines(beside, _NAMES)
        labelled = _all_or_none(entries, "cls")
        captioned = _all_or_none(entries, "txt")
        if labelled and not class_names and not captioned:
            raise ValueError(
                f"class_names: expected the names of the classes, or {_NAMES} in "
                f"{readable(beside[0])}, got neither"
            )
        labelled = labelled and bool(class_names)
        if not labelled and not captioned:
            raise ValueError(
                f"root: expected files .cls or .txt in {readable(title)}, got samples of "
                f"{some(sorted({suffix for entry in entries for suffix in entry.files}))}"
            )
        size = f"{len(entries)} images"
        if (few := fewer(count, len(entries))) is not None:
            entries = [entries[place] for place in _places(entries, labelled, few, seed)]
            size = f"{few} of {size}, seed {seed}"
        if templates is None and labelled:
            templates = [_as_template(line) for line in _lines(beside, _TEMPLATES)] or None
        columns: dict[str, list[Any]] = {}
        if labelled:
            columns["label"] = [entry.label for entry in entries]
        if captioned:
            columns["captions"] = [list(entry.captions or ())[:captions] for entry in entries]
        super().__init__(
            _Rows(entries, columns),
            class_names=class_names if labelled else None,
            label="label" if labelled else None,
            captions="captions" if captioned else None,
            templates=templates,
        )
        self.name = f"{title} ({size})"


class _Rows:
    """Rows by number and columns by name, as `MapStyle` takes them.

    Args:
        entries: The rows.
        columns: What is known of them beside the images.
    """

    def __init__(self, entries: Sequence[Entry], columns: Mapping[str, Sequence[Any]]) -> None:
        self._entries, self._columns = entries, columns
        self.column_names = list(columns)
        self.listing = [f"{entry} {' '.join(map(str, entry.sizes))}" for entry in entries]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int | str) -> Any:
        if isinstance(index, str):
            return self._columns[index]
        entry = self._entries[index]
        start, size = entry.files[entry.image]
        with entry.shard.open("rb") as file:
            file.seek(start)
            image = {"bytes": file.read(size), "path": str(entry)}
        return {"image": image} | {name: values[index] for name, values in self._columns.items()}


def _find(root: Path, split: str | None) -> tuple[list[Path], list[Path], str]:
    """The shards, the folders where text files about them may lie, and what they are called."""
    if root.is_file():
        return [root], [root.parent], root.name
    if not root.is_dir():
        raise FileNotFoundError(f"root: no such folder or file: {readable(root)}")
    name = root.resolve().name
    if split is None and (root / "test").is_dir():
        split = "test"
    if split is None:
        return shards_in(root), [root, root.parent], name
    if not (root / split).is_dir():
        there = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        raise FileNotFoundError(
            f"split: expected a folder in {readable(root)}, {some(there) or 'which has none'}, "
            f"got {split!r}"
        )
    return shards_in(root / split), [root, root / split], f"{name} {split}"


def _all_or_none(entries: Sequence[Entry], suffix: str) -> bool:
    """Whether all samples have such a file; raises ValueError if some have."""
    without = [str(entry) for entry in entries if suffix not in entry.files]
    if without and len(without) < len(entries):
        raise ValueError(
            f"root: expected a file .{suffix} of every sample or of none, but {len(without)} of "
            f"the {len(entries)} have none: {some(without)}"
        )
    return not without


def _places(entries: Sequence[Entry], labelled: bool, count: int, seed: int) -> list[int]:
    """Of what is drawn: as evenly over the classes as may be, or of all alike."""
    if not labelled:
        return drawn_alike(len(entries), count, seed)
    by_class: dict[int, list[int]] = {}
    for place, entry in enumerate(entries):
        by_class.setdefault(entry.label or 0, []).append(place)
    places = [place for label in sorted(by_class) for place in by_class[label]]
    sizes = [len(by_class[label]) for label in sorted(by_class)]
    return sorted(places[chosen] for chosen in drawn(sizes, count, seed))


def _lines(folders: Sequence[Path], name: str) -> list[str]:
    """The lines of a text file in the first folder that has it; none where none has."""
    for folder in folders:
        if (folder / name).is_file():
            text = (folder / name).read_text(encoding="utf-8-sig")
            return [line.strip() for line in text.splitlines() if line.strip()]
    return []


def _as_template(line: str) -> str:
    if line.count("{c}") != 1:
        raise ValueError(f"root: expected {{c}} once in each line of {_TEMPLATES}, got {line!r}")
    return line.replace("{c}", "{}")
