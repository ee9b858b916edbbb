"""ImageNet-S: masks that people drew on ImageNet's photos (Gao et al. 2022, arXiv 2106.03149)."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..._checks import check_choice
from ..._files import check_existing_folder
from ...images import content_of, errors_named
from ...names import readable
from .base import (
    DAMAGED,
    NO_FILE,
    NOT_IN_MASK,
    UNKNOWN_CLASS,
    WRONG_SIZE,
    Segmentation,
    check_call,
    without_mask,
)

# Classes of ImageNet that were merged, since their photos show the same things: wnid -> its new
# one. Sunglasses, bathtubs, laptops, missiles, and rolls of paper.
MERGED = {
    "n04356056": "n04355933",
    "n04493381": "n02808440",
    "n03642806": "n03832673",
    "n04008634": "n03773504",
    "n03887697": "n15075141",
}

_WNID = re.compile(r"n\d{8}")
_NUMBERS_OF_CLASSES = (50, 300, 919)  # of the three published sets
_IGNORED = 1000
_FOLDER = "validation-segmentation"


class ImageNetS:
    """Human masks for ImageNet's validation photos, of 50, 300 or 919 of its classes.

    The class asked for is the WordNet id given as the class's name, like "n02134084", else the
    folder with such a name in the image's. A pixel belongs to it if R + 256 G in the mask's PNG
    is the place of its id among the classes', sorted, counted from 1; 0 is other things. Of the
    919, five took others in, `MERGED`: asking for one asks for the other, and the masks of
    its photos are found in the other's folder.

    Pixels that the annotators set aside, 1000, are neither object nor background, but a mask says
    yes or no: `ignored_as` says which, and `ignored` where they are.

    Statuses: "no mask file", "damaged mask", "mask of another size", "unknown class", "class not
    in mask"; for the second and third a UserWarning says more.

    Args:
        folder: Of the masks' class folders, "validation-segmentation", or the one around it.
        classes: The WordNet ids of all classes that the masks were numbered by. None: the names of
            the folders, if these are as many as in a published set.
        ignored_as: "background", so that the object is what is surely it, or "object".

    Raises:
        FileNotFoundError: If there is no such folder.
        NotADirectoryError: If it is a file.
        ValueError: If the number of class folders is that of no published set and `classes` is not
            given, or it has what is no WordNet id, or one twice.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "n01443537").mkdir()
        ...     mask = Image.new("RGB", (3, 2))
        ...     mask.putpixel((2, 0), (2, 0, 0))  # 2 + 256 * 0
        ...     mask.save(f"{folder}/n01443537/ILSVRC2012_val_00000236.png")
        ...     segmenter = ImageNetS(folder, classes=["n01440764", "n01443537"])
        ...     names = ["val/n01443537/ILSVRC2012_val_00000236.JPEG"]
        ...     found = segmenter([Image.new("RGB", (3, 2))], ["goldfish"], names)
        >>> found[0].mask.tolist()
        [[False, False, True], [False, False, False]]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        classes: Sequence[str] | None = None,
        ignored_as: Literal["background", "object"] = "background",
    ) -> None:
        check_choice("ignored_as", ignored_as, ("background", "object"))
        root = Path(folder)
        check_existing_folder(root, "folder")
        self.folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
        self.ignored_as = ignored_as
        if classes is None:
            classes = self._class_folders()
            if len(classes) not in _NUMBERS_OF_CLASSES:
                raise ValueError(
                    "folder: expected a folder for each of 50, 300 or 919 classes, whose order "
                    f"numbers the pixels, got {len(classes)} in {readable(self.folder)}; give "
                    "the classes of the whole set as `classes`"
                )
        odd = [wnid for wnid in classes if not _WNID.fullmatch(wnid)]
        if odd or len(set(classes)) != len(classes):
            raise ValueError(
                "classes: expected different WordNet ids like n01440764, got "
                f"{odd[0] if odd else 'one twice'!r}"
            )
        self._ids = {wnid: place for place, wnid in enumerate(sorted(classes), start=1)}
        self._by_stem: dict[str, list[Path]] | None = None

    def __call__(
        self, images: Sequence[Image.Image], class_names: Sequence[str], names: Sequence[str]
    ) -> list[Segmentation]:
        """See `Segmenter`; a class's name is a WordNet id, or anything where paths have it.

        Raises:
            FileNotFoundError: If the folder is gone.
            OSError: If the system cannot give a mask now.
            TypeError: If an argument is of another type.
            ValueError: If there are not as many of each.
        """
        check_call(images, class_names, names)
        check_existing_folder(self.folder, "folder")
        return [self._find(*row) for row in zip(images, class_names, names, strict=True)]

    def ignored(self, name: str) -> Tensor | None:
        """Where pixels were set aside: (H, W) bool, or None where an image has no mask file.

        Args:
            name: See `Segmenter`.

        Raises:
            OSError: If the system cannot give the mask now.
            ValueError: If it is damaged.
        """
        file = self._file(name)
        return None if file is None else torch.from_numpy(_numbers(file) == _IGNORED)

    def _find(self, image: Image.Image, class_name: str, name: str) -> Segmentation:
        asked = class_name if _WNID.fullmatch(class_name) else _folder_of(name)
        number = self._ids.get(asked) or self._ids.get(MERGED.get(asked, asked))
        if number is None:
            return without_mask(UNKNOWN_CLASS, name)
        file = self._file(name)
        if file is None:
            return without_mask(NO_FILE, name)
        try:
            numbers = _numbers(file)
            self._check(numbers)
        except ValueError as error:
            return without_mask(DAMAGED, name, error)
        if numbers.shape != (image.height, image.width):
            reason = (
                f"expected {image.width} x {image.height}, got {numbers.shape[1]} x "
                f"{numbers.shape[0]} in {readable(file)}"
            )
            return without_mask(WRONG_SIZE, name, reason)
        object_ = numbers == number
        if not object_.any():
            return without_mask(NOT_IN_MASK, name)
        if self.ignored_as == "object":
            object_ |= numbers == _IGNORED
        return Segmentation(torch.from_numpy(object_))

    def _check(self, numbers: np.ndarray) -> None:
        known = (numbers <= len(self._ids)) | (numbers == _IGNORED)
        if not known.all():
            raise ValueError(
                f"expected numbers up to {len(self._ids)}, of its classes, or {_IGNORED}, got "
                f"{numbers[~known][0]}"
            )

    def _file(self, name: str) -> Path | None:
        """The mask of an image: in the folder that its name says, else wherever it is alone."""
        mask, folder = f"{PurePath(name).stem}.png", _folder_of(name)
        for place in (folder, MERGED.get(folder, folder)):
            if place and (self.folder / place / mask).is_file():
                return self.folder / place / mask
        if self._by_stem is None:
            self._by_stem = {}
            for wnid in self._class_folders():
                for entry in os.scandir(self.folder / wnid):
                    self._by_stem.setdefault(entry.name, []).append(Path(entry.path))
        found = self._by_stem.get(mask, [])
        return found[0] if len(found) == 1 else None

    def _class_folders(self) -> list[str]:
        entries = [entry.name for entry in os.scandir(self.folder) if entry.is_dir()]
        return [name for name in entries if _WNID.fullmatch(name)]


def _folder_of(name: str) -> str:
    """The innermost folder of a path that is named by a WordNet id; "" where none is."""
    folders = [part for part in PurePath(name).parts[:-1] if _WNID.fullmatch(part)]
    return folders[-1] if folders else ""


def _numbers(file: Path) -> np.ndarray:
    """(H, W) int32: each pixel's class.

    Raises:
        OSError: If the system cannot give the file now.
        ValueError: If it is damaged.
    """
    named = f"the mask {readable(file)}"
    with errors_named(named), Image.open(io.BytesIO(content_of(file))) as image:
        if image.mode != "RGB":
            raise ValueError(f"expected a mask in colours, got mode {image.mode}")
        values = np.asarray(image).astype(np.int32)
    return values[..., 0] + 256 * values[..., 1]
