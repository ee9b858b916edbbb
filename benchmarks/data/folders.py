"""Photos in a folder a class."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cci_captum.names import readable

from ._tree import FolderData, class_folders, some
from .class_names import check_different, check_mapping, check_names, names_of_folders, spaced

_LOOSE = "move each into a folder named as its class"


class ImageFolders(FolderData):
    """Image files in a folder a class, which says what is seen in them.

    Images are the files directly in these folders that Pillow reads, known by their suffix: .jpg,
    .jfif, .png, .webp, .avif (from Pillow 11.3), .tif and many more. Hidden files do not count;
    other files, folders within these folders and images beside them are left out, and a
    UserWarning counts them. It names folders without images, too: their classes stay among the
    names to tell apart, so that results compare with those on all of the data; remove such a
    folder, or give `class_names`, where it is no class.
    Images are read as `cci_captum.images.read_image` says, each when it is asked for.
    A sample's name is its path, like "polar_bear/3.jpg", escaped where it is no text (see
    `cci_captum.names.readable`); samples are sorted by folder and name.

    Args:
        root: The folder of the class folders.
        class_names: The names to tell apart, in the order of the targets. A folder belongs to the
            name that equals its own with spaces for underscores; names without a folder are
            fine. Or folder -> name, for all folders and no others; `read_class_names` reads both
            from a file. None: the folders' names, sorted, with spaces for underscores; WordNet
            ids stand for the names of ImageNet's classes, numbers are refused.
        templates: As `cci_captum.ZeroShotClassifier` takes them.
        masks: A folder outside of root with a mask for every image that can be read, at the same
            path with .png added ("cat/1.jpg.png") or, if there is none, with the suffix .png
            ("cat/1.png"): zero where the object is not, as large as the image is shown (rotated
            as its EXIF data says; masks are not). None: there are no masks.
        count: How many of the images to draw at random, as evenly over the classes as their
            numbers allow; None is all.
        seed: Of what is drawn.

    Attributes:
        notes: What a reader of the results should know, as texts: what the warnings say, and how
            values were scaled in images of more than 8 bits, once one was read.

    Raises:
        FileNotFoundError: If root or masks do not exist, or masks are missing.
        NotADirectoryError: If root or masks are no folders.
        TypeError: If a class name is no string.
        ValueError: If there are no folders, or no images in them; a folder's name is no UTF-8, or
            it matches no class name, or two the same, or is a number without a name; folders and
            those of class_names differ; two images have the same mask; or another argument is
            not one of these. When a sample is read: if an image or mask is damaged, a mask of
            another size, or zero everywhere.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("cat", "polar_bear"):
        ...         (Path(root) / name).mkdir()
        ...         Image.new("RGB", (8, 6)).save(Path(root) / name / "1.png")
        ...     data = ImageFolders(root)
        ...     sample = data[1]
        >>> data.class_names, sample.name, sample.image.size, sample.target
        (('cat', 'polar bear'), 'polar_bear/1.png', (8, 6), 1)
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        class_names: Sequence[str] | Mapping[str, str] | None = None,
        templates: str | Sequence[str] = "a photo of a {}.",
        masks: str | os.PathLike[str] | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        root = Path(root)
        folders = class_folders(root, _LOOSE)
        if class_names is None:
            class_names = names_of_folders(folders, root)
        check_names(class_names)
        if isinstance(class_names, Mapping):
            check_mapping(class_names, folders, root)
            names = class_names
            self.class_names = tuple(names.values())
        else:
            names = {folder: folder for folder in folders}
            self.class_names = tuple(class_names)
        self.templates: str | tuple[str, ...] = (
            templates if isinstance(templates, str) else tuple(templates)
        )
        targets = _targets(names, self.class_names, root)
        super().__init__(root, targets, masks=masks, count=count, seed=seed)
        self.name = f"{readable(root.resolve().name)} ({self._size})"


def _targets(names: Mapping[str, str], class_names: tuple[str, ...], root: Path) -> dict[str, int]:
    """The index of the class of each folder, given its name."""
    check_different("class_names", class_names)
    check_different("root", names.values())
    index = {spaced(name): number for number, name in enumerate(class_names)}
    unknown = [folder for folder, name in names.items() if spaced(name) not in index]
    if unknown:
        raise ValueError(
            f"class_names: {len(unknown)} of the {len(names)} folders in {root} match none of "
            f"the {len(class_names)} names: {some(unknown)}{_hint(unknown, class_names)}"
        )
    return {folder: index[spaced(name)] for folder, name in names.items()}


def _hint(unknown: list[str], class_names: tuple[str, ...]) -> str:
    """Names like those that are not known, whatever their case."""
    lower = {spaced(name).lower(): name for name in class_names}
    found = [difflib.get_close_matches(spaced(u).lower(), lower, n=1) for u in unknown]
    close = dict.fromkeys(lower[match] for matches in found for match in matches)
    return f"; close to these are {some(close)}" if close else ""
