"""Objects on other backgrounds: images taken apart by masks, and put together anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from torch import Tensor

from ..attribution.finite import check_finite
from ..attribution.inputs import check_images
from ..attribution.seeds import generator_of
from ..regions import check_masks

N_DONORS = 3
"""Other images for each image, where something is replaced."""

# Where a pixel under the object is taken from, in shares of height and width: far from it first.
_SHIFTS = tuple(
    (rows / 8, columns / 8)
    for reach in (4, 2, 1)
    for rows in range(0, 8, reach)
    for columns in range(0, 8, reach)
    if (rows, columns) != (0, 0)
)


def check_masks_of(images: Tensor, masks: Tensor, argument: str) -> None:
    """Raise TypeError or ValueError unless there is a mask (H, W) for each image."""
    check_masks(masks, argument)
    expected = (len(images), *images.shape[2:])
    if masks.shape != expected:
        raise ValueError(f"{argument}: expected shape {expected}, got {tuple(masks.shape)}")


@dataclass(frozen=True, eq=False)
class Donors:
    """Images of the same data, whose objects and backgrounds take the place of others.

    Args:
        images: (G, 3, H, W), as the model takes them.
        masks: (G, H, W) bool, the object's pixels of each.
        labels: G, the class of each object, so that an image gets none of a class that it is asked
            about; None: any.

    Raises:
        TypeError: If images or masks have the wrong type.
        ValueError: If shapes do not fit, an image has no object's pixel, or is not finite.

    Example:
        >>> import torch
        >>> from cci_captum.diagnosis import Donors
        >>> masks = torch.zeros(5, 96, 96, dtype=torch.bool)
        >>> masks[:, 30:60, 30:60] = True
        >>> donors = Donors(torch.rand(5, 3, 96, 96), masks, labels=(0, 0, 1, 2, 3))
        >>> sorted(donors.choose(torch.rand(3, 96, 96), 3, avoid=[0], seed=0))
        [2, 3, 4]
    """

    images: Tensor
    masks: Tensor
    labels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_images(self.images, "donors.images")
        check_finite(self.images, "donors.images")
        check_masks_of(self.images, self.masks, "donors.masks")
        blank = (~self.masks.flatten(1).any(dim=1)).nonzero().flatten().tolist()
        if blank:
            raise ValueError(f"donors.masks: expected an object in each, got none in {blank}")
        if self.labels is not None and len(self.labels) != len(self.images):
            raise ValueError(
                f"donors.labels: expected {len(self.images)}, one an image, got {len(self.labels)}"
            )

    @classmethod
    def of(
        cls, images: Tensor, masks: Tensor, labels: Sequence[int], statuses: Sequence[str]
    ) -> Donors:
        """Those of some images that are finite and have an object.

        Args:
            images: (N, 3, H, W).
            masks: (N, H, W) bool.
            labels: N classes.
            statuses: N reasons why an image, or its object, is not known; "" where both are.

        Raises:
            ValueError: If there is none.
        """
        there = masks.flatten(1).any(dim=1) & images.isfinite().flatten(1).all(dim=1)
        fit = [row for row, one in enumerate(there.tolist()) if one and not statuses[row]]
        if not fit:
            raise ValueError(
                f"donors: expected images with an object to take others from, got none among "
                f"{len(images)}; shapley-regions(by=hidden) needs none"
            )
        return cls(images[fit], masks[fit], tuple(labels[row] for row in fit))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    @cached_property
    def backgrounds(self) -> Tensor:
        """(G, 3, H, W), the images without their objects; see `without_object`."""
        return without_object(self.images, self.masks)

    def choose(self, image: Tensor, count: int, avoid: Sequence[int], seed: int) -> list[int]:
        """Some donors for an image: by the seed and the image's content alone.

        Args:
            image: (3, H, W), which is no donor of itself.
            count: How many.
            avoid: Classes of which none is taken.
            seed: Of the choice.

        Returns:
            Their places, each once.

        Raises:
            ValueError: If there are not as many.
        """
        order = torch.randperm(len(self), generator=generator_of(image, seed)).tolist()
        chosen = list(islice(self._others(image, avoid, order), count))
        if len(chosen) < count:
            raise ValueError(
                f"donors: expected at least {count} other images, of other classes than "
                f"{sorted(set(avoid))}, got {len(chosen)} of {len(self)}"
            )
        return chosen

    def has(self, image: Tensor, count: int, avoid: Sequence[int]) -> bool:
        """Whether `choose` finds as many."""
        return len(list(islice(self._others(image, avoid, range(len(self))), count))) == count

    def _others(self, image: Tensor, avoid: Sequence[int], order: Iterable[int]) -> Iterator[int]:
        """Places, in this order, of what is neither the image itself nor of such a class."""
        own = image.to(self.images)
        labels = self.labels or (None,) * len(self)
        for place in order:
            if labels[place] not in avoid and not torch.equal(self.images[place], own):
                yield place


def without_object(images: Tensor, masks: Tensor) -> Tensor:
    """Images whose object is covered by their own background.

    Each pixel under the object is taken from the same image, shifted as a torus by half of its
    height or width, then by quarters and eighths, where that is background; what no shift
    uncovers gets the background's mean colour, and the image's where there is no background.

    Args:
        images: (B, 3, H, W).
        masks: (B, H, W) bool, the objects' pixels.

    Returns:
        (B, 3, H, W).

    Example:
        >>> import torch
        >>> from cci_captum.diagnosis.donors import without_object
        >>> image = torch.tensor([[[[1.0, 9.0, 2.0, 3.0]]]])
        >>> without_object(image, torch.tensor([[[False, True, False, False]]]))
        tensor([[[[1., 3., 2., 3.]]]])
    """
    filled, left = images, masks
    height, width = masks.shape[1:]
    shifts = dict.fromkeys((int(y * height), int(x * width)) for y, x in _SHIFTS)
    for shift in shifts:
        if not bool(left.any()):
            return filled
        take = left & ~masks.roll(shift, (1, 2))
        filled = torch.where(take[:, None], images.roll(shift, (2, 3)), filled)
        left = left & ~take
    return torch.where(left[:, None], _mean_colours(images, ~masks), filled)


def on_background(images: Tensor, masks: Tensor, backgrounds: Tensor) -> Tensor:
    """The objects of some images on other backgrounds, pixel by pixel.

    Args:
        images: (B, 3, H, W).
        masks: (B, H, W) bool, the objects' pixels.
        backgrounds: (B, 3, H, W), what is seen everywhere else.
    """
    return torch.where(masks[:, None], images, backgrounds)


def _mean_colours(images: Tensor, where: Tensor) -> Tensor:
    """(B, 3, 1, 1) mean colours of the pixels (B, H, W), of all where there is none."""
    where = where | ~where.flatten(1).any(dim=1)[:, None, None]
    wide = images.to(torch.promote_types(images.dtype, torch.float32))  # a half has no such sums
    weights = where[:, None].to(wide.dtype)
    means = (wide * weights).sum((2, 3), keepdim=True) / weights.sum((2, 3), keepdim=True)
    return means.to(images.dtype)
