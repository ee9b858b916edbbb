"""What a comparison asks of a task: items in blocks, what methods explain of them, who judges."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from cci_captum.attribution.forward import run_forward
from cci_captum.memory import within_memory
from cci_captum.models._encoders import device_of
from cci_captum.models.preprocessing import Preprocess
from cci_captum.vision_towers import find_vision_tower

from ..data import ImageData
from ..faithfulness import Curve
from .kinds import Kind
from .loaded import Loaded, Reader


class Batch(NamedTuple):
    """B items, as the model sees them."""

    indices: list[int]  # places in the task
    names: list[str]
    sources: list[str]  # names of the photos that they were made from
    photos: list[Image.Image]  # cut to what the model sees
    inputs: Tensor  # (B, 3, H, W)
    masks: Tensor | None  # (B, H, W) bool
    targets: list[int]  # explained
    predicted: list[int]  # -1 where nothing alone scores highest
    facts: list[Mapping[str, str | int | float]]  # what the data know of each
    notes: list[str]  # what a reader should know of how each was read

    def only(self, rows: Sequence[int]) -> Batch:
        """Some of the items."""
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


class Question(NamedTuple):
    """What a method explains.

    Attributes:
        forward_func: Of images and further arguments.
        arguments: From B targets of the task to `target` and `additional_forward_args`, as Captum's
            methods take them.
    """

    forward_func: nn.Module
    arguments: Callable[[Sequence[int]], tuple[Any, Any]]


class Task(ABC):
    """Items to explain by a model, and what tells whether an explanation was followed.

    Args:
        data: The images.
        preprocess: From a PIL image to an input (3, H, W) of the model.
        forward_func: What deletion and insertion run: from inputs to outputs with a column for each
            target.

    Attributes:
        kind: What is measured.
        has_masks: Whether batches have masks of what is explained.
        device: Where inputs are.
        reader: Reads items without the model; other processes can be handed it.
    """

    kind: ClassVar[Kind]
    has_masks: bool = False
    reader: Reader

    def __init__(self, data: ImageData, preprocess: Preprocess, forward_func: nn.Module) -> None:
        if not isinstance(forward_func, nn.Module):
            raise TypeError(f"forward_func: expected a module, got {type(forward_func).__name__}")
        if not len(data):
            raise ValueError(f"data: expected at least one image, {data.name} has none")
        self.data, self.preprocess, self.forward_func = data, preprocess, forward_func
        self.device = device_of(self._encoder())

    def _encoder(self) -> nn.Module:
        """What images go into."""
        return find_vision_tower(self.forward_func).module

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @abstractmethod
    def score(self, outputs: Tensor, targets: Any) -> Curve:
        """What outputs of forward_func say of targets, for `DeletionInsertion`."""

    def read(self, places: Sequence[int]) -> Loaded:
        """What is read of the items at these places, on the CPU; see `Reader`.

        Raises:
            OSError: If an image could not be read now, which says nothing about it.
            ValueError: If preprocess cuts what it has cut already.
        """
        return self.reader(places)

    @abstractmethod
    def batch(self, loaded: Loaded) -> tuple[Batch | None, dict[int, str]]:
        """Of items that were read those that can be explained, and why the others cannot.

        Inputs and masks go to the device, while the CPU goes on where their memory is pinned.
        """

    def block(self, places: Sequence[int]) -> tuple[Batch | None, dict[int, str]]:
        """`read`, then `batch`."""
        return self.batch(self.read(places))

    def photo(self, place: int) -> Image.Image:
        """What the model sees of an item's photo."""
        return self.reader.photo(place)

    @abstractmethod
    def label(self, target: int) -> str:
        """What a target is called."""

    @abstractmethod
    def question(self, make: Any) -> Question:
        """What a method made by `make`, a factory or a spec, explains."""

    @abstractmethod
    def other_targets(self, batch: Batch, seed: int) -> list[int]:
        """A wrong target for each item, each as likely; by the seed and the image alone.

        Raises:
            ValueError: If there is no other one.
        """

    def configuration(self) -> dict[str, Any]:
        """All that can change a number beside the model: name -> value that JSON can hold.

        "listing" is a list of texts that say which items these are.
        """
        listing = [*map(str, getattr(self.data, "listing", ())), str(list(self.data.targets))]
        return {
            "task": self.kind.name,
            "data": self.data.name,
            "images": len(self.data),
            "listing": listing,
            "masks": self.has_masks,
        }

    def settings(self) -> dict[str, Any]:
        """What a report says of the task: name -> value that JSON can hold."""
        return {"task": self.kind.name, "data": self.data.name, "masks": self.has_masks}

    def _to_device(self, tensor: Tensor) -> Tensor:
        """A tensor of `Loaded` where the model takes it."""
        return tensor.to(self.device, non_blocking=tensor.is_pinned())

    @torch.no_grad()
    def outputs(self, inputs: Tensor) -> Tensor:
        """Of forward_func for (B, 3, H, W) inputs; in parts where memory has no room for all."""

        def in_parts(size: int) -> Tensor:
            parts = inputs.split(size)
            return torch.cat([run_forward(self.forward_func, part, ()) for part in parts])

        return within_memory(in_parts, len(inputs))[0]
