"""From maps on the patch grid to maps of the images' size."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from .._checks import check_choice
from .field_of_view import FieldOfView, place

Upsample = Literal["nearest", "bilinear", "bicubic"]


def check_upsample(upsample: str) -> None:
    """Raise ValueError unless `upsample` is one of the `Upsample` modes."""
    check_choice("upsample", upsample, get_args(Upsample))


def enlarge(
    patch_map: Tensor,
    size: tuple[int, int],
    upsample: Upsample,
    covered: tuple[int, int] | FieldOfView | None = None,
) -> Tensor:
    """Resize maps on the patch grid, (B, h, w), to the images' size, (B, H, W).

    Smooth maps are computed in float64 and then rounded, so that equal values stay equal: in
    float32, errors of the last bit would order them by their place.

    Args:
        patch_map: The maps.
        size: Height and width of the images.
        upsample: How.
        covered: The pixels under the grid (`TowerLayout.covered`): what is beyond the image is
            cut off, and pixels beyond the grid are 0. None is all of the image, and a
            `FieldOfView` any rectangle of it.
    """
    if isinstance(covered, FieldOfView):
        return place(patch_map, size, upsample, covered)
    pixels = covered or size
    if upsample == "nearest":
        maps = F.interpolate(patch_map[:, None], pixels, mode="nearest-exact")[:, 0]
    else:
        wide = patch_map[:, None].double()
        maps = F.interpolate(wide, pixels, mode=upsample, align_corners=False)[:, 0]
    # Negative padding cuts off.
    maps = F.pad(maps, (0, size[1] - pixels[1], 0, size[0] - pixels[0]))
    return maps.to(patch_map.dtype)
