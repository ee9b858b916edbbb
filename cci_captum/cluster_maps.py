"""From one value a cluster to weights and to maps, whatever the values are."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor

from .attribution.field_of_view import FieldOfView
from .attribution.resizing import Upsample, enlarge

Normalization = Literal["relative", "paper", "none"]


def normalized(
    values: Tensor, rounding: Tensor, normalization: Normalization, called: str
) -> Tensor:
    """The values of each image's clusters, scaled as `ClusterEffects.weights` says.

    Args:
        values: (B, K).
        rounding: (B,) in the same unit: where no value of an image is above, all weights are zero.
        normalization: Which scale.
        called: What the values are, for the warning.

    Returns:
        (B, K).
    """
    if normalization == "none":
        return values
    measured = values.abs().amax(dim=1) > rounding
    values = torch.where(measured[:, None], values, 0.0)
    absolute = values.abs().sum(dim=1, keepdim=True)
    relative = values / torch.where(absolute > 0, absolute, 1.0)
    if normalization == "relative":
        return relative
    total = values.sum(dim=1, keepdim=True)
    defined = total > 0
    if not bool(defined.all()):
        warnings.warn(
            f"normalization='paper' is undefined for {int((~defined).sum())} of "
            f"{len(values)} images, whose {called} sum to zero or less; these use 'relative'",
            UserWarning,
            stacklevel=3,
        )
    return torch.where(defined, values / torch.where(defined, total, 1.0), relative)


def spread(weights: Tensor, labels: Tensor) -> Tensor:
    """Every patch has its cluster's weight: (B, K) by labels (B, h, w) -> (B, h, w)."""
    return weights.gather(1, labels.flatten(1)).view(labels.shape)


def at_pixels(
    patch_map: Tensor,
    image_shape: tuple[int, int, int],
    upsample: Upsample,
    covered: tuple[int, int] | FieldOfView | None,
) -> Tensor:
    """A map (B, h, w) at the inputs' resolution, repeated over the channels: (B, C, H, W)."""
    channels, height, width = image_shape
    maps = enlarge(patch_map, (height, width), upsample, covered)
    return maps[:, None].repeat(1, channels, 1, 1)
