"""Random maps: the lower reference of every comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cci_captum.attribution.base import PatchAttribution
from cci_captum.attribution.finite import check_finite
from cci_captum.attribution.seeds import generator_of
from cci_captum.attribution.targets import select_target
from cci_captum.vision_towers import VisionTower


class Random(PatchAttribution):
    """A uniform random number for every patch, whatever the target.

    On patches, not pixels: painting over scattered pixels harms a model in another way than
    painting over patches, which is what all other maps are compared by. An image's map depends
    on the seed and on the image itself, not on its place in the batch; two images have
    different maps. One forward pass, to learn the patch grid.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        seed: Of the maps.

    Raises:
        TypeError: See `PatchAttribution`.
        ValueError: See `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import Random
        >>> clip = cci_captum.load_clip("tiny")
        >>> method = Random(clip.model.encode_image, clip.model.visual)
        >>> method.patch_map(torch.zeros(2, 3, 96, 96)).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        self.seed = seed

    def _check_once(self, images: Tensor, args: tuple[Any, ...]) -> None:
        """Nothing: forward_func does not run."""

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        with self.vision_tower.record("input") as recording:
            outputs = self._run_forward(images, args)
        if target is not None or outputs.ndim == 1:  # as any other method would refuse it
            check_finite(select_target(outputs, target), "scores of the target")
        maps = [
            torch.rand(recording.grid, generator=generator_of(image, self.seed)) for image in images
        ]
        return torch.stack(maps)
