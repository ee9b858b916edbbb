"""CCI under several seeds of its clustering: the mean of the maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ._checks import check_seed
from .attribution.base import PatchAttribution
from .attribution.inputs import Inputs
from .cci import CCI
from .clustering import KMeans
from .vision_towers import VisionTower


class MeanOverSeeds(PatchAttribution):
    """The mean of the maps that CCI gives with K-means of several seeds.

    K-means starts from patches drawn by its seed, and what it ends with depends on them. A mean
    shows what most seeds say, and has more than K values. It costs as many times CCI's passes as
    there are seeds; docs/method.md says what that buys.

    Args:
        forward_func: See `CCI`.
        vision_tower: See `CCI`.
        seeds: Of K-means, each once.
        clustering: The K-means whose seed is replaced. None is `KMeans(7)`.
        options: Further ones of `CCI`, such as hide.

    Raises:
        TypeError: If clustering is no `KMeans`; see also `CCI`.
        ValueError: If there is no seed, one comes twice or is no int from 0 on; see also `CCI`.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> cci_captum.MeanOverSeeds(classifier, seeds=range(3)).patch_map(images, 0).shape
        torch.Size([2, 12, 12])
    """

    _hides_patches = True

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        seeds: Iterable[int] = (0, 1, 2),
        clustering: KMeans | None = None,
        **options: Any,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        clustering = KMeans() if clustering is None else clustering
        if not isinstance(clustering, KMeans):
            raise TypeError(
                "clustering: expected a KMeans, whose seed is replaced, got "
                f"{type(clustering).__name__}"
            )
        if not isinstance(seeds, Iterable):
            raise TypeError(f"seeds: expected several, such as range(3), got {seeds!r}")
        self.seeds = tuple(seeds)
        for seed in self.seeds:
            check_seed(seed)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected at least one, each once, got {self.seeds}")
        self._each = [
            CCI(
                forward_func,
                self.vision_tower,
                clustering=replace(clustering, seed=seed),
                **options,
            )
            for seed in self.seeds
        ]

    def _patch_maps(self, given: Inputs, show_progress: bool) -> Tensor:
        """The mean of the maps."""
        maps = [one._patch_maps(given, show_progress) for one in self._each]
        return torch.stack(maps).mean(dim=0)
