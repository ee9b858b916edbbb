"""The images that `--data` and the options beside it choose."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ._common import CommandError

if TYPE_CHECKING:
    from cci_captum.models.preprocessing import Preprocess

    from ..data import ImageData

SCENES = "scenes"
_IMAGENET = "imagenet:"
_DEFAULT_SCENES = 100
# The option that chooses what an argument of the data is.
_OPTIONS = {"root": "--data", "masks": "--masks", "count": "--n", "class_names": "--classes"}


def check_data(arguments: argparse.Namespace) -> None:
    """Raise CommandError unless the options that choose images go together."""
    for option in ("classes", "masks"):
        if getattr(arguments, option) and arguments.data == SCENES:
            raise CommandError(f"--{option}: scenes have their own; expected --data DIR")
    if arguments.classes and arguments.data.startswith(_IMAGENET):
        raise CommandError("--classes: ImageNet has its own; expected --data DIR")


def find_data(arguments: argparse.Namespace, preprocess: Preprocess) -> ImageData:
    """The images, found but not yet read.

    Args:
        arguments: With those of `--data`, `--n`, `--objects`, `--artwork`, `--classes`, `--masks`
            and `--seed`.
        preprocess: Of the model, which says how large scenes have to be.
    """
    from PIL import Image

    from ..data import ImageFolders, ImageNet, Scenes

    options = {"masks": arguments.masks, "count": arguments.n, "seed": arguments.seed}
    try:
        if arguments.data == SCENES:
            count = _DEFAULT_SCENES if arguments.n is None else arguments.n
            # Twice as large as the model sees them, so that they are to it what photos are.
            size = 2 * preprocess(Image.new("RGB", (8, 8))).shape[-1]
            return Scenes(
                count,
                artwork=arguments.artwork,
                kind=arguments.objects,
                seed=arguments.seed,
                size=size,
            )
        if arguments.data.startswith(_IMAGENET):
            return ImageNet(arguments.data.removeprefix(_IMAGENET), **options)
        class_names = _class_names(arguments.classes) if arguments.classes else None
        return ImageFolders(arguments.data, class_names=class_names, **options)
    except (OSError, ValueError) as error:
        argument, _, rest = str(error).partition(": ")
        if argument in _OPTIONS:
            raise CommandError(f"{_OPTIONS[argument]}: {rest}") from error
        raise CommandError(f"--data: {error}") from error


def _class_names(path: Path) -> list[str] | dict[str, str]:
    from ..data import read_class_names

    try:
        return read_class_names(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"--classes: {error}") from error
