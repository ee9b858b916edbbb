"""Where the object is in photos: masks that somebody made, or what models find."""

from .base import STATUSES, Segmentation, Segmenter
from .grounded_sam import GroundedSAM
from .imagenet_s import ImageNetS
from .mask_folder import MaskFolder

__all__ = [
    "STATUSES",
    "GroundedSAM",
    "ImageNetS",
    "MaskFolder",
    "Segmentation",
    "Segmenter",
]
