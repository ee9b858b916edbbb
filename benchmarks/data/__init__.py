"""Images to compare explanations on, with what is seen in them and, where known, its pixels."""

from __future__ import annotations

from .base import CaptionData, ImageData, MissingImageError, Sample
from .captioned import COCOKarpathy, Flickr30k
from .class_names import read_class_names
from .drawn import Scenes
from .folders import ImageFolders
from .hard_imagenet import HardImageNet
from .imagenet import ImageNet
from .imagenet9 import ImageNet9
from .imagenet9_challenge import ImageNet9Challenge
from .map_style import MapStyle
from .object_variants import ObjectVariants
from .open import open_data
from .shards import WebDataset
from .sources import SOURCES, Source, SourceOption
from .waterbirds import Waterbirds

__all__ = [
    "SOURCES",
    "COCOKarpathy",
    "CaptionData",
    "Flickr30k",
    "HardImageNet",
    "ImageData",
    "ImageFolders",
    "ImageNet",
    "ImageNet9",
    "ImageNet9Challenge",
    "MapStyle",
    "MissingImageError",
    "ObjectVariants",
    "Sample",
    "Scenes",
    "Source",
    "SourceOption",
    "Waterbirds",
    "WebDataset",
    "open_data",
    "read_class_names",
]
