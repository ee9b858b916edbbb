"""How the photos of a build are read, in this process or others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..data import ImageData, Sample

_CPU = torch.device("cpu")


class LoadedPhotos(NamedTuple):
    """Photos that were read, by their numbers in a design; and what a reader should know."""

    samples: dict[int, Sample]
    notes: list[str]


@dataclass(frozen=True)
class PhotoReader:
    """Reads the photos of a block of images; knows nothing else, so that others can be handed it.

    Attributes:
        data: That the photos are of.
        places: Of each photo of the design, its place in the data.
        images_a_photo: See `Design`.
    """

    data: ImageData
    places: tuple[int, ...]
    images_a_photo: int

    def __call__(self, places: Sequence[int]) -> LoadedPhotos:
        """The photos of images, by these images' numbers."""
        numbers = dict.fromkeys(place // self.images_a_photo for place in places)
        samples = {number: self.data[self.places[number]] for number in numbers}
        return LoadedPhotos(samples, [sample.note for sample in samples.values()])


@dataclass(frozen=True)
class Reading:
    """What workers need to know to have photos read ahead; no model is in it.

    Attributes:
        reader: Of blocks.
        data: That the photos are of.
        device: Where images are made.
    """

    reader: PhotoReader
    data: ImageData
    device: torch.device = _CPU
