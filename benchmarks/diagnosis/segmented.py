"""Images of a data set with the masks that a segmenter finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, SupportsIndex

import torch

from cci_captum.diagnosis.segmentation import Segmenter

from ..data import ImageData, Sample
from .run import SEGMENTATION


class Segmented:
    """The images of other data, each with the object that a segmenter finds of its true class.

    An image without an object has an empty mask, and says why as its fact "segmentation": a
    diagnosis does not judge it.

    Args:
        data: The images, with classes.
        segmenter: What is asked, an image at a time, when that is read.
        name: Of the segmenter, for reports and to tell runs apart.
        in_process: Whether it holds a model, so that no other process is handed it to read ahead.
        listing: Texts that say which masks these are; see `ImageData`.

    Example:
        >>> import torch
        >>> from cci_captum.benchmarks.data import Scenes
        >>> from cci_captum.diagnosis.segmentation import Segmentation
        >>> def everything(images, class_names, names):
        ...     return [Segmentation(torch.ones(im.height, im.width).bool()) for im in images]
        >>> data = Segmented(Scenes(2), everything, "everything")
        >>> data.name, bool(data[0].mask.all())
        ('scenes (train artwork, one object, seed 0), objects by everything', True)
    """

    has_masks = True

    def __init__(
        self,
        data: ImageData,
        segmenter: Segmenter,
        name: str,
        *,
        in_process: bool = True,
        listing: Sequence[str] = (),
    ) -> None:
        self._data, self._segmenter, self.in_process = data, segmenter, in_process
        self.name = f"{data.name}, objects by {name}"
        self.class_names, self.templates = data.class_names, data.templates
        self.listing = (*getattr(data, "listing", ()), name, *listing)
        self.notes = tuple(getattr(data, "notes", ()))

    @property
    def targets(self) -> Sequence[int]:
        """See `ImageData`."""
        return self._data.targets

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        sample = self._data[index]
        name = self.class_names[sample.target]
        (found,) = self._segmenter([sample.image], [name], [sample.name])
        facts: dict[str, Any] = {**sample.facts, SEGMENTATION: found.status}
        mask = found.mask
        if mask is None:
            mask = torch.zeros(sample.image.height, sample.image.width, dtype=torch.bool)
        return replace(sample, mask=mask, facts=facts)
