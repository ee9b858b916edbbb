"""A drawn scene with the truth about it."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from cci_captum.tiny import BACKGROUND_NAMES, CLASS_NAMES


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture with the truth about it.

    Attributes:
        image: float32 (3, H, W) in [0, 1].
        masks: bool (n_objects, H, W), the visible pixels of each object.
        classes: Index into `CLASS_NAMES` of each object.
        families: Artwork family of each object.
        background: Index into `BACKGROUND_NAMES`.
        kind: One of `KINDS`.
        caption: Names an object, both, the background, or an object and the background.
    """

    image: Tensor
    masks: Tensor
    classes: tuple[int, ...]
    families: tuple[str, ...]
    background: int
    kind: str
    caption: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class name of each object."""
        return tuple(CLASS_NAMES[i] for i in self.classes)

    @property
    def background_name(self) -> str:
        """Name of the background."""
        return BACKGROUND_NAMES[self.background]

    @property
    def picture(self) -> Image.Image:
        """The image in 8 bits, as a file would hold it."""
        pixels = (self.image * 255).round().byte().permute(1, 2, 0)
        return Image.fromarray(pixels.contiguous().numpy())

    @property
    def foreground(self) -> Tensor:
        """Bool (H, W): the pixels of any object."""
        return self.masks.any(dim=0)
