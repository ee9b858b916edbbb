"""Inputs of a model, with what their pixels are replaced by and how ties among them fall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cci_captum.attribution.finite import check_finite
from cci_captum.attribution.inputs import check_images
from cci_captum.attribution.resizing import enlarge

from ..perturbation import filled, perturb, rank_pixels, splits_ties, tied_share, ties_of
from ..protocols import Fill, Protocol, Ties
from .base import Jobs, PreparedImages, Recipe, Strategy, finite_maps


class Ranking(NamedTuple):
    """Which pixels of B maps come first, under O orders of ties."""

    ranks: Tensor  # (O, B, h, w)
    counts: Tensor  # (2, P) replaced pixels at each point, of deletion and of insertion
    tied: Tensor  # see `Perturbation`
    split: Tensor

    def ranks_of(self, jobs: Jobs) -> Tensor:
        """(b, h, w)."""
        return self.ranks[jobs.order, jobs.row]

    def counts_of(self, jobs: Jobs) -> Tensor:
        """(b,) pixels that are replaced."""
        return self.counts[jobs.insertion, jobs.point]


class PreparedInputs(PreparedImages):
    """Normalised images, and what was drawn of them so far.

    Args:
        recipe: What says how.
        images: (B, 3, H, W).
    """

    def __init__(self, recipe: Recipe, images: Tensor) -> None:
        self.recipe, self.images = recipe, images
        self._drawn: dict[Any, Tensor] = {}  # (B, ...) each

    def __len__(self) -> int:
        return len(self.images)

    def _only(self, rows: list[int]) -> PreparedInputs:
        some = PreparedInputs(self.recipe, self.images[rows])
        some._drawn = {key: drawn[rows] for key, drawn in self._drawn.items()}
        return some

    def copied(self) -> PreparedInputs:
        """The same, of a copy of the images."""
        return PreparedInputs(self.recipe, self.images.detach().clone())

    @property
    def fill(self) -> Tensor:
        """(B, 3, H, W), what deletion paints."""
        return self._filled("deletion_fill", self.recipe.protocol.deletion_fill)

    @property
    def start(self) -> Tensor:
        """(B, 3, H, W), what insertion starts from."""
        return self._filled("insertion_start", self.recipe.protocol.insertion_start)

    def draw(self) -> None:
        """What replaces pixels, unless it is there.

        Raises:
            ValueError: If a fill does not fit.
        """
        _ = self.fill, self.start

    def _filled(self, use: str, fill: Fill | None) -> Tensor:
        assert fill  # the protocol's own check
        if use not in self._drawn:
            recipe, device = self.recipe, self.images.device
            mean, std = recipe.mean.to(device), recipe.std.to(device)
            rounding = recipe.protocol.rounding
            self._drawn[use] = filled(self.images, fill, mean, std, recipe.seed, rounding)
        return self._drawn[use]

    def ties(self, order: Ties, size: tuple[int, int]) -> Tensor:
        """(B, h, w), see `ties_of`."""
        if (order, size) not in self._drawn:
            self._drawn[order, size] = ties_of(order, self.images, size, self.recipe.seed)
        return self._drawn[order, size]

    def ranking(self, maps: Tensor, size: tuple[int, int], ties: Sequence[Ties]) -> Ranking:
        """Which pixels of maps of that size come first."""
        maps = _resized(maps, size).to(self.images.device)
        ranks = [rank_pixels(maps, self.ties(order, size)) for order in ties]
        protocol = self.recipe.protocol
        both = (protocol.fractions, protocol.insertion_fractions or protocol.fractions)
        pixels = maps[0].numel()
        counts = torch.tensor(
            [[_count(protocol, fraction, pixels) for fraction in points] for points in both],
            device=maps.device,
        )
        split = torch.stack([splits_ties(maps, some).T for some in counts])
        return Ranking(torch.stack(ranks), counts, tied_share(maps), split)

    def paint(self, ranking: Ranking, jobs: Jobs) -> Tensor:
        """Perturbed images (b, 3, H, W)."""
        inserting = (jobs.insertion == 1)[:, None, None, None]
        before = torch.where(inserting, self.start[jobs.row], self.images[jobs.row])
        after = torch.where(inserting, self.images[jobs.row], self.fill[jobs.row])
        return perturb(before, ranking.ranks_of(jobs), ranking.counts_of(jobs), after)


class OfInputs(Strategy[PreparedInputs, Tensor]):
    """What strategies for inputs of the model share: which images and maps they take."""

    def prepare(self, images: Any) -> PreparedInputs:
        """Inputs (B, 3, H, W), checked."""
        if isinstance(images, Sequence) and images and isinstance(images[0], Image.Image):
            raise TypeError(
                "images: expected inputs of the model (B, 3, H, W), got PIL images, which only "
                'protocols of resolution "original" take'
            )
        images = check_images(images, "images")
        if images.shape[1] != 3:
            raise ValueError(f"images: expected three channels, got shape {tuple(images.shape)}")
        check_finite(images, "images", "DeletionInsertion")
        return PreparedInputs(self.recipe, images)

    def check_maps(self, attributions: Any, images: PreparedInputs) -> Tensor:
        """(B, h, w) maps, or an error that says what is wrong with them."""
        if not isinstance(attributions, Tensor):
            raise TypeError(
                f"attributions: expected a floating point tensor, got {type(attributions).__name__}"
            )
        batch, shape = len(images), images.images.shape
        whole = attributions.ndim == 4 and attributions.shape == shape
        maps_fit = attributions.ndim == 3 and len(attributions) == batch and attributions.numel()
        if not whole and not maps_fit:
            raise ValueError(
                f"attributions: expected the images' shape {tuple(shape)}, or one map an image, "
                f"({batch}, h, w), got {tuple(attributions.shape)}"
            )
        maps = finite_maps(attributions, "attributions")
        return maps.mean(dim=1) if whole else maps


def _count(protocol: Protocol, fraction: float, pixels: int) -> int:
    """How many of the pixels are replaced at a fraction."""
    steps = protocol.steps
    if steps is None or fraction == 1:
        return math.floor(fraction * pixels + 0.5)
    return min(round(fraction * steps) * max(pixels // steps, 1), pixels)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) float32 maps at another size: averaged where smaller, else bilinear.

    In float64 on the way: in float32 weights of the same values would sum to other values here
    and there, as the kernel rounds, and pixels that are tied would not be.
    """
    if maps.shape[1:] == size:
        return maps
    if maps.shape[1] >= size[0] and maps.shape[2] >= size[1]:
        return F.adaptive_avg_pool2d(maps[:, None].double(), size)[:, 0].float()
    return enlarge(maps.double(), size, "bilinear").float()
