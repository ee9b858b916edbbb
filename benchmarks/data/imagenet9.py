"""ImageNet-9: photos of nine kinds of things, and the same with other backgrounds."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from torch import Tensor

from cci_captum._checks import check_choice
from cci_captum._files import check_existing_folder
from cci_captum.images import read_with_scaling
from cci_captum.names import readable

from ._drawing import check_drawing, drawn, fewer
from ._layouts import unlike
from ._notes import ScalingNotes
from ._tree import image_files, size_of, some
from .base import MissingImageError, Sample, position

VARIANTS = (
    "original",
    "mixed_same",
    "mixed_rand",
    "mixed_next",
    "only_fg",
    "no_fg",
    "only_bg_b",
    "only_bg_t",
)
"""What is done to a photo: nothing; its object on another background of its class, of any class, of
the next class; its object on black; the object black; a black box in its place; tiles there."""

WITH_OBJECT = VARIANTS[:5]
"""Variants that show the object."""

FOLDERS = (
    "00_dog",
    "01_bird",
    "02_wheeled vehicle",
    "03_reptile",
    "04_carnivore",
    "05_insect",
    "06_musical instrument",
    "07_primate",
    "08_fish",
)
"""Of the nine classes, in the order of the targets."""

OTHER = "something else"
"""The class of what is none of the nine."""

MASKS = "fg_mask"

_PHOTO = re.compile(r"n\d{8}_\d+")

TREE = """\
    bg_challenge/              (give this one)
        original/val/00_dog/n02085620_1916.JPEG
        mixed_same/val/00_dog/...
        mixed_rand/val/00_dog/...
        ...                    (any of mixed_next, only_fg, no_fg, only_bg_b, only_bg_t)
        fg_mask/val/00_dog/n02085620_1916.npy"""


class ImageNet9:
    """The variants of ImageNet-9, the data of the Backgrounds Challenge.

    Xiao, Engstrom, Ilyas and Madry 2020 (arXiv 2006.09994): photos of nine classes of things that
    hold 370 of ImageNet's, each again with other backgrounds, without one, or without its object. A
    sample has the fact "variant"; its source is the photo whose object it shows, so that variants
    of one photo pair: the first ImageNet name in the file's.

    Masks are those of the photo's object, which composites show in its place; a sample of a
    variant without an object has an empty one.

    Args:
        root: The folder of the variants.
        variants: Which, of `VARIANTS`; None takes those that are there.
        others: Whether there is a tenth class, `OTHER`: what a classifier of ImageNet's 1000
            classes says where it says none of the 370; see
            `cci_captum.benchmarks.spurious.SuperClasses`.
        count: How many photos to draw at random, as evenly over the classes as their numbers
            allow, each in all of its variants; None is all.
        seed: Of what is drawn.

    Attributes:
        notes: What a reader of the results should know, once it was read.

    Raises:
        FileNotFoundError: If there is no such folder, or masks are missing.
        NotADirectoryError: If it is a file.
        ValueError: If it is laid out in another way, which the error shows; or another argument is
            not one of these. When a sample is read: if an image or mask is damaged, or a mask of
            another size.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for folder in FOLDERS:
        ...         place = Path(root) / "original" / "val" / folder
        ...         place.mkdir(parents=True)
        ...         Image.new("RGB", (8, 8)).save(place / "n02085620_1916.JPEG")
        ...     data = ImageNet9(root)
        ...     sample = data[2]
        >>> data.class_names[sample.target], sample.facts["variant"], sample.source
        ('wheeled vehicle', 'original', '02_wheeled vehicle/n02085620_1916')
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        variants: str | Sequence[str] | None = None,
        others: bool = False,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        root = Path(root)
        check_existing_folder(root, "root")
        check_drawing(count, seed)
        self._root = root
        self.variants = _variants(root, variants)
        files = [
            (variant, place, name)
            for variant in self.variants
            for place, folder in enumerate(FOLDERS)
            for name in image_files(folder_of(root, variant, folder))
        ]
        if not files:
            raise ValueError(unlike("root", "images in the class folders", root, TREE))
        photos = sorted({(place, photo_of(name)) for _, place, name in files})
        size = f"{len(photos)} photos"
        if (few := fewer(count, len(photos))) is not None:
            sizes = np.bincount([place for place, _ in photos], minlength=len(FOLDERS))
            photos = [photos[place] for place in drawn(sizes.tolist(), few, seed)]
            size = f"{few} of {size}, seed {seed}"
            kept = set(photos)
            files = [file for file in files if (file[1], photo_of(file[2])) in kept]
        self._files = files
        self.targets = [place for _, place, _ in files]
        self.class_names = class_names_of(others)
        self.templates: str | tuple[str, ...] = "a photo of a {}."
        self.name = f"ImageNet-9 ({size}, {', '.join(self.variants)})"
        self.notes: list[str] = []
        self._scaling = ScalingNotes(self.notes)
        self._sizes = [size_of(self._path(place)) for place in range(len(files))]
        self.has_masks = (root / MASKS).is_dir()
        if self.has_masks:
            self._check_masks()

    @property
    def listing(self) -> list[str]:
        """The files with their sizes, and how many classes there are."""
        named = zip(self._files, self._sizes, strict=True)
        sizes = [f"{v}/{FOLDERS[p]}/{readable(n)} {size}" for (v, p, n), size in named]
        return [*sizes, f"{len(self.class_names)} classes", f"masks: {self.has_masks}"]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        number = position(index, len(self))
        variant, place, file = self._files[number]
        path = self._path(number)
        if self._sizes[number] is None:
            raise MissingImageError(f"a link to a file that is missing: {readable(path)}")
        image, scaling = read_with_scaling(path)
        name = f"{variant}/{FOLDERS[place]}/{readable(file)}"
        mask = None
        if self.has_masks and variant in WITH_OBJECT:
            mask = mask_of(self._root, place, photo_of(file), image.size)
        elif self.has_masks:
            mask = torch.zeros(image.height, image.width, dtype=torch.bool)
        return Sample(
            name,
            image,
            place,
            mask,
            source=f"{FOLDERS[place]}/{readable(photo_of(file))}",
            facts={"variant": variant},
            note=self._scaling.of(name, scaling),
        )

    def _path(self, number: int) -> Path:
        variant, place, name = self._files[number]
        return folder_of(self._root, variant, FOLDERS[place]) / name

    def _check_masks(self) -> None:
        asked = sorted({(p, photo_of(name)) for v, p, name in self._files if v in WITH_OBJECT})
        missing = [
            f"{FOLDERS[place]}/{photo}.npy"
            for place, photo in asked
            if size_of(folder_of(self._root, MASKS, FOLDERS[place]) / f"{photo}.npy") is None
        ]
        if missing:
            raise FileNotFoundError(
                f"root: expected a mask for each of the {len(asked)} photos in "
                f"{readable(self._root / MASKS)}, missing {some(missing)}; the layout is\n{TREE}"
            )


