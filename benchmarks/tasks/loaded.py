"""What is read of items before any model sees them, in this process or another."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from cci_captum.images import could_not_be_read_now
from cci_captum.models.preprocessing import Preprocess, resize_mask, seen_box

from ..data import ImageData, Sample

PAUSES = (0.5, 2.0)
"""Seconds to wait before an image that could not be read is asked for again."""


class Loaded(NamedTuple):
    """What was read of some items: N images, each of one item or several; on the CPU.

    Attributes:
        places: Of the items that could be read, in the order in which they were asked for.
        rows: Of each of these, which of the N images it is about.
        errors: Place of each of the others -> why not: "what is wrong: which image".
        names: N, as of `Sample`; so are sources (None is never among them), targets, facts, notes.
        photos: N, cut to what the model sees.
        inputs: (N, 3, H, W), as the model takes them; None where N is 0.
        masks: (N, H, W) bool; None where N is 0, or no masks were asked for.
    """

    places: list[int]
    rows: list[int]
    errors: dict[int, str]
    names: list[str]
    sources: list[str]
    photos: list[Image.Image]
    inputs: Tensor | None
    masks: Tensor | None
    targets: list[int]
    facts: list[Mapping[str, str | int | float]]
    notes: list[str]

    def pin_memory(self) -> Loaded:
        """The same, with tensors that a GPU copies while the CPU goes on; all else is as it is.

        A `torch.utils.data.DataLoader` calls this in place of taking the batch apart.
        """
        inputs, masks = (t if t is None else t.pin_memory() for t in (self.inputs, self.masks))
        return self._replace(inputs=inputs, masks=masks)


@dataclass(frozen=True)
class Reader:
    """Reads items; knows no model, so that another process can be handed it.

    Args:
        data: The images.
        preprocess: From a PIL image to an input (3, H, W) of the model.
        masks: Whether masks are read.
        images: Of every item, the place of its image in data; None: items are the images.
        left_out: Place of an image that is not read -> why.

    Example:
        >>> import cci_captum
        >>> from cci_captum.benchmarks.data import Scenes
        >>> reader = Reader(Scenes(3), cci_captum.load_clip("tiny").preprocess, images=[0, 0, 2])
        >>> loaded = reader([0, 1, 2])
        >>> loaded.names, loaded.rows, loaded.inputs.shape
        (['scene 0', 'scene 2'], [0, 0, 1], torch.Size([2, 3, 96, 96]))
    """

    data: ImageData
    preprocess: Preprocess
    masks: bool = False
    images: Sequence[int] | None = None
    left_out: Mapping[int, str] = field(default_factory=dict)

    def __call__(self, places: Sequence[int]) -> Loaded:
        """What can be read of the items at these places; each image is read once.

        Raises:
            OSError: If an image could not be read now, though it was asked for several times, and
                that says nothing about it, as when a network file system is away.
            ValueError: If preprocess cuts what it has cut already.
        """
        asked = {place: self._image(place) for place in places}
        reasons = dict(self.left_out)
        samples: dict[int, Sample] = {}
        inputs: list[Tensor] = []
        for image in dict.fromkeys(asked.values()):
            if image not in reasons:
                found = self._sample(image)
                if isinstance(found, str):
                    reasons[image] = found
                else:
                    samples[image], shown = self._prepared(found)
                    inputs.append(shown)
        row_of = {image: row for row, image in enumerate(samples)}
        read = [place for place, image in asked.items() if image in row_of]
        masks = [sample.mask for sample in samples.values() if sample.mask is not None]
        return Loaded(
            places=read,
            rows=[row_of[asked[place]] for place in read],
            errors={p: reasons[image] for p, image in asked.items() if image not in row_of},
            names=[sample.name for sample in samples.values()],
            sources=[sample.source or sample.name for sample in samples.values()],
            photos=[sample.image for sample in samples.values()],
            inputs=torch.stack(inputs) if inputs else None,
            masks=torch.stack(masks) if masks else None,
            targets=[sample.target for sample in samples.values()],
            facts=[sample.facts for sample in samples.values()],
            notes=[sample.note for sample in samples.values()],
        )

    def photo(self, place: int) -> Image.Image:
        """What the model sees of an item's photo."""
        return self.seen(self.data[self._image(place)].image)

    def seen(self, photo: Image.Image) -> Image.Image:
        """The part of a photo that reaches the model.

        Raises:
            ValueError: If preprocess cuts what it has cut already.
        """
        part = photo.crop(seen_box(self.preprocess, photo.size))
        left, top, right, bottom = seen_box(self.preprocess, part.size)
        if part.width - (right - left) > 1 or part.height - (bottom - top) > 1:
            raise ValueError(
                "preprocess: expected a central crop as large as the shorter side is resized to, "
                f"got one that leaves {right - left} x {bottom - top} pixels of a photo that it "
                f"has cut to {part.width} x {part.height} already"
            )
        return part

    def _image(self, place: int) -> int:
        return place if self.images is None else self.images[place]

    def _prepared(self, sample: Sample) -> tuple[Sample, Tensor]:
        """A sample as the model sees it, with its mask in the size of the input, and that input.

        At once, so that of large photos no more is kept than the model sees.
        """
        photo = self.seen(sample.image)
        inputs, mask = self.preprocess(photo), None
        if self.masks and sample.mask is not None:
            box = seen_box(self.preprocess, sample.image.size)
            mask = resize_mask(sample.mask, box, (inputs.shape[1], inputs.shape[2]))
        return replace(sample, image=photo, mask=mask), inputs

    def _sample(self, image: int) -> Sample | str:
        """An image, or what is wrong with it: never what is wrong with a disk or a network."""
        for pause in PAUSES:
            with suppress(OSError):
                return self._asked(image)
            time.sleep(pause)
        try:
            return self._asked(image)
        except OSError as error:
            raise OSError(
                f"data: image {image} of {self.data.name} could not be read now, in "
                f"{1 + len(PAUSES)} tries ({error}); its block is measured when the run goes on, "
                "once the file can be read"
            ) from error

    def _asked(self, image: int) -> Sample | str:
        try:
            return self.data[image]
        except (OSError, ValueError) as error:
            if could_not_be_read_now(error):
                raise
            return str(error)
