"""Image files in a folder a class: which there are, which of them are taken, and their masks."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import SupportsIndex

from PIL import Image

from cci_captum._files import check_existing_folder
from cci_captum.images import read_with_scaling
from cci_captum.mask_files import mask_names, read_mask
from cci_captum.names import is_text, readable

from ._drawing import check_drawing, drawn, fewer
from ._notes import ScalingNotes
from .base import MissingImageError, Sample, position

# What Pillow knows by name but cannot read without another program or library.
_NOT_READ = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")

_SHOWN = 5  # names in an error


class FolderData:
    """The images of class folders, sorted by folder and name.

    Args:
        root: The folder of the class folders.
        targets: The class of each of them, or of folders in them: path -> class.
        masks: See `cci_captum.benchmarks.data.ImageFolders`.
        count: The same.
        seed: The same.
        notes: What else a reader of the results should know.

    Attributes:
        notes: What a reader of the results should know: which files were left out, which folders
            have no images, how values were scaled in images read so far.
    """

    def __init__(
        self,
        root: Path,
        targets: Mapping[str, int],
        *,
        masks: str | os.PathLike[str] | None,
        count: int | None,
        seed: int,
        notes: Iterable[str] = (),
    ) -> None:
        check_drawing(count, seed)
        images = {folder: image_files(root / folder) for folder in sorted(targets)}
        self.notes = [*notes, *_notes(root, images)]
        for note in self.notes:
            warnings.warn(note, UserWarning, stacklevel=3)
        self._scaling = ScalingNotes(self.notes)
        self._root = root
        self._masks = {} if masks is None else _find_masks(Path(masks), root, images)
        self.has_masks = masks is not None
        self._files = [f"{folder}/{file}" for folder, names in images.items() for file in names]
        classes = {targets[folder] for folder, names in images.items() if names}
        self._size = f"{len(self)} images of {len(classes)} classes"
        if (few := fewer(count, len(self))) is not None:
            self._size = f"{few} of {self._size}, seed {seed}"
            places = drawn([len(files) for files in images.values()], few, seed)
            self._files = [self._files[place] for place in places]
        self.targets = [targets[name.rpartition("/")[0]] for name in self._files]
        masked = [self._masks[name] for name in self._files] if self.has_masks else []
        self._sizes = [size_of(root / name) for name in self._files]
        self._sizes_of_masks = [size_of(path) for path in masked]

    @property
    def listing(self) -> list[str]:
        """The files, with their masks' and their sizes: a changed file is another image."""
        masked = [self._masks[name].name for name in self._files] if self.has_masks else []
        sizes = [*self._sizes, *self._sizes_of_masks]
        return [
            f"{readable(name)} {'missing' if size is None else size}"
            for name, size in zip([*self._files, *masked], sizes, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        place = position(index, len(self))
        name = self._files[place]
        path = self._root / name
        if self._sizes[place] is None:
            raise MissingImageError(f"a link to a file that is missing: {readable(path)}")
        image, scaling = read_with_scaling(path)
        note = self._scaling.of(readable(name), scaling)
        mask = None
        if self.has_masks:
            mask = read_mask(self._masks[name], image.size)
        return Sample(
            readable(name), image, self.targets[place], mask, facts=self._facts(name), note=note
        )

    def _facts(self, name: str) -> Mapping[str, str]:
        """What else is known of an image, by its path."""
        return {}


def class_folders(root: Path, remedy: str) -> list[str]:
    """The names of the folders in root, sorted, without hidden ones.

    Args:
        root: The folder of the class folders.
        remedy: What to do about images that lie loose in root, said where there are no folders.

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If root is a file.
        ValueError: If it has no folders.
    """
    check_existing_folder(root, "root")
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    folders = [name for name in names if not name.startswith(".")]
    if odd := [readable(folder) for folder in folders if not is_text(folder)]:
        raise ValueError(
            f"root: expected folders with names in UTF-8, which say what the classes are, got "
            f"{some(odd)} in {readable(root)}"
        )
    loose = image_files(root)
    if not folders and loose:
        raise ValueError(
            f"root: expected a folder of images for each class, got {len(loose)} loose images in "
            f"{readable(root)}, such as {loose[0]!r}; {remedy}"
        )
    if not folders:
        raise ValueError(
            f"root: expected a folder of images for each class, got none in {readable(root)}"
        )
    return folders


def image_files(folder: Path) -> list[str]:
    """The names of the image files directly in a folder, sorted, without hidden ones."""
    known = suffixes()
    return sorted(entry.name for entry in os.scandir(folder) if _counts(entry, known))


def suffixes() -> tuple[str, ...]:
    """Of the files that Pillow reads, as it is installed here, in lower case, sorted."""
    known = Image.registered_extensions().items()
    readers = Image.OPEN.keys() - set(_NOT_READ)
    return tuple(sorted(suffix for suffix, kind in known if kind in readers))


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are.

    Example:
        >>> some("abcdefg")
        "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _notes(root: Path, images: Mapping[str, Sequence[str]]) -> list[str]:
    """What was left out, and which folders have no images.

    Raises:
        ValueError: If no folder has any.
    """
    empty = [folder for folder, files in images.items() if not files]
    if len(empty) == len(images):
        raise ValueError(
            f"root: expected images directly in the folders of {readable(root)}, got none in "
            f"{some(empty)}"
        )
    notes = []
    if left_out := _left_out(root, images):
        ordered = sorted(left_out.items(), key=lambda pair: (-pair[1], pair[0]))
        notes.append(
            f"left out of {readable(root)}: "
            + ", ".join(f"{number} x {kind}" for kind, number in ordered)
        )
    if empty:
        notes.append(
            f"no images directly in {some(empty)} of {readable(root)}: they stay among the classes "
            "to tell apart, but nothing of them is explained"
        )
    return notes


def _left_out(root: Path, folders: Iterable[str]) -> Counter[str]:
    """How many files and folders are left out, by kind; hidden ones are not counted.

    Beside the class folders, only images are: a list of names is no surprise there.
    """
    known, kinds = suffixes(), Counter[str]()
    for folder in folders:
        for entry in os.scandir(root / folder):
            if not entry.name.startswith(".") and not _counts(entry, known):
                suffix = readable(os.path.splitext(entry.name)[1].lower()) or "file without suffix"
                kinds["folder in a class folder" if entry.is_dir() else suffix] += 1
    kinds["image beside the class folders"] = len(image_files(root))
    return +kinds  # without those that are 0


def _counts(entry: os.DirEntry[str], known: tuple[str, ...]) -> bool:
    """Whether an entry of a folder is an image file of a known suffix, not hidden."""
    shown = not entry.name.startswith(".")
    return shown and entry.name.lower().endswith(known) and not entry.is_dir()


def _find_masks(masks: Path, root: Path, images: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    """Every image's mask: image name -> path.

    A mask is named as its image, with .png added or, if there is none, in place of the suffix.
    An image that cannot be read needs none: that is reported when it is read.
    """
    check_existing_folder(masks, "masks")
    if masks.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"masks: expected a folder outside of root, {readable(root)}, got {readable(masks)}"
        )
    found, missing = {}, {}  # image -> mask
    for folder, files in images.items():
        there = set(os.listdir(masks / folder)) if (masks / folder).is_dir() else set()
        for file in files:
            added, replaced = mask_names(file)
            mask = added if added in there else replaced
            found[f"{folder}/{file}"] = f"{folder}/{mask}"
            if mask not in there:
                missing[f"{folder}/{file}"] = f"{folder}/{mask}"
    _check_unique(found, masks)
    if any(_can_be_read(root / image) for image in missing):
        raise FileNotFoundError(
            f"masks: expected a mask for each of the {len(found)} images in {readable(masks)}, "
            f"missing {some(missing.values())}"
        )
    return {image: masks / mask for image, mask in found.items()}


def _check_unique(found: Mapping[str, str], masks: Path) -> None:
    """Raise ValueError if two images have the same mask."""
    images: dict[str, str] = {}
    for image, mask in found.items():
        other = images.setdefault(mask, image)
        if other != image:
            raise ValueError(
                f"masks: expected a mask of its own for each image, got {mask!r} in "
                f"{readable(masks)} for both {other!r} and {image!r}; name them "
                f"{other + '.png'!r} and {image + '.png'!r}"
            )


def _can_be_read(path: Path) -> bool:
    try:
        read_with_scaling(path)
    except (OSError, ValueError):
        return False
    return True


def size_of(path: Path) -> int | None:
    """In bytes; None where there is no such file, or nothing at the end of a link."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None
