"""Fresh scenes as images of a data set, with exact masks."""

from __future__ import annotations

from typing import SupportsIndex

from cci_captum._checks import check_positive_int, check_seed
from cci_captum.tiny import CLASS_NAMES, TEMPLATES

from ..scenes import SceneGenerator
from .base import Sample, position

_OBJECTS = {"one": "one object", "two": "two objects"}


class Scenes:
    """The first scenes of a seed, each drawn when it is asked for.

    The target is the class of the first object, the mask its visible pixels. Each has a caption,
    which names an object, both, the background, or an object and the background; several scenes
    may have the same one.

    Args:
        count: How many.
        artwork: "train", "held-out" (never drawn in training) or "all".
        kind: "one" object, or "two" of different classes.
        seed: Of the scenes; those of different seeds have nothing in common.
        size: Height and width in pixels. The embedded model sees 96; drawn at twice that, the
            image can be perturbed before it is made smaller, like a photo.

    Raises:
        ValueError: If an argument is not one of these, or size is below 16.

    Example:
        >>> data = Scenes(500, artwork="held-out", kind="two", seed=11)
        >>> data.name, len(data)
        ('scenes (held-out artwork, two objects, seed 11)', 500)
        >>> sample = data[17]
        >>> sample.name, sample.image.size, sample.mask.shape
        ('scene 17', (192, 192), torch.Size([192, 192]))
        >>> sample.captions == data.captions[17], sorted(sample.facts)
        (True, ['background'])
    """

    def __init__(
        self,
        count: int,
        *,
        artwork: str = "train",
        kind: str = "one",
        seed: int = 0,
        size: int = 192,
    ) -> None:
        check_positive_int("count", count)
        check_positive_int("size", size)
        check_seed(seed)
        if kind not in _OBJECTS:
            raise ValueError(f"kind: expected one of {tuple(_OBJECTS)}, got {kind!r}")
        self.name = f"scenes ({artwork} artwork, {_OBJECTS[kind]}, seed {seed})"
        self.class_names = CLASS_NAMES
        self.templates: str | tuple[str, ...] = TEMPLATES
        self.has_masks = True
        self.listing = (f"{size} pixels",)
        self._count = count
        self._kind = kind
        self._generator = SceneGenerator(size, artwork, seed)
        numbers = range(count)
        self.targets = [self._generator.classes(number, kind=kind)[0] for number in numbers]
        self.captions = [(self._generator.caption(number, kind=kind),) for number in numbers]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: SupportsIndex) -> Sample:
        number = position(index, self._count)
        scene = self._generator.scene(number, kind=self._kind)
        return Sample(
            f"scene {number}",
            scene.picture,
            scene.classes[0],
            scene.masks[0],
            captions=self.captions[number],
            facts={"background": scene.background_name},
        )
