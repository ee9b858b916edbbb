"""Image files in a folder a class: which there are, which of them are taken, and their masks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cci_captum._arguments import check_positive_int
from cci_captum.benchmarks.images import read_image

from .base import Sample, check_seed, position

SUFFIXES: tuple[str, ...] = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif",
)  # fmt: skip

_SHOWN = 5  # names in an error


class FolderData:
    """The images of class folders, sorted by folder and name.

    Args:
        root: The folder of the class folders.
        targets: The class of each of them.
        masks: See `cci_captum.benchmarks.data.ImageFolders`.
        count: The same.
        seed: The same.
    """

    def __init__(
        self,
        root: Path,
        targets: Mapping[str, int],
        *,
        masks: str | os.PathLike[str] | None,
        count: int | None,
        seed: int,
    ) -> None:
        if count is not None:
            check_positive_int("count", count, " or None")
        check_seed(seed)
        images = {folder: image_files(root / folder) for folder in sorted(targets)}
        empty = [folder for folder, files in images.items() if not files]
        if empty:
            raise ValueError(
                f"root: expected images directly in every folder of {root}, got none in "
                f"{some(empty)}"
            )
        self._root = root
        self._masks = None if masks is None else _check_masks(Path(masks), root, images)
        self.has_masks = masks is not None
        self._files = [f"{folder}/{file}" for folder, names in images.items() for file in names]
        self._size = f"{len(self)} images of {len(targets)} classes"
        if count is not None and count > len(self):
            raise ValueError(f"count: expected at most the {len(self)} images, got {count}")
        if count is not None and count < len(self):
            self._size = f"{count} of {self._size}, seed {seed}"
            places = _drawn([len(files) for files in images.values()], count, seed)
            self._files = [self._files[place] for place in places]
        self.targets = [targets[name.split("/")[0]] for name in self._files]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        place = position(index, len(self))
        name = self._files[place]
        image = read_image(self._root / name)
        mask = None
        if self._masks is not None:
            mask = _read_mask(self._masks / _mask_of(name), self._root / name, image.size)
        return Sample(name, image, self.targets[place], mask)


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
    _check_folder("root", root)
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    folders = [name for name in names if not name.startswith(".")]
    loose = image_files(root)
    if not folders and loose:
        raise ValueError(
            f"root: expected a folder of images for each class, got {len(loose)} loose images in "
            f"{root}, such as {loose[0]!r}; {remedy}"
        )
    if not folders:
        raise ValueError(f"root: expected a folder of images for each class, got none in {root}")
    return folders


def image_files(folder: Path) -> list[str]:
    """The names of the image files directly in a folder, sorted, without hidden ones."""
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(SUFFIXES)
        and not entry.name.startswith(".")
        and not entry.is_dir()
    )


def some(names: Iterable[str]) -> str:
    """The first few names, and how many more there are.

    Example:
        >>> some("abcdefg")
        "'a', 'b', 'c', 'd', 'e' and 2 more"
    """
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more


def _drawn(sizes: list[int], count: int, seed: int) -> list[int]:
    """Places of `count` images drawn at random, as many of each folder as its size allows.

    Every folder is shuffled and all are then dealt from in turns, the turn that is not completed
    to folders at random: what is drawn for a smaller count is part of what is for a larger one.
    """
    rng = np.random.default_rng(seed)
    turns = np.concatenate([rng.permutation(size) for size in sizes])
    order = np.lexsort((rng.random(len(turns)), turns))
    return np.sort(order[:count]).tolist()


def _check_folder(argument: str, path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{argument}: no such folder: {path}")
    if not path.is_dir():
        raise NotADirectoryError(f"{argument}: expected a folder, got a file: {path}")


def _check_masks(masks: Path, root: Path, images: Mapping[str, list[str]]) -> Path:
    """The folder of masks, which has one for every image."""
    _check_folder("masks", masks)
    if masks.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"masks: expected a folder outside of root, {root}, got {masks}")
    missing = []
    for folder, files in images.items():
        there = set(os.listdir(masks / folder)) if (masks / folder).is_dir() else set()
        wanted = [_mask_of(f"{folder}/{file}") for file in files]
        missing += [mask for mask in wanted if mask.split("/")[1] not in there]
    if missing:
        total = sum(map(len, images.values()))
        raise FileNotFoundError(
            f"masks: expected a mask for each of the {total} images in {masks}, missing "
            f"{some(missing)}"
        )
    return masks


def _mask_of(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(".png"))


def _read_mask(path: Path, image: Path, size: tuple[int, int]) -> Tensor:
    """(H, W) bool, the pixels that are not zero in any channel but transparency."""
    try:
        with Image.open(path) as file:
            if file.size != size:
                raise ValueError(
                    f"expected the size of the image, {size[0]} x {size[1]} as {image} is shown, "
                    f"got {file.size[0]} x {file.size[1]}"
                )
            values = np.asarray(file)
            channels = len(file.getbands()) - ("A" in file.getbands())
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot use the mask {path}: {error}") from error
    mask = values.reshape(*values.shape[:2], -1)[..., :channels].any(axis=-1)
    if not mask.any():
        raise ValueError(f"cannot use the mask {path}: it is zero everywhere")
    return torch.from_numpy(mask)
