"""Images to compare explanations on, with what is seen in them and, where known, its pixels."""

from __future__ import annotations

from ._counteranimal import AnimalClass, animal_classes, imagenet_synonyms
from .base import CaptionData, ImageData, MissingImageError, Sample
from .captioned import COCOKarpathy, Flickr30k
from .class_names import read_class_names
from .counteranimal import CounterAnimal
from .drawn import Scenes
from .folders import ImageFolders
from .imagenet import ImageNet
from .map_style import MapStyle
from .open import open_data
from .shards import WebDataset
from .sources import SOURCES, Source, SourceOption

__all__ = [
    "SOURCES",
    "AnimalClass",
    "COCOKarpathy",
    "CaptionData",
    "CounterAnimal",
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
    "animal_classes",
    "imagenet_synonyms",
    "open_data",
    "read_class_names",
]
