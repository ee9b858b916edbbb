"""Sources of images by scheme: what opens each, and what may be said of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from cci_captum.baselines.options import Choice, Flag, Integer, Kind, Number
from cci_captum.models.preprocessing import Preprocess

from ..scenes import ARTWORK
from .base import ImageData
from .captioned import SPLITS, COCOKarpathy, Flickr30k
from .class_names import read_class_names
from .counteranimal import PROMPT, CounterAnimal
from .covar import COVAR
from .drawn import Scenes
from .folders import ImageFolders
from .hard_imagenet import SPLITS as HARD_SPLITS
from .hard_imagenet import HardImageNet
from .imagenet import ImageNet
from .imagenet9 import VARIANTS, ImageNet9
from .imagenet9_challenge import ImageNet9Challenge
from .object_variants import MADE
from .shards import WebDataset
from .waterbirds import SPLITS as BIRD_SPLITS
from .waterbirds import Waterbirds


@dataclass(frozen=True)
class _Path(Kind):
    @property
    def _expected(self) -> str:
        return "a path"

    def _fits(self, value: Any) -> bool:
        return isinstance(value, str | os.PathLike) and bool(os.fspath(value))


@dataclass(frozen=True)
class _Folder(Kind):
    @property
    def _expected(self) -> str:
        return "the name of a folder"

    def _fits(self, value: Any) -> bool:
        return isinstance(value, str) and bool(value)


@dataclass(frozen=True)
class _Names(Kind):
    """What `ImageFolders` takes as class_names, or a file that holds it."""

    @property
    def _expected(self) -> str:
        return "names, names by folder, or a file of either"

    def _fits(self, value: Any) -> bool:
        return isinstance(value, str | os.PathLike | list | tuple | Mapping)

    def _normal(self, value: Any) -> Any:
        return read_class_names(value) if isinstance(value, str | os.PathLike) else value


@dataclass(frozen=True)
class _Some(Kind):
    """Some of several names, as a list, or as text with + between them."""

    names: tuple[str, ...] = ()

    @property
    def _expected(self) -> str:
        return f"some of {', '.join(self.names)}, with + between them"

    def _fits(self, value: Any) -> bool:
        chosen = value.split("+") if isinstance(value, str) else value
        return isinstance(chosen, list | tuple) and bool(chosen) and set(chosen) <= set(self.names)

    def _normal(self, value: Any) -> Any:
        return tuple(value.split("+") if isinstance(value, str) else value)


@dataclass(frozen=True)
class _Listed(Kind):
    @property
    def _expected(self) -> str:
        return "names with commas between them"

    def _fits(self, value: Any) -> bool:
        return bool(value) and isinstance(value, str | list | tuple)


@dataclass(frozen=True)
class SourceOption:
    """An option of a source of images.

    Attributes:
        name: As `open_data` and the command line call it.
        argument: Of the class that it sets.
        kind: What values it may have.
        help: What it is, in a few words.
    """

    name: str
    argument: str
    kind: Kind
    help: str


@dataclass(frozen=True)
class Source:
    """A source of images, as `open_data` knows it.

    Attributes:
        open: From the model's preprocess or None, and the arguments of options that were given
            and, of a source with a path, `root`, to the images.
        options: What may be said of it.
        help: What it is, in a few words.
        path: Whether its text is a scheme and a path. If not, options follow the scheme.
        own: How an error says why it takes no class names or masks, as in "scenes have their own".
        has_masks: Whether it has masks without being given any.
    """

    open: Callable[..., ImageData]
    options: tuple[SourceOption, ...]
    help: str
    path: bool = True
    own: str = ""
    has_masks: bool = False


def _scenes(preprocess: Preprocess | None, **arguments: Any) -> ImageData:
    if "size" not in arguments and preprocess is not None:
        # Twice as large as the model sees them, so that they are to it what photos are.
        arguments["size"] = 2 * preprocess(Image.new("RGB", (8, 8))).shape[-1]
    return Scenes(arguments.pop("count", 100), **arguments)


def _of_files(source: Callable[..., ImageData]) -> Callable[..., ImageData]:
    """Photos are as large as they are, whatever the model."""

    def opened(preprocess: Preprocess | None, **arguments: Any) -> ImageData:
        return source(**arguments)

    return opened


_SEED = SourceOption("seed", "seed", Integer(least=0), "of what is drawn")
_DRAWN = (SourceOption("n", "count", Integer(), "images, drawn at random (all)"), _SEED)
_MASKS = SourceOption("masks", "masks", _Path(), "folder of the images' masks (none)")
_CLASSES = SourceOption("classes", "class_names", _Names(), "the classes (the folders' names)")
_OTHERS = SourceOption("others", "others", Flag(), "a tenth class, of all else (False)")
_CAPTIONED = (
    SourceOption("split", "split", Choice(names=SPLITS), "of Karpathy and Fei-Fei (test)"),
    SourceOption("images", "images", _Path(), "folder of the images (beside the captions)"),
    SourceOption("captions", "captions", Integer(), "of each image at most, the first (all)"),
    *_DRAWN,
)

SOURCES: dict[str, Source] = {
    "scenes": Source(
        _scenes,
        (
            SourceOption("n", "count", Integer(), "scenes (100)"),
            SourceOption(
                "objects", "kind", Choice(names=("one", "two", "each")), "in a scene (one)"
            ),
            SourceOption(
                "artwork", "artwork", Choice(names=(*ARTWORK, "each")), "drawn with (train)"
            ),
            SourceOption("seed", "seed", Integer(least=0), "of the scenes (0)"),
            SourceOption(
                "size", "size", Integer(least=16), "pixels a side (twice what the model sees; 192)"
            ),
        ),
        "drawn scenes with exact masks",
        path=False,
        own="scenes have their own",
        has_masks=True,
    ),
    "folder": Source(
        _of_files(ImageFolders), (_CLASSES, _MASKS, *_DRAWN), "a folder of images a class"
    ),
    "imagenet": Source(
        _of_files(ImageNet),
        (_MASKS, *_DRAWN),
        "ImageNet, folders named n01440764, ...",
        own="ImageNet has its own",
    ),
    "imagenet9": Source(
        _of_files(ImageNet9),
        (
            SourceOption("variants", "variants", _Some(names=VARIANTS), "which (all there are)"),
            _OTHERS,
            *_DRAWN,
        ),
        "ImageNet-9, photos of nine classes with other backgrounds",
        own="ImageNet-9 has its own",
        has_masks=True,
    ),
    "imagenet9-challenge": Source(
        _of_files(ImageNet9Challenge),
        (
            SourceOption("backgrounds", "backgrounds", Integer(), "of each object (all)"),
            _OTHERS,
            *_DRAWN,
        ),
        "ImageNet-9's objects, each on many backgrounds",
        own="ImageNet-9 has its own",
        has_masks=True,
    ),
    "waterbirds": Source(
        _of_files(Waterbirds),
        (
            SourceOption("split", "split", Choice(names=BIRD_SPLITS), "which part (test)"),
            SourceOption("masks", "segmentations", _Path(), "CUB's segmentations (none)"),
            *_DRAWN,
        ),
        "Waterbirds, with metadata.csv",
        own="Waterbirds has its own",
    ),
    "hardimagenet": Source(
        _of_files(HardImageNet),
        (
            SourceOption("masks", "masks", _Path(), "Hard ImageNet's folder, which is needed"),
            SourceOption("split", "split", Choice(names=HARD_SPLITS), "which part (val)"),
            SourceOption("variants", "variants", _Some(names=MADE), "what is made (all)"),
            SourceOption("size", "size", Integer(least=16), "pixels a side (224)"),
            SourceOption("trials", "trials", Integer(), "how often noise is drawn (3)"),
            SourceOption("sigma", "sigma", Number(above=0), "of the noise, or its length (0.25)"),
            SourceOption("l2", "l2", Flag(), "whether sigma is its length (False)"),
            SourceOption("threshold", "threshold", Integer(least=0), "of masks' values (0)"),
            *_DRAWN,
        ),
        "Hard ImageNet, in ImageNet's folder: without objects, with noise",
        own="Hard ImageNet has its own",
    ),
    "counteranimal": Source(
        _of_files(CounterAnimal),
        (
            SourceOption(
                "group", "group", Choice(names=("common", "counter", "both")), "of photos (both)"
            ),
            SourceOption(
                "templates",
                "templates",
                Choice(names=(PROMPT, "openai-imagenet")),
                "the paper's prompt, or OpenAI's 80",
            ),
            SourceOption("partial", "partial", Flag(), "go on where classes are missing (no)"),
            _MASKS,
            *_DRAWN,
        ),
        "CounterAnimal's folder LAION-final, or the one that it lies in",
        own="CounterAnimal has ImageNet's",
    ),
    "coco": Source(
        _of_files(COCOKarpathy),
        _CAPTIONED,
        "captions and photos of COCO, with dataset_coco.json",
        own="coco has captions",
    ),
    "flickr30k": Source(
        _of_files(Flickr30k),
        _CAPTIONED,
        "captions and photos of Flickr30k, with dataset_flickr30k.json or CLIP_benchmark's files",
        own="flickr30k has captions",
    ),
    "webdataset": Source(
        _of_files(WebDataset),
        (
            SourceOption("split", "split", _Folder(), "folder of the shards in DIR (test)"),
            _CLASSES,
            SourceOption("captions", "captions", Integer(), "of each image at most (all)"),
            *_DRAWN,
        ),
        "tar files as WebDataset and CLIP_benchmark have them, with classes or captions",
        own="webdataset has none",
    ),
    "covar": Source(
        _of_files(COVAR),
        (
            SourceOption("factor", "factor", _Listed(), "such as original,scale (all)"),
            SourceOption("background", "background", _Listed(), "such as snow,sand (all)"),
            SourceOption("controls", "controls", Flag(), "whether to take controls (yes)"),
            SourceOption("labels", "labels", Choice(names=("all", "own")), "to tell apart (all)"),
            SourceOption("photos", "photos", Integer(), "of each class, with all images (all)"),
            *_DRAWN,
        ),
        "controlled variants of photos, as `cci-captum covar build` makes them",
        own="covar has its own",
        has_masks=True,
    ),
}
"""Scheme -> source: all that `open_data`, the command line and docs/data.md know of sources."""
