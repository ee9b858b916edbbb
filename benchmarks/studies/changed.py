"""Methods whose map is enlarged in another way, or that see an image changed a little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cci_captum.attribution.base import PatchAttribution
from cci_captum.attribution.resizing import Upsample


class Enlarged:
    """A method whose map is enlarged to the image before it is judged.

    Args:
        forward_func: See `make`.
        make: From forward_func to a method.
        upsample: How.
    """

    def __init__(
        self, forward_func: Any, *, make: Callable[..., PatchAttribution], upsample: Upsample
    ) -> None:
        self.method, self.upsample = make(forward_func), upsample

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        """See `PatchAttribution.attribute`."""
        return self.method.attribute(inputs, target, upsample=self.upsample)


class Shaken(PatchAttribution):
    """A method that explains the image with noise on it; its map is judged on the image itself.

    Args:
        forward_func: See `make`.
        make: From forward_func to a method.
        noise: Standard deviation of normal noise, of normalised inputs; the same for every image.
        seed: Of the noise.
    """

    def __init__(
        self,
        forward_func: Any,
        *,
        make: Callable[..., PatchAttribution],
        noise: float,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_func)
        self.method, self.noise, self.seed = make(forward_func), noise, seed

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(images.shape[1:], generator=generator).to(images)
        return self.method.patch_map(images + self.noise * noise, target, args or None, check=False)
