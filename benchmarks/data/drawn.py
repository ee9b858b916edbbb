"""Fresh scenes as images of a data set, with exact masks."""

from __future__ import annotations

from typing import SupportsIndex

from cci_captum._checks import check_positive_int, check_seed
from cci_captum.tiny import CLASS_NAMES, TEMPLATES

from ..scenes import ARTWORK, SceneGenerator
from .base import Sample, position

_OBJECTS = {"one": "one object", "two": "two objects", "each": "one and two objects in turn"}
_EACH = "each"


class Scenes:
    """The first scenes of a seed, each drawn when it is asked for.

    The target is the class of the first object, the mask its visible pixels. Each has a caption,
    which names an object, both, the background, or an object and the background; several scenes
    may have the same one.

    Args:
        count: How many.
        artwork: "train", "held-out" (never drawn in training), "all" of both together, or "each" of
            the two in turn.
        kind: "one" object, "two" of different classes, or "each" of these in turn. What comes in
            turn is a fact of each scene, "artwork" or "objects"; of 4 scenes of both in turn each
            is of another kind.
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
        if artwork not in (*ARTWORK, _EACH):
            raise ValueError(f"artwork: expected one of {(*ARTWORK, _EACH)}, got {artwork!r}")
        drawn_with = "each artwork in turn" if artwork == _EACH else f"{artwork} artwork"
        self.name = f"scenes ({drawn_with}, {_OBJECTS[kind]}, seed {seed})"
        self.class_names = CLASS_NAMES
        self.templates: str | tuple[str, ...] = TEMPLATES
        self.has_masks = True
        self.listing = (f"{size} pixels",)
        self._count = count
        self._kinds = ("one", "two") if kind == _EACH else (kind,)
        self._artworks = ("train", "held-out") if artwork == _EACH else (artwork,)
        self._generators = {name: SceneGenerator(size, name, seed) for name in self._artworks}
        self.targets, self.captions = [], []
        for number in range(count):
            artwork, kind = self._cell(number)
            generator = self._generators[artwork]
            self.targets.append(generator.classes(number, kind=kind)[0])
            self.captions.append((generator.caption(number, kind=kind),))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: SupportsIndex) -> Sample:
        number = position(index, self._count)
        artwork, kind = self._cell(number)
        scene = self._generators[artwork].scene(number, kind=kind)
        facts = {"background": scene.background_name}
        if len(self._kinds) > 1:
            facts["objects"] = kind
        if len(self._artworks) > 1:
            facts["artwork"] = artwork
        return Sample(
            f"scene {number}",
            scene.picture,
            scene.classes[0],
            scene.masks[0],
            captions=self.captions[number],
            facts=facts,
        )

    def _cell(self, number: int) -> tuple[str, str]:
        """Artwork and kind of a scene: kinds change from scene to scene, artworks less often."""
        among, kinds = divmod(number, len(self._kinds))
        return self._artworks[among % len(self._artworks)], self._kinds[kinds]
