"""Pixels of photos are replaced, before the model's preprocessing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from cci_captum.attribution.forward import run_forward
from cci_captum.attribution.inputs import rows_of_args
from cci_captum.models.preprocessing import check_seen_box, seen_box

from ..photos import scaled_down, to_photo, to_pixels
from ..protocols import Protocol, Ties
from .base import Jobs, Perturbation, PreparedImages, Recipe, Strategy, finite_maps
from .inputs import PreparedInputs


class _Photo:
    """A photo, and its normalised pixels wherever they were asked for.

    Args:
        recipe: What says how.
        photo: Of any mode and size.
        size: Width and height that it had at first.
    """

    def __init__(self, recipe: Recipe, photo: Image.Image, size: tuple[int, int]) -> None:
        self.recipe, self.photo, self.size = recipe, photo, size
        self._pixels: dict[torch.device, PreparedInputs] = {}

    def scaled(self) -> Image.Image:
        """A copy of mode "RGB", of the size at which pixels are replaced."""
        return scaled_down(self.photo.convert("RGB"), self.recipe.protocol.rounding)

    def on(self, device: torch.device) -> PreparedInputs:
        """Its pixels as one image (1, 3, H, W)."""
        if device not in self._pixels:
            pixels = to_pixels(self.scaled()).to(device)
            mean, std = self.recipe.mean.to(device), self.recipe.std.to(device)
            self._pixels[device] = PreparedInputs(self.recipe, (pixels - mean) / std)
        return self._pixels[device]


class PreparedPhotos(PreparedImages):
    """Photos, and what was drawn of them so far.

    Args:
        recipe: What says how.
        photos: B of them.
    """

    def __init__(self, recipe: Recipe, photos: Sequence[_Photo]) -> None:
        self.recipe, self.photos = recipe, list(photos)

    def __len__(self) -> int:
        return len(self.photos)

    def _only(self, rows: list[int]) -> PreparedPhotos:
        return PreparedPhotos(self.recipe, [self.photos[row] for row in rows])

    def copied(self) -> PreparedPhotos:
        """The same, of copies that are no larger than need be."""
        copies = [_Photo(self.recipe, photo.scaled(), photo.size) for photo in self.photos]
        return PreparedPhotos(self.recipe, copies)


class Photos(Strategy[PreparedPhotos, list[Tensor]]):
    """Outputs where pixels of the photos are replaced, before the model's preprocessing."""

    resolution = "original"

    @staticmethod
    def check_preprocess(protocol: Protocol, preprocess: Any) -> None:
        """Raise unless preprocess can be called, and it is known what it leaves of a photo."""
        if not callable(preprocess):
            raise TypeError(
                f"preprocess: protocol {protocol.name!r} needs the model's preprocessing "
                f"of PIL images, got {preprocess!r}"
            )
        check_seen_box(preprocess)

    def prepare(self, images: Any) -> PreparedPhotos:
        """A sequence of PIL images, checked."""
        if not isinstance(images, Sequence) or not images:
            raise TypeError(
                "images: expected a sequence of at least one PIL image, got "
                f"{type(images).__name__}"
            )
        for index, photo in enumerate(images):
            if not isinstance(photo, Image.Image):
                raise TypeError(
                    f"images[{index}]: expected a PIL image, got {type(photo).__name__}"
                )
        return PreparedPhotos(
            self.recipe, [_Photo(self.recipe, photo, photo.size) for photo in images]
        )

    def check_maps(self, attributions: Any, images: PreparedPhotos) -> list[Tensor]:
        """A map (h, w) of each photo, or an error that says what is wrong with them."""
        if len(attributions) != len(images):
            raise ValueError(
                f"attributions: expected {len(images)}, a map (h, w) for each photo, got "
                f"{len(attributions)}"
            )
        maps = []
        for index, attribution in enumerate(attributions):
            if (
                not isinstance(attribution, Tensor)
                or attribution.ndim != 2
                or not attribution.numel()
            ):
                got = tuple(getattr(attribution, "shape", ())) or type(attribution).__name__
                raise ValueError(f"attributions[{index}]: expected a map (h, w), got {got}")
            maps.append(finite_maps(attribution[None], f"attributions[{index}]")[0])
        for index, (photo, one) in enumerate(zip(images.photos, maps, strict=True)):
            self._check_cover(index, photo.size, one)
        return maps

    def perturbation(
        self,
        images: PreparedPhotos,
        maps: list[Tensor],
        args: tuple[Any, ...],
        ties: Sequence[Ties],
    ) -> Perturbation:
        """As in `Strategy`; on the maps' device."""
        preprocess, device = self.preprocess, maps[0].device
        assert preprocess is not None  # checked with the protocol
        mean, std = self.recipe.mean.to(device), self.recipe.std.to(device)
        canvases = [photo.on(device) for photo in images.photos]
        rankings = []
        for canvas, one in zip(canvases, maps, strict=True):
            canvas.draw()
            size = (canvas.images.shape[2], canvas.images.shape[3])
            rankings.append(canvas.ranking(one[None], size, ties))

        def painted(job: Jobs) -> Tensor:
            row = int(job.row)
            of_one = job._replace(row=torch.zeros_like(job.row))
            pixels = canvases[row].paint(rankings[row], of_one)
            return preprocess(to_photo(pixels * std + mean))

        def scores(jobs: Jobs) -> Tensor:
            each = (Jobs(*job) for job in zip(*(part.split(1) for part in jobs), strict=True))
            inputs = torch.stack([painted(job) for job in each]).to(device)
            return run_forward(self.forward_func, inputs, rows_of_args(args, jobs.row))

        return Perturbation(
            scores,
            torch.cat([ranking.tied for ranking in rankings]),
            torch.cat([ranking.split for ranking in rankings], dim=-1),
        )

    def _check_cover(self, index: int, size: tuple[int, int], one: Tensor) -> None:
        """Raise ValueError for a map that has the shape of what is left of its photo."""
        assert self.preprocess is not None  # checked with the protocol
        left, top, right, bottom = seen_box(self.preprocess, size)
        part = (right - left, bottom - top)
        if max(size[0] - part[0], size[1] - part[1]) <= 1:
            return
        shape, of_photo, of_part = (
            math.log(width / height) for width, height in (one.shape[::-1], size, part)
        )
        if abs(shape - of_part) < abs(shape - of_photo):
            raise ValueError(
                f"attributions[{index}]: expected a map of the whole photo, {size[0]} x "
                f"{size[1]}, got one of {one.shape[1]} x {one.shape[0]}, the shape of the "
                f"{part[0]} x {part[1]} that preprocess leaves; cut the photo first: "
                "photo.crop(seen_box(preprocess, photo.size)), from "
                "cci_captum.models.preprocessing"
            )