def class_names_of(others: bool) -> tuple[str, ...]:
    """The nine classes; others: and the tenth, `OTHER`."""
    names = [folder.partition("_")[2] for folder in FOLDERS]
    return (*names, *([OTHER] if others else []))


def folder_of(root: Path, variant: str, folder: str) -> Path:
    """Where the images of a class are in a variant, or its masks."""
    return root / variant / "val" / folder


def photo_of(file: str) -> str:
    """The ImageNet name of the photo whose object a file shows, without its suffix.

    A composite is named by two photos, first that of the object.

    Example:
        >>> photo_of("n02085620_1916.JPEG"), photo_of("fg_n02085620_19_bg_n01514668_7.JPEG")
        ('n02085620_1916', 'n02085620_19')
    """
    found = _PHOTO.search(file)
    return found[0] if found else Path(file).stem


def mask_of(root: Path, place: int, photo: str, size: tuple[int, int]) -> Tensor:
    """(H, W) bool: the object of a photo.

    Args:
        root: Of the data.
        place: The photo's class.
        photo: Its ImageNet name.
        size: Width and height of the image.

    Raises:
        OSError: If the system cannot give the file now.
        ValueError: If it is damaged, of another size, or zero everywhere.
    """
    path = folder_of(root, MASKS, FOLDERS[place]) / f"{photo}.npy"
    try:
        values = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError(f"damaged: the mask {readable(path)} ({error})") from error
    if values.shape != (size[1], size[0]):
        raise ValueError(
            f"expected the size of the image, {size[0]} x {size[1]}, got an array of shape "
            f"{values.shape}: the mask {readable(path)}"
        )
    if not values.any():
        raise ValueError(f"zero everywhere: the mask {readable(path)}")
    return torch.from_numpy(values != 0)


def check_folders(root: Path, variant: str) -> None:
    """Raise ValueError, which shows the right layout, unless a variant has its nine folders."""
    folder = root / variant / "val"
    if not folder.is_dir():
        where = root / variant if (root / variant).is_dir() else root
        raise ValueError(unlike("root", f"{variant}/val", where, TREE))
    there = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if tuple(name for name in there if not name.startswith(".")) != FOLDERS:
        expected = f"the nine class folders {FOLDERS[0]} to {FOLDERS[-1]}"
        raise ValueError(unlike("root", expected, folder, TREE))


def _variants(root: Path, asked: str | Sequence[str] | None) -> tuple[str, ...]:
    """The variants to read, in the order of `VARIANTS`."""
    if asked is None:
        found = tuple(name for name in VARIANTS if (root / name).is_dir())
        if not found:
            raise ValueError(unlike("root", "the folders of the variants", root, TREE))
    else:
        names = [asked] if isinstance(asked, str) else list(asked)
        for name in names:
            check_choice("variants", name, VARIANTS)
        found = tuple(name for name in VARIANTS if name in names)
        if not found:
            raise ValueError("variants: expected at least one, got none")
    for name in found:
        check_folders(root, name)
    if (root / MASKS).is_dir():
        check_folders(root, MASKS)
    return found
