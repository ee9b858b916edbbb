"""Photos with masks, each again without its object and with noise on it or around it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cci_captum._checks import check_choice, check_positive_int, check_seed

from ._ablations import ABLATIONS, noisy
from .base import ImageData, Sample, position

NOISES = ("noisy_fg", "noisy_bg")
"""Noise on the object, and on what is behind it."""

MADE = ("clean", *ABLATIONS, *NOISES)
"""The variants that can be made, in their order."""

_SHORT = 224 / 256  # of what a photo is resized to, this is kept


class ObjectVariants:
    """Variants of photos, made when they are asked for, at the size that a model sees.

    A photo is resized to a square, whatever its shape, 256 pixels a side of which the central 224
    are kept, or as much larger or smaller as `size` says; so is its mask, in which a pixel is the
    object's where some of the object falls on it. Then:

    - "clean" is left as it is;
    - "grey": the object is grey (0.5); "box": the box around it is;
    - "mean": the box around each piece of it, of 100 pixels or more, has the mean colour of what
      else is in it;
    - "tile": the box around each piece of it is tiled with what is beside it;
    - "noisy_fg", "noisy_bg": Gaussian noise is added to the object, or to all else, `trials`
      times; both have the same noise.

    Values are cut off at 0 and 1 and rounded to 8 bits. A sample has the facts "variant" and
    "trial", 1 where there is but one; its source is the photo. Where the object is gone, the mask
    is empty. What is random follows from the seed, the photo's name and the trial alone.

    These are the rules of Hard ImageNet (Moayeri, Singla and Feizi 2022), for any photos with
    masks. Where its released code differs: a box ends a row and a column early there, and "mean"
    was not among what was reported; a box without room for a tile is filled with a colour here.

    Args:
        data: Images of classes with masks.
        variants: Which, of `MADE`; None is all.
        size: Height and width in pixels. A model that sees another size resizes what was made.
        trials: How often noise is drawn.
        sigma: The noise's standard deviation, of values from 0 to 1; or with l2 its length.
        l2: Whether all that is added to an image has the Euclidean length `sigma`, whatever the
            size of the region (the released code has 30 to 180 for 224 pixels).
        seed: Of the noise.

    Raises:
        ValueError: If the data have no masks, or an argument is not one of these. When a sample is
            read: if nothing of the object is left in the square.

    Example:
        >>> from cci_captum.benchmarks.data import Scenes
        >>> data = ObjectVariants(Scenes(2), size=64, trials=3)
        >>> len(data), data[0].name, data[0].facts["variant"], data[0].image.size
        (22, 'scene 0, clean', 'clean', (64, 64))
    """

    has_masks = True

    def __init__(
        self,
        data: ImageData,
        *,
        variants: str | Sequence[str] | None = None,
        size: int = 224,
        trials: int = 3,
        sigma: float = 0.25,
        l2: bool = False,
        seed: int = 0,
    ) -> None:
        check_positive_int("size", size)
        check_positive_int("trials", trials)
        check_seed(seed)
        if not np.isfinite(sigma) or sigma <= 0:
            raise ValueError(f"sigma: expected a positive number, got {sigma}")
        if not data.has_masks:
            raise ValueError(f"data: expected images with masks, {data.name} has none")
        self.variants = _variants(variants)
        self._data, self._size, self._seed = data, size, seed
        self._sigma, self._l2 = sigma, l2
        self._made = [
            (variant, trial)
            for variant in self.variants
            for trial in range(1, (trials if variant in NOISES else 1) + 1)
        ]
        self.class_names, self.templates = data.class_names, data.templates
        noise = f"{sigma:g} {'long' if l2 else 'standard deviations'}, {trials} times"
        random = f", noise {noise}, seed {seed}" if set(NOISES) & set(self.variants) else ""
        how = f"{', '.join(self.variants)}{random}"
        self._how = f"{how}; {size} pixels"
        self.name = f"{data.name}: {how}"  # the same for models of all sizes

    @property
    def targets(self) -> Sequence[int]:
        """Of every sample."""
        return list(self._data.targets) * len(self._made)

    @property
    def notes(self) -> list[str]:
        """Those of the photos."""
        return list(getattr(self._data, "notes", ()))

    @property
    def listing(self) -> list[str]:
        """That of the photos, and what is made of them."""
        return [*map(str, getattr(self._data, "listing", ())), self._how]

    def __len__(self) -> int:
        return len(self._data) * len(self._made)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        which, photo = divmod(position(index, len(self)), len(self._data))
        variant, trial = self._made[which]
        sample = self._data[photo]
        assert sample.mask is not None
        pixels, mask = squared(sample.image, sample.mask.numpy(), self._size)
        if not mask.any():
            raise ValueError(f"nothing of the object is left in the central square: {sample.name}")
        if variant in ABLATIONS:
            pixels, mask = ABLATIONS[variant](pixels, mask), np.zeros_like(mask)
        elif variant in NOISES:
            noise = noise_of(sample.name, trial, self._seed, self._size)
            region = mask if variant == "noisy_fg" else ~mask
            pixels = noisy(pixels, region, noise, self._sigma, self._l2)
        number = f" {trial}" if variant in NOISES else ""
        return Sample(
            f"{sample.name}, {variant}{number}",
            Image.fromarray(np.rint(pixels * 255).astype(np.uint8)),
            sample.target,
            torch.from_numpy(mask),
            source=sample.source or sample.name,
            facts={**sample.facts, "variant": variant, "trial": trial},
            note=sample.note,
        )


def squared(image: Image.Image, mask: NDArray[Any], size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """A photo and its mask as squares of so many pixels a side; see `ObjectVariants`.

    Args:
        image: Of mode "RGB".
        mask: (H, W) bool.
        size: Pixels a side.

    Returns:
        (size, size, 3) float64 from 0 to 1, and (size, size) bool.
    """
    side = round(size / _SHORT)
    edge = (side - size) // 2
    square = (edge, edge, edge + size, edge + size)
    shown = image.resize((side, side), Image.Resampling.BILINEAR).crop(square)
    object_ = Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0)))
    object_ = object_.resize((side, side), Image.Resampling.BILINEAR).crop(square)
    return np.asarray(shown) / 255, np.asarray(object_) > 0


def noise_of(name: str, trial: int, seed: int, size: int) -> NDArray[Any]:
    """(size, size, 3) standard normal numbers, which follow from these arguments alone."""
    said = hashlib.sha256(f"{seed}\n{trial}\n{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(said, "big")).standard_normal((size, size, 3))


def _variants(asked: str | Sequence[str] | None) -> tuple[str, ...]:
    if asked is None:
        return MADE
    names = [asked] if isinstance(asked, str) else list(asked)
    for name in names:
        check_choice("variants", name, MADE)
    if not names:
        raise ValueError("variants: expected at least one, got none")
    return tuple(name for name in MADE if name in names)
