"""ImageNet's photos, from where the user keeps them."""

from __future__ import annotations

import os
from pathlib import Path

from open_clip import IMAGENET_CLASSNAMES
from timm.data import ImageNetInfo

from ._tree import FolderData, class_folders, some

_SPLITS = ("val", "train")
_LOOSE = (
    "move each into a folder named by the WordNet id of its class, like n01440764 (those of the "
    "validation images are in ILSVRC2012_devkit_t12, not in their names)"
)


class ImageNet(FolderData):
    """Photos of the 1000 classes of ImageNet (ILSVRC 2012), or of some of these classes.

    Images lie in folders named by WordNet id, like n01440764; the target is the place of the
    id among all 1000, sorted. Class names and templates are OpenAI's (Radford et al. 2021, arXiv
    2103.00020), in the same order; two names occur twice, as in the original.

    Args:
        root: The folder of the class folders, like ".../imagenet/val".
        masks: See `ImageFolders`.
        count: See `ImageFolders`.
        seed: See `ImageFolders`.

    Raises:
        FileNotFoundError: See `ImageFolders`.
        NotADirectoryError: See `ImageFolders`.
        ValueError: If there are no folders, no images in them, or a folder that is no such id; or
            another argument is not one of these.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     (Path(root) / "n02123045").mkdir()
        ...     Image.new("RGB", (8, 6)).save(Path(root) / "n02123045" / "1.JPEG")
        ...     data = ImageNet(root)
        ...     sample = data[0]
        >>> sample.target, data.class_names[sample.target]
        (281, 'tabby cat')
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        masks: str | os.PathLike[str] | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        root = Path(root)
        targets = _targets(root)
        super().__init__(root, targets, masks=masks, count=count, seed=seed)
        self.class_names: tuple[str, ...] = tuple(IMAGENET_CLASSNAMES)
        self.templates: str | tuple[str, ...] = "openai-imagenet"
        self.name = f"ImageNet ({self._size})"


def _targets(root: Path) -> dict[str, int]:
    """The index of each folder's class."""
    folders = class_folders(root, _LOOSE)
    ids = {name: index for index, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    unknown = [folder for folder in folders if folder not in ids]
    splits = [split for split in _SPLITS if split in unknown]
    if splits:
        raise ValueError(
            f"root: expected folders named by WordNet id like n01440764, got {some(splits)} in "
            f"{root}; use {root / splits[0]}"
        )
    if unknown:
        raise ValueError(
            f"root: expected folders named by WordNet id of the 1000 classes, like n01440764, but "
            f"{len(unknown)} of the {len(folders)} in {root} are not: {some(unknown)}"
        )
    return {folder: ids[folder] for folder in folders}
