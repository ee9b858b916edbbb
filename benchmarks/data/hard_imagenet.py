"""Hard ImageNet: photos whose class the background gives away, with masks (Moayeri et al. 2022)."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from open_clip import IMAGENET_CLASSNAMES
from PIL import Image
from timm.data import ImageNetInfo
from torch import Tensor

from cci_captum._checks import check_choice
from cci_captum._files import check_existing_folder
from cci_captum.images import content_of, errors_named, read_with_scaling
from cci_captum.names import readable

from ._drawing import check_drawing, drawn, fewer
from ._layouts import unlike
from ._notes import ScalingNotes
from ._tree import image_files, size_of, some
from .base import MissingImageError, Sample, position
from .object_variants import ObjectVariants

SPLITS = ("val", "train")

_NAME = re.compile(r"(n\d{8})_(.+)")

TREE = """\
    imagenet/                  (root: this one, or its val)
        val/n03218198/ILSVRC2012_val_00000262.JPEG
    hardImageNet/              (masks)
        val/n03218198_ILSVRC2012_val_00000262.JPEG
        train/...
        meta/..."""


class HardImageNet(ObjectVariants):
    """Hard ImageNet's photos with its masks, and what is made of them; see `ObjectVariants`.

    15 of ImageNet's classes, such as dog sleds and volleyballs, that are seldom seen without what
    gives them away; 750 photos of the validation split. Which photos there are, masks say: each is
    named by the WordNet id and the photo's name, n03218198_ILSVRC2012_val_00000262.JPEG. Class
    names, templates and targets are those of `ImageNet`, all 1000, so that any classifier of
    ImageNet is measured as it is.

    Args:
        root: ImageNet's folder, with "val" and "train" in it, or the folder of the class folders.
        masks: Hard ImageNet's folder, with "val" and "train" in it, or one of these; it is needed.
        split: "val", or "train" for the 19,000 others.
        threshold: A pixel is the object's where a channel of the mask is above this value, of 0 to
            255; released code has 0. Masks are JPEG files, whose values near an edge are not
            exact: a threshold of 127 cuts at the edge.
        count: How many photos to draw at random, as evenly over the classes as their numbers
            allow; None is all.
        seed: Of what is drawn, and of the noise.
        options: Of `ObjectVariants`: variants, size, trials, sigma, l2.

    Raises:
        FileNotFoundError: If there is no such folder, or no photo of the masks.
        NotADirectoryError: If it is a file.
        ValueError: If folders are laid out in another way, which the error shows; or another
            argument is not one of these. When a sample is read: if a photo or mask is damaged, or
            a mask of another size or empty.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for folder in ("imagenet/val/n03218198", "hard/val"):
        ...         (Path(root) / folder).mkdir(parents=True)
        ...     Image.new("RGB", (40, 30)).save(f"{root}/imagenet/val/n03218198/1.JPEG")
        ...     Image.new("L", (40, 30), 255).save(f"{root}/hard/val/n03218198_1.JPEG")
        ...     data = HardImageNet(f"{root}/imagenet", f"{root}/hard", variants="grey")
        ...     sample = data[0]
        >>> data.class_names[sample.target], sample.source, sample.image.getpixel((0, 0))
        ('dog sled', 'n03218198/1.JPEG', (128, 128, 128))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        masks: str | os.PathLike[str] | None = None,
        split: str = "val",
        *,
        threshold: int = 0,
        count: int | None = None,
        seed: int = 0,
        variants: str | Sequence[str] | None = None,
        size: int = 224,
        trials: int = 3,
        sigma: float = 0.25,
        l2: bool = False,
    ) -> None:
        if masks is None:
            said = "masks: expected the folder of Hard ImageNet's masks, got None; the layout is"
            raise ValueError(f"{said}\n{TREE}")
        super().__init__(
            HardPhotos(root, masks, split, threshold=threshold, count=count, seed=seed),
            variants=variants,
            size=size,
            trials=trials,
            sigma=sigma,
            l2=l2,
            seed=seed,
        )


