"""Images to compare explanations on, with what is seen in them and, where known, its pixels."""

from __future__ import annotations

from ._counteranimal import AnimalClass, animal_classes, imagenet_synonyms
from .base import CaptionData, ImageData, MissingImageError, Sample
from .captioned import COCOKarpathy, Flickr30k
from .class_names import read_class_names
from .counteranimal import CounterAnimal
from .covar import COVAR
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
    "COVAR",
    "SOURCES",
    "AnimalClass",
    "COCOKarpathy",
    "CaptionData",
    "CounterAnimal",
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
    "animal_classes",
    "imagenet_synonyms",
    "open_data",
    "read_class_names",
]
