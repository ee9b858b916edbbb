"""What a check shows a model: noise, and parts of the grid; and what rounding may change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..vision_towers import VisionTower
from .field_of_view import ramps

_EXACT, _TF32, _HALF = 1e-3, 1e-2, 5e-2  # of what outputs vary: what rounding may change


def rounding_of(modules: Iterable[nn.Module], images: Tensor) -> tuple[float, float]:
    """What rounding may change, as a share of what outputs vary; and the precision's own step.

    By the lowest precision among the modules' own parameters, the images and autocast.
    """
    dtypes = {p.dtype for module in modules for p in module.parameters(recurse=False)}
    dtypes.add(images.dtype)
    device = images.device.type
    if torch.is_autocast_enabled(device):
        dtypes.add(torch.get_autocast_dtype(device))
    half = dtypes & {torch.float16, torch.bfloat16}
    if half:
        return _HALF, max(torch.finfo(dtype).eps for dtype in half)
    if device == "cuda" and (
        torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
    ):
        return _TF32, 2.0**-11
    return _EXACT, torch.finfo(torch.float32).eps


def modules_of(forward_func: Any, tower: VisionTower | None) -> Iterator[nn.Module]:
    """The modules of a forward_func, or of the image encoder that it runs."""
    root = forward_func if isinstance(forward_func, nn.Module) else tower and tower.module
    return root.modules() if isinstance(root, nn.Module) else iter(())


def lower_part(grid: tuple[int, int]) -> Tensor | None:
    """(h, w) bool, True where hidden: all but the first rows, of which h is a multiple.

    So that copies of the kept patches in turn fill the grid evenly. Columns where there is but
    one row; None where there is but one patch.
    """
    h, w = grid
    if h == 1 and w == 1:
        return None
    side = h if h > 1 else w
    smallest = next(factor for factor in range(2, side + 1) if side % factor == 0)
    hidden = torch.zeros(h, w, dtype=torch.bool)
    if h > 1:
        hidden[h // smallest :] = True
    else:
        hidden[:, w // smallest :] = True
    return hidden


def noise_pixels(images: Tensor) -> Tensor:
    """Noise between the least and the greatest value of the images and of their ramps."""
    values = torch.cat([images, ramps(images)]).double()
    low, high = values.min(), values.max()
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    return (low + (high - low) * noise.to(low)).to(images.dtype)


def noise_like(values: Tensor) -> Tensor:
    """Normal noise of twice the spread of the values, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    wide = values.float()
    noise = torch.randn(values.shape, generator=generator).to(wide.device)
    return (wide.mean() + 2 * wide.std() * noise).to(values.dtype)
