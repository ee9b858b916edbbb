"""How much of an attribution map lies on an object whose pixels are known."""

from __future__ import annotations

import torch
from torch import Tensor


def energy(maps: Tensor, masks: Tensor) -> Tensor:
    """The object's share of each map's positive part.

    The energy-based pointing game of Score-CAM (Wang et al. 2020, arXiv 1910.01279), with
    masks in place of boxes; negative values count as zero.

    Args:
        maps: (B, h, w) floating point maps of any resolution, such as a `patch_map` or one
            channel of attributions.
        masks: (B, H, W) bool, the object's pixels. A map's value stands for its whole cell; a
            cell belongs to the object by the share of its area that the object covers. h and w
            need not divide H and W.

    Returns:
        (B,) float64 in [0, 1] on the device of maps; 0 for a map without positive values.

    Raises:
        TypeError: If maps are not floating point or masks are not bool.
        ValueError: If shapes do not fit or a map has NaN or infinity.

    Example:
        >>> import torch
        >>> masks = torch.tensor([[[True, True, False, False]]])
        >>> energy(torch.tensor([[[3.0, 1.0]]]), masks)
        tensor([0.7500], dtype=torch.float64)
    """
    covered = _coverage(maps, masks)
    positive = maps.double().clamp(min=0)
    positive = positive / _nonzero(positive.amax(dim=(1, 2), keepdim=True))  # no overflow
    return (positive * covered).sum(dim=(1, 2)) / _nonzero(positive.sum(dim=(1, 2)))


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Whether each map's maximum lies on the object; shared maxima count by their share.

    The pointing game of Zhang et al. (2016, arXiv 1608.00507) asks whether one maximum lies
    within 15 pixels of the object. There is no such tolerance here, and ties are not left to
    the order of pixels: the value is the expected hit of a point drawn at random from all the
    cells that hold the maximum. A constant map gets the object's share of the picture.

    Args:
        maps: See `energy`.
        masks: See `energy`.

    Returns:
        (B,) float64 in [0, 1] on the device of maps.

    Raises:
        TypeError: See `energy`.
        ValueError: See `energy`.

    Example:
        >>> import torch
        >>> masks = torch.tensor([[[True, True, True, False]]])
        >>> pointing_game(torch.tensor([[[1.0, 2.0]]]), masks)
        tensor([0.5000], dtype=torch.float64)
    """
    covered = _coverage(maps, masks)
    largest = maps == maps.amax(dim=(1, 2), keepdim=True)
    return (covered * largest).sum(dim=(1, 2)) / largest.sum(dim=(1, 2))


def _coverage(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of each cell of the maps that the object covers, (B, h, w) float64."""
    if not isinstance(maps, Tensor) or not maps.is_floating_point():
        got = maps.dtype if isinstance(maps, Tensor) else type(maps).__name__
        raise TypeError(f"maps: expected a floating point tensor, got {got}")
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        got = masks.dtype if isinstance(masks, Tensor) else type(masks).__name__
        raise TypeError(f"masks: expected a bool tensor, got {got}")
    if maps.ndim != 3 or masks.ndim != 3 or 0 in (*maps.shape, *masks.shape):
        raise ValueError(
            "maps and masks: expected shapes (B, h, w) and (B, H, W), none of them 0, got "
            f"{tuple(maps.shape)} and {tuple(masks.shape)}"
        )
    if len(maps) != len(masks):
        raise ValueError(f"masks: expected {len(maps)}, one a map, got {len(masks)}")
    if not bool(maps.isfinite().all()):
        bad = (~maps.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(f"maps: expected finite values, got NaN or infinity in maps {bad}")
    masks = masks.to(maps.device)
    rows = _overlaps(maps.shape[1], masks.shape[1], masks.device)
    columns = _overlaps(maps.shape[2], masks.shape[2], masks.device)
    return rows @ masks.double() @ columns.T


def _overlaps(cells: int, pixels: int, device: torch.device) -> Tensor:
    """The share of each cell that lies on each pixel, along one axis: (cells, pixels)."""
    cell = torch.arange(cells + 1, device=device, dtype=torch.float64) * pixels  # in 1 / cells
    pixel = torch.arange(pixels + 1, device=device, dtype=torch.float64) * cells
    ends = torch.minimum(cell[1:, None], pixel[None, 1:])
    starts = torch.maximum(cell[:-1, None], pixel[None, :-1])
    return (ends - starts).clamp(min=0) / pixels


def _nonzero(values: Tensor) -> Tensor:
    """The values, with 1 for 0, to divide by."""
    return torch.where(values > 0, values, 1.0)
