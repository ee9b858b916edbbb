"""The Backgrounds Challenge: every object of ImageNet-9 on many backgrounds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from PIL import Image

from cci_captum._checks import check_positive_int
from cci_captum._files import check_existing_folder
from cci_captum.images import read_with_scaling
from cci_captum.names import readable

from ._drawing import check_drawing, drawn, fewer
from ._layouts import unlike
from ._tree import image_files, size_of, some
from .base import MissingImageError, Sample, position
from .imagenet9 import (
    FOLDERS,
    MASKS,
    TREE,
    check_folders,
    class_names_of,
    folder_of,
    mask_of,
)


class ImageNet9Challenge:
    """Objects of ImageNet-9 pasted on the tiled backgrounds of its photos, "only_bg_t".

    An object passes the challenge if no background makes the prediction wrong: see
    `cci_captum.benchmarks.spurious.challenge`. The released script takes every mask's object with
    every background, its own class's too, 4,050 x 4,050 images, and stops at an object's first
    wrong one. Here all images are samples, of as many backgrounds as are asked for, the same for
    every object: with fewer, more objects pass.

    Pixels of the mask are the photo's, all others the background's. The source is the object's
    photo; facts are "background", the file, and "background_class".

    Args:
        root: As for `ImageNet9`; with the folders "original", "only_bg_t" and "fg_mask".
        backgrounds: How many, drawn at random as evenly over the classes as their numbers allow;
            None is all.
        others: As for `ImageNet9`.
        count: How many objects to draw, in the same way; None is all.
        seed: Of what is drawn.

    Raises:
        FileNotFoundError: If there is no such folder, or a photo of a mask is missing.
        NotADirectoryError: If it is a file.
        ValueError: As for `ImageNet9`; when a sample is read, also if object and background are
            not of one size.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for variant in ("original", "only_bg_t", MASKS):
        ...         for folder in FOLDERS:
        ...             folder_of(Path(root), variant, folder).mkdir(parents=True)
        ...     object_ = folder_of(Path(root), "original", "01_bird") / "n01534433_1.JPEG"
        ...     Image.new("RGB", (2, 1), "white").save(object_)
        ...     tiles = folder_of(Path(root), "only_bg_t", "00_dog") / "n02085620_2.JPEG"
        ...     Image.new("RGB", (2, 1), "black").save(tiles)
        ...     mask = folder_of(Path(root), MASKS, "01_bird") / "n01534433_1.npy"
        ...     np.save(mask, np.array([[0, 1]]))
        ...     sample = ImageNet9Challenge(root)[0]
        >>> [sample.image.getpixel((x, 0)) for x in range(2)]
        [(0, 0, 0), (255, 255, 255)]
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        backgrounds: int | None = None,
        others: bool = False,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        root = Path(root)
        check_existing_folder(root, "root")
        check_drawing(count, seed)
        if backgrounds is not None:
            check_positive_int("backgrounds", backgrounds, " or None")
        for variant in ("original", "only_bg_t", MASKS):
            check_folders(root, variant)
        self._root = root
        objects = [_masks(folder_of(root, MASKS, folder)) for folder in FOLDERS]
        tiles = [image_files(folder_of(root, "only_bg_t", folder)) for folder in FOLDERS]
        if not any(objects) or not any(tiles):
            raise ValueError(unlike("root", "masks, and backgrounds in only_bg_t", root, TREE))
        self._objects, said = _some_of(objects, "count", count, seed)
        self._tiles, said_tiles = _some_of(tiles, "backgrounds", backgrounds, seed)
        self.name = (
            f"ImageNet-9 challenge ({said} objects on {said_tiles} backgrounds, seed {seed})"
        )
        self.backgrounds = len(self._tiles)
        self._photos = self._find_photos()
        self.class_names = class_names_of(others)
        self.templates: str | tuple[str, ...] = "a photo of a {}."
        self.has_masks = True
        classes = [place for place, _ in self._objects]
        self.targets: Sequence[int] = np.repeat(classes, self.backgrounds).tolist()

    @property
    def listing(self) -> list[str]:
        """Objects and backgrounds with their sizes, and how many classes there are."""
        tiles = [folder_of(self._root, "only_bg_t", FOLDERS[p]) / name for p, name in self._tiles]
        sizes = [f"{readable(path.name)} {size_of(path)}" for path in [*self._photos, *tiles]]
        return [*sizes, f"{len(self.class_names)} classes"]

    def __len__(self) -> int:
        return len(self._objects) * len(self._tiles)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        which, tile = divmod(position(index, len(self)), len(self._tiles))
        (place, photo), (other, background) = self._objects[which], self._tiles[tile]
        image, _ = read_with_scaling(self._photos[which])
        path = folder_of(self._root, "only_bg_t", FOLDERS[other]) / background
        if size_of(path) is None:
            raise MissingImageError(f"a link to a file that is missing: {readable(path)}")
        behind, _ = read_with_scaling(path)
        if behind.size != image.size:
            raise ValueError(
                f"expected a background of the object's size, {image.size[0]} x {image.size[1]}, "
                f"got {behind.size[0]} x {behind.size[1]}: {readable(path)}"
            )
        mask = mask_of(self._root, place, photo, image.size)
        pasted = np.where(mask.numpy()[..., None], np.asarray(image), np.asarray(behind))
        named, ground = f"{FOLDERS[place]}/{readable(photo)}", f"{FOLDERS[other]}/{background}"
        return Sample(
            f"{named} on {readable(ground)}",
            Image.fromarray(pasted),
            place,
            mask,
            source=named,
            facts={"background": readable(ground), "background_class": self.class_names[other]},
        )

    def _find_photos(self) -> list[Path]:
        """The photo of every object."""
        found, missing = [], []
        for place, folder in enumerate(FOLDERS):
            there = folder_of(self._root, "original", folder)
            by_stem = {Path(name).stem: name for name in image_files(there)}
            for photo in (photo for own, photo in self._objects if own == place):
                if photo not in by_stem:
                    missing.append(f"{folder}/{photo}.JPEG")
                else:
                    found.append(there / by_stem[photo])
        if missing:
            raise FileNotFoundError(
                f"root: expected the photo of each mask in {readable(self._root / 'original')}, "
                f"missing {some(missing)}"
            )
        return found


def _masks(folder: Path) -> list[str]:
    """The photos that have masks in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.npy") if not path.name.startswith("."))


def _some_of(
    names: list[list[str]], argument: str, count: int | None, seed: int
) -> tuple[list[tuple[int, str]], str]:
    """(class, name) of all or of some drawn, and how many these are, in words."""
    every = [(place, name) for place, own in enumerate(names) for name in own]
    try:
        few = fewer(count, len(every))
    except ValueError:
        raise ValueError(f"{argument}: expected at most the {len(every)}, got {count}") from None
    if few is None:
        return every, str(len(every))
    chosen = [every[place] for place in drawn([len(own) for own in names], few, seed)]
    return chosen, f"{few} of {len(every)}"
