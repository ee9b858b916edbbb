"""Masks that somebody made, in a folder beside that of the images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..._files import check_existing_folder
from ...mask_files import decode_mask, mask_names
from ...names import readable
from .base import (
    DAMAGED,
    EMPTY_MASK,
    NO_FILE,
    WRONG_SIZE,
    Segmentation,
    check_call,
    without_mask,
)


class MaskFolder:
    """Masks in the same tree as the images, the rules of `cci_captum.benchmarks.data.ImageFolders`.

    The mask of "cat/1.jpg" is "cat/1.jpg.png" or, if there is none, "cat/1.png": zero where the
    object is not, any other value where it is, and as large as the image is shown (rotated as its
    EXIF data says; masks are not). A mask is taken whatever the class's name is.

    Statuses: "no mask file", "damaged mask", "mask of another size", "empty mask"; for the second
    and third a UserWarning says more.

    Args:
        folder: Of the masks.
        images: Of the images, for names that are paths on this machine. None: names are paths
            below it, as those of samples of folders are.

    Raises:
        FileNotFoundError: If a folder does not exist, also once it is called.
        NotADirectoryError: If one is a file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "cat").mkdir()
        ...     Image.new("L", (3, 2), 255).save(f"{folder}/cat/1.png")
        ...     photos = [Image.new("RGB", (3, 2))] * 2
        ...     found = MaskFolder(folder)(photos, ["cat", "cat"], ["cat/1.jpg", "cat/2.jpg"])
        >>> found[0].mask.shape, found[1].status
        (torch.Size([2, 3]), 'no mask file')
    """

    def __init__(
        self, folder: str | os.PathLike[str], images: str | os.PathLike[str] | None = None
    ) -> None:
        self.folder = Path(folder)
        check_existing_folder(self.folder, "folder")
        self.images = None if images is None else Path(images)
        if self.images is not None:
            check_existing_folder(self.images, "images")
        self._taken: dict[Path, str] = {}  # by which image, also in calls before

    def __call__(
        self, images: Sequence[Image.Image], class_names: Sequence[str], names: Sequence[str]
    ) -> list[Segmentation]:
        """See `Segmenter`.

        Raises:
            FileNotFoundError: If the folder is gone.
            OSError: If the system cannot give a mask now.
            TypeError: If an argument is of another type.
            ValueError: If there are not as many of each, a name is a path outside of the folder
                of the images, or two images have the same mask.
        """
        check_call(images, class_names, names)
        check_existing_folder(self.folder, "folder")
        inside = [self._inside(name) for name in names]
        files = [self._file(name) for name in inside]
        _check_own(files, inside, self._taken)
        return [
            without_mask(NO_FILE, name) if file is None else _read(file, image, name)
            for file, image, name in zip(files, images, names, strict=True)
        ]

    def _inside(self, name: str) -> str:
        """The path below the folder of the images."""
        path = Path(name)
        if self.images is not None and path.is_absolute():
            path, root = Path(os.path.abspath(path)), Path(os.path.abspath(self.images))
            if path.is_relative_to(root):
                return path.relative_to(root).as_posix()
        elif not path.is_absolute() and ".." not in path.parts and path.name:
            return path.as_posix()
        where = "images" if self.images is None else readable(self.images)
        hint = "; give MaskFolder the folder of the images" if self.images is None else ""
        raise ValueError(
            f"names: expected paths below the folder of the {where}, got {readable(name)!r}{hint}"
        )

    def _file(self, name: str) -> Path | None:
        files = [self.folder / mask for mask in mask_names(name)]
        return next((file for file in files if file.is_file()), None)


def _check_own(files: Sequence[Path | None], names: Sequence[str], seen: dict[Path, str]) -> None:
    """Raise ValueError if two images have the same mask, as a/1.jpg and a/1.png would."""
    for file, name in zip(files, names, strict=True):
        if file is not None and seen.setdefault(file, name) != name:
            raise ValueError(
                f"names: expected a mask of its own for each image, got {readable(file)} for both "
                f"{seen[file]!r} and {name!r}; name them {mask_names(seen[file])[0]!r} and "
                f"{mask_names(name)[0]!r}"
            )


def _read(file: Path, image: Image.Image, name: str) -> Segmentation:
    try:
        mask = decode_mask(file)
    except FileNotFoundError:  # gone since it was looked for
        return without_mask(NO_FILE, name)
    except ValueError as error:
        return without_mask(DAMAGED, name, error)
    if tuple(mask.shape) != (image.height, image.width):
        reason = (
            f"expected the size of the image as it is shown, {image.width} x {image.height}, got "
            f"{mask.shape[1]} x {mask.shape[0]} in {readable(file)}"
        )
        return without_mask(WRONG_SIZE, name, reason)
    if not mask.any():
        return without_mask(EMPTY_MASK, name)
    return Segmentation(mask)
