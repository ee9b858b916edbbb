"""Images of a data set in blocks, ready for the model, with their masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from cci_captum.attribution.forward import run_forward
from cci_captum.models._encoders import device_of
from cci_captum.models.preprocessing import Preprocess, resize_mask, seen_box
from cci_captum.vision_towers import find_vision_tower

from ..data import ImageData, Sample
from ..ranking import predicted

Explained = Literal["true", "predicted"]


class Batch(NamedTuple):
    """B images, as the model sees them."""

    indices: list[int]
    names: list[str]
    sources: list[str]  # names of the photos that they were made from
    photos: list[Image.Image]  # cut to what the model sees
    inputs: Tensor  # (B, 3, H, W)
    masks: Tensor | None  # (B, H, W) bool
    targets: list[int]  # explained
    predicted: list[int]  # -1 where no class alone scores highest

    def only(self, rows: Sequence[int]) -> Batch:
        """Some of the images."""
        chosen = list(rows)
        if chosen == list(range(len(self.names))):
            return self
        lists: dict[str, Any] = {
            name: [values[row] for row in chosen]
            for name, values in self._asdict().items()
            if isinstance(values, list)
        }
        masks = None if self.masks is None else self.masks[chosen]
        return self._replace(inputs=self.inputs[chosen], masks=masks, **lists)


class Loader:
    """Blocks of a data set, ready for the model.

    Args:
        data: The images.
        preprocess: From a PIL image to an input (3, H, W) of the model.
        forward_func: From inputs to (B, C) scores of the data's classes.
        explained: The "true" class, or the "predicted" one, which masks know nothing of. An image
            without one (`cci_captum.benchmarks.ranking.predicted`) is left out, with an error.

    Raises:
        ValueError: If a target is no class.

    Attributes:
        has_masks: Whether batches have masks of what is explained.
    """

    def __init__(
        self, data: ImageData, preprocess: Preprocess, forward_func: nn.Module, explained: Explained
    ) -> None:
        self.data, self.preprocess = data, preprocess
        self.forward_func, self.explained = forward_func, explained
        last = len(data.class_names) - 1
        wrong = [place for place, target in enumerate(data.targets) if not 0 <= target <= last]
        if wrong:
            raise ValueError(
                f"data: expected targets from 0 to {last}, got {data.targets[wrong[0]]} at place "
                f"{wrong[0]} of {data.name}"
            )
        self.has_masks = data.has_masks and explained == "true"
        self.device = device_of(find_vision_tower(forward_func).module)

    def block(self, places: Sequence[int]) -> tuple[Batch | None, dict[int, str]]:
        """The images at these places that can be explained, and why the others cannot.

        Raises:
            ValueError: If the scores are not of the data's classes, or preprocess cuts what it
                has cut already.
        """
        samples: list[tuple[int, Sample]] = []
        errors: dict[int, str] = {}
        for place in places:
            try:
                samples.append((place, self.data[place]))
            except (OSError, ValueError) as error:
                errors[place] = str(error)
        if not samples:
            return None, errors
        batch = self._batch(samples)
        if self.explained == "predicted":
            blank = [row for row, label in enumerate(batch.predicted) if label < 0]
            reason = "no class alone scores highest: nothing is predicted"
            errors |= {batch.indices[row]: reason for row in blank}
            batch = batch.only([row for row in range(len(batch.names)) if row not in blank])
        return batch if batch.names else None, errors

    def _batch(self, samples: Sequence[tuple[int, Sample]]) -> Batch:
        """These samples with their places in the data."""
        photos = [self._seen(sample) for _, sample in samples]
        inputs = torch.stack([self.preprocess(photo) for photo in photos]).to(self.device)
        masks = None
        if self.has_masks:
            size = (inputs.shape[2], inputs.shape[3])
            seen = [
                resize_mask(sample.mask, seen_box(self.preprocess, sample.image.size), size)
                for _, sample in samples
                if sample.mask is not None
            ]
            masks = torch.stack(seen).to(self.device)
        guesses = self._predicted(inputs)
        targets = [sample.target for _, sample in samples]
        return Batch(
            indices=[index for index, _ in samples],
            names=[sample.name for _, sample in samples],
            sources=[sample.source or sample.name for _, sample in samples],
            photos=photos,
            inputs=inputs,
            masks=masks,
            targets=targets if self.explained == "true" else guesses,
            predicted=guesses,
        )

    def _seen(self, sample: Sample) -> Image.Image:
        """The part of a photo that reaches the model."""
        photo = sample.image.crop(seen_box(self.preprocess, sample.image.size))
        self._check_seen_box(photo)
        return photo

    @torch.no_grad()
    def _predicted(self, inputs: Tensor) -> list[int]:
        outputs = run_forward(self.forward_func, inputs, ())
        classes = len(self.data.class_names)
        if outputs.shape != (len(inputs), classes):
            raise ValueError(
                f"forward_func: expected scores of the {classes} classes of {self.data.name}, "
                f"({len(inputs)}, {classes}), got shape {tuple(outputs.shape)}"
            )
        return predicted(outputs).tolist()

    def _check_seen_box(self, photo: Image.Image) -> None:
        """Raise ValueError unless preprocess sees all of what it left of a photo."""
        left, top, right, bottom = seen_box(self.preprocess, photo.size)
        if photo.width - (right - left) > 1 or photo.height - (bottom - top) > 1:
            raise ValueError(
                "preprocess: expected a central crop as large as the shorter side is resized to, "
                f"got one that leaves {right - left} x {bottom - top} pixels of a photo that it "
                f"has cut to {photo.width} x {photo.height} already"
            )
