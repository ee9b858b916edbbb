"""What every way of perturbing images has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast

import torch
from PIL import Image
from torch import Tensor, nn

from cci_captum.vision_towers import VisionTower

from ..protocols import Protocol, Resolution, Ties


@dataclass(frozen=True, eq=False)
class Recipe:
    """All that perturbed images depend on beside the images and the maps.

    Attributes:
        protocol: What is replaced by what.
        seed: Of ties and noise.
        mean: (3, 1, 1), what pixel values in [0, 1] were normalised by.
        std: (3, 1, 1).
    """

    protocol: Protocol
    seed: int
    mean: Tensor
    std: Tensor

    def check_same(self, other: Recipe) -> None:
        """Raise ValueError unless images that were prepared with another recipe fit this one."""
        for name, own, got in (
            ("protocol", self.protocol.name, other.protocol.name),
            ("protocol", self.protocol, other.protocol),
            ("seed", self.seed, other.seed),
            ("mean", self.mean.flatten().tolist(), other.mean.flatten().tolist()),
            ("std", self.std.flatten().tolist(), other.std.flatten().tolist()),
        ):
            if own != got:
                raise ValueError(
                    f"images: expected images prepared with this harness's {name}, {own}, got ones "
                    f"prepared with {got}; prepare them with this harness"
                )


class Jobs(NamedTuple):
    """What is scored: (b,) int64 each."""

    order: Tensor  # which order of ties
    insertion: Tensor  # 1, or 0 for deletion
    point: Tensor
    row: Tensor  # which image


class Perturbation(NamedTuple):
    """B images with their maps, ready to be scored."""

    scores: Callable[[Jobs], Tensor]  # outputs (b, ...)
    tied: Tensor  # (B,)
    split: Tensor  # (2, P, B) bool, whether the order of ties matters: see `splits_ties`


class PreparedImages(ABC):
    """B images with what a protocol makes of them alone, whatever the maps.

    `DeletionInsertion.prepare` returns them, and calls take them in place of images. The order of
    ties, noise and blur are made where they are first needed, and kept.

    Attributes:
        recipe: What they were prepared with; a harness that has another one refuses them.
    """

    recipe: Recipe

    @abstractmethod
    def __len__(self) -> int:
        """Number of images, B."""

    def only(self, rows: Sequence[int]) -> PreparedImages:
        """Some of the images, with what has been drawn of them.

        Args:
            rows: Their places, 0 to B - 1, at least one.

        Raises:
            ValueError: If there are none, or a place is out of range.
        """
        chosen = list(rows)
        if not chosen or not all(0 <= row < len(self) for row in chosen):
            raise ValueError(f"rows: expected some of 0 to {len(self) - 1}, got {chosen}")
        return self._only(chosen)

    @abstractmethod
    def _only(self, rows: list[int]) -> PreparedImages:
        """`only`, checked."""

    @abstractmethod
    def copied(self) -> PreparedImages:
        """The same, of copies of the images."""


Images = TypeVar("Images", bound=PreparedImages)
Maps = TypeVar("Maps")


class Strategy(ABC, Generic[Images, Maps]):
    """A way of perturbing images.

    Args:
        recipe: The protocol and what goes with it.
        forward_func: From images and further arguments to scores.
        preprocess: As `check_preprocess` passed it.
        vision_tower: As `find_tower` found it.
        check: Whether forward_func is checked once.

    Attributes:
        resolution: Whose protocols it carries out.
    """

    resolution: ClassVar[Resolution]

    def __init__(
        self,
        recipe: Recipe,
        forward_func: Callable[..., Tensor],
        preprocess: Callable[[Image.Image], Tensor] | None,
        vision_tower: VisionTower | None,
        check: bool,
    ) -> None:
        self.recipe, self.forward_func = recipe, forward_func
        self.preprocess, self.vision_tower, self.check = preprocess, vision_tower, check

    @staticmethod
    def check_preprocess(protocol: Protocol, preprocess: Any) -> None:
        """Raise TypeError or ValueError where a preprocessing is needed that this one is not."""
        return

    @staticmethod
    def find_tower(
        forward_func: Callable[..., Tensor], vision_tower: nn.Module | VisionTower | None
    ) -> VisionTower | None:
        """The image encoder, where patches are hidden; raises as `tower_of` does."""
        return None

    @abstractmethod
    def prepare(self, images: Any) -> Images:
        """The images, checked. Nothing is drawn yet, nor copied.

        Raises:
            TypeError: If they are of another kind.
            ValueError: If their shapes or values do not fit.
        """

    @abstractmethod
    def check_maps(self, attributions: Any, images: Images) -> Maps:
        """Maps of the images, at least float32, or an error that says what is wrong with them."""

    @abstractmethod
    def perturbation(
        self, images: Images, maps: Maps, args: tuple[Any, ...], ties: Sequence[Ties]
    ) -> Perturbation:
        """What forward_func says of the perturbed images, under some orders of ties.

        Args:
            images: Of `prepare`.
            maps: Of `check_maps`.
            args: Further arguments of forward_func, checked.
            ties: Orders; see `Protocol`.
        """

    def take(self, images: Any) -> Images:
        """What is prepared already, if with the same recipe; else `prepare`."""
        if not isinstance(images, PreparedImages):
            return self.prepare(images)
        self.recipe.check_same(images.recipe)
        return cast(Images, images)


def finite_maps(maps: Tensor, argument: str) -> Tensor:
    """The maps, at least float32, once they are known to be numbers."""
    if not maps.is_floating_point():
        raise TypeError(f"{argument}: expected a floating point tensor, got {maps.dtype}")
    if not bool(maps.isfinite().all()):
        bad = (~maps.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(f"{argument}: expected finite values, got others for images {bad}")
    return maps.to(torch.promote_types(maps.dtype, torch.float32))