class HardPhotos:
    """The photos themselves, as they are; see `HardImageNet`, whose arguments these are.

    Raises:
        FileNotFoundError: See `HardImageNet`.
        NotADirectoryError: See `HardImageNet`.
        ValueError: See `HardImageNet`.
    """

    has_masks = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        masks: str | os.PathLike[str],
        split: str = "val",
        *,
        threshold: int = 0,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("split", split, SPLITS)
        check_drawing(count, seed)
        if not isinstance(threshold, int) or not 0 <= threshold < 255:
            raise ValueError(f"threshold: expected an int from 0 to 254, got {threshold!r}")
        self._threshold = threshold
        self._root, self._folder = _class_folder(Path(root), split), _folder(Path(masks), split)
        ids = {name: index for index, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}
        names = _names(self._folder, ids)
        size = f"{len(names)} photos of {split}"
        if (few := fewer(count, len(names))) is not None:
            wnids = [wnid for wnid, _ in names]
            sizes = [wnids.count(wnid) for wnid in dict.fromkeys(wnids)]
            names = [names[place] for place in drawn(sizes, few, seed)]
            size = f"{few} of {size}, seed {seed}"
        self._names = names
        self.targets = [ids[wnid] for wnid, _ in names]
        self.class_names: tuple[str, ...] = tuple(IMAGENET_CLASSNAMES)
        self.templates: str | tuple[str, ...] = "openai-imagenet"
        self.name = f"Hard ImageNet ({size})"
        self.notes: list[str] = []
        self._scaling = ScalingNotes(self.notes)
        self._sizes = [size_of(self._root / wnid / name) for wnid, name in names]
        self._check_there()

    @property
    def listing(self) -> list[str]:
        """The photos and masks with their sizes, and the threshold."""
        named = zip(self._names, self._sizes, strict=True)
        return [
            *(
                f"{wnid}/{readable(name)} {size} {size_of(self._folder / f'{wnid}_{name}')}"
                for (wnid, name), size in named
            ),
            f"threshold {self._threshold}",
        ]

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        number = position(index, len(self))
        wnid, name = self._names[number]
        path = self._root / wnid / name
        if self._sizes[number] is None:
            raise MissingImageError(f"not there: {readable(path)}")
        image, scaling = read_with_scaling(path)
        mask = _mask(self._folder / f"{wnid}_{name}", image.size, self._threshold)
        named = f"{wnid}/{readable(name)}"
        note = self._scaling.of(named, scaling)
        return Sample(named, image, self.targets[number], mask, note=note)

    def _check_there(self) -> None:
        pairs = zip(self._names, self._sizes, strict=True)
        missing = [f"{wnid}/{name}" for (wnid, name), size in pairs if size is None]
        if len(missing) == len(self._names):
            raise FileNotFoundError(
                f"root: expected the photos of the masks, missing {some(missing)} in "
                f"{readable(self._root)}; the layout is\n{TREE}"
            )
        if missing:
            self.notes.append(f"{len(missing)} photos of masks are not there: {some(missing)}")


def _class_folder(root: Path, split: str) -> Path:
    """ImageNet's folder of the class folders."""
    check_existing_folder(root, "root")
    for folder in (root / split, root):
        if folder.is_dir() and any(re.fullmatch(r"n\d{8}", each) for each in os.listdir(folder)):
            return folder
    raise ValueError(unlike("root", f"folders named like n03218198, or {split}", root, TREE))


def _folder(masks: Path, split: str) -> Path:
    """The folder of the mask files."""
    check_existing_folder(masks, "masks")
    folder = masks / split if (masks / split).is_dir() else masks
    if not any(_NAME.fullmatch(name) for name in image_files(folder)):
        raise ValueError(unlike("masks", f"masks named by id and photo in {split}", masks, TREE))
    return folder


def _names(folder: Path, ids: dict[str, int]) -> list[tuple[str, str]]:
    """The id and the photo of every mask, sorted."""
    found = [match for name in image_files(folder) if (match := _NAME.fullmatch(name))]
    names = sorted((match[1], match[2]) for match in found)
    if unknown := sorted({wnid for wnid, _ in names if wnid not in ids}):
        raise ValueError(
            f"masks: expected WordNet ids of ImageNet's 1000 classes, got {some(unknown)} in "
            f"{readable(folder)}"
        )
    return names


def _mask(path: Path, size: tuple[int, int], threshold: int) -> Tensor:
    """(H, W) bool: where any channel but transparency is above the threshold."""
    named = f"the mask {readable(path)}"
    with errors_named(named), Image.open(io.BytesIO(content_of(path))) as file:
        values = np.asarray(file.convert("L" if file.mode in ("1", "L", "LA") else "RGB"))
    if (values.shape[1], values.shape[0]) != size:
        raise ValueError(
            f"expected the size of the photo, {size[0]} x {size[1]}, got {values.shape[1]} x "
            f"{values.shape[0]}: {named}"
        )
    object_ = values.reshape(*values.shape[:2], -1).max(axis=2) > threshold
    if not object_.any():
        raise ValueError(f"nothing above {threshold}: {named}")
    return torch.from_numpy(object_)
