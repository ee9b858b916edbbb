"""Images to compare explanations on, with what is seen in them and, where known, its pixels."""

from __future__ import annotations

from .base import CaptionData, ImageData, MissingImageError, Sample
from .captioned import COCOKarpathy, Flickr30k
from .class_names import read_class_names
from .covar import COVAR
from .drawn import Scenes
from .folders import ImageFolders
from .imagenet import ImageNet
from .map_style import MapStyle
from .open import open_data
from .shards import WebDataset
from .sources import SOURCES, Source, SourceOption

__all__ = [
    "COVAR",
    "SOURCES",
    "COCOKarpathy",
    "CaptionData",
    "Flickr30k",
    "ImageData",
    "ImageFolders",
    "ImageNet",
    "MapStyle",
    "MissingImageError",
    "Sample",
    "Scenes",
    "Source",
    "SourceOption",
    "WebDataset",
    "open_data",
    "read_class_names",
]
