"""Images to compare explanations on, with what is seen in them and, where known, its pixels."""

from __future__ import annotations

from .base import ImageData, Sample
from .class_names import read_class_names
from .drawn import Scenes
from .folders import ImageFolders
from .imagenet import ImageNet

__all__ = ["ImageData", "ImageFolders", "ImageNet", "Sample", "Scenes", "read_class_names"]
