"""What a build will hold, before an image is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .design import PHOTO, Design
from .output import Encoding

_BYTES = {"png": 2.0, "jpg": 0.7}
"""Of colour photos of 224 pixels a side, a pixel; drawn scenes have about half of these."""

_OF_MASK = 600  # bytes


@dataclass(frozen=True)
class DryRun:
    """Counts of images, and their bytes.

    Attributes:
        images: All of them.
        photos: As they are, among these.
        by_class: Images of each class.
        by_factor: Of each factor, without controls.
        by_level: Of each factor with its level, without controls.
        by_background: On each background, without controls.
        by_control: Of each control; "" is no control.
        bytes: About what images and masks take on the disk.
    """

    images: int
    photos: int
    by_class: Mapping[str, int]
    by_factor: Mapping[str, int]
    by_level: Mapping[str, int]
    by_background: Mapping[str, int]
    by_control: Mapping[str, int]
    bytes: int

    def text(self) -> str:
        """For the terminal."""
        classes = sorted(set(self.by_class.values()))
        each = f"{classes[0]:,}" if len(classes) == 1 else f"{classes[0]:,} to {classes[-1]:,}"
        lines = [
            f"{self.images:,} images of {self.photos:,} photos, about {self.bytes / 1e9:.1f} GB",
            f"{len(self.by_class)} classes, {each} images each",
            f"{len(self.by_background) - 1} backgrounds",
            "",
        ]
        for title, counts in (("factor", self.by_level), ("control", self.by_control)):
            names = {name: count for name, count in counts.items() if name}
            width = max((len(name) for name in names), default=0)
            lines += [f"{title}:", *(f"  {n:{width}}  {count:>9,}" for n, count in names.items())]
        return "\n".join(lines)


def dry_run(design: Design, encoding: Encoding = "png") -> DryRun:
    """Count what a design holds.

    Args:
        design: Which images there are.
        encoding: Of the images.

    Example:
        >>> full = Design.of(range(33), 50, [f"background {n}" for n in range(20)])
        >>> found = dry_run(full, "jpg")
        >>> made = sum(found.by_factor.values()) - found.photos
        >>> found.images, made, found.by_factor["original"], found.by_control["same"]
        (404250, 396000, 33000, 1650)
    """
    return DryRun(
        images=len(design),
        photos=design.counts("factor")[PHOTO],
        by_class=design.counts("class"),
        by_factor=design.counts("factor"),
        by_level=design.counts("level"),
        by_background=design.counts("background"),
        by_control=design.counts("control"),
        bytes=round(len(design) * (_BYTES[encoding] * design.size**2 + _OF_MASK)),
    )
