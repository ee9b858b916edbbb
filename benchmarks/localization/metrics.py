"""How much of an attribution map lies on an object whose pixels are known."""

from __future__ import annotations

import torch
from torch import Tensor

from ..measures import Measure


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


def best_iou(maps: Tensor, masks: Tensor) -> Tensor:
    """The largest IoU of the object with {map >= t}, over all thresholds t that occur in the map.

    Every map gets the threshold that suits it best: this is how well the map could be cut, not
    how well a threshold chosen beforehand cuts it. MaxBoxAcc (Choe et al. 2020, arXiv
    2001.07437) shares one threshold among all images, and counts the images where the box round
    the largest component then has an IoU of at least 0.5 with a box of the object; here there
    are no boxes, no scaling of the map, and the IoU itself is the value. Equal values enter
    together. The least threshold takes in everything, so no map is below the object's share of
    the picture; a constant map gets just that.

    Args:
        maps: See `energy`.
        masks: See `energy`.

    Returns:
        (B,) float64 in [0, 1] on the device of maps; 0 for a mask without a pixel.

    Raises:
        TypeError: See `energy`.
        ValueError: See `energy`.

    Example:
        >>> import torch
        >>> masks = torch.tensor([[[True, True, True, False]]])
        >>> best_iou(torch.tensor([[[3.0, 0.0, 2.0, 1.0]]]), masks)  # 1/3, 2/3, 2/4, 3/4
        tensor([0.7500], dtype=torch.float64)
    """
    found, taken, last = _thresholds(maps, masks)
    union = taken + found[:, -1:] - found
    return torch.where(last, found / union, 0.0).amax(dim=1)


def average_precision(maps: Tensor, masks: Tensor) -> Tensor:
    """The area under the precision-recall curve of {map >= t}, over all thresholds t.

    The sum of (R_n - R_{n-1}) P_n over the distinct values of the map, from the largest down;
    recall R and precision P are measured in areas. The curve is a staircase: nothing is
    interpolated. This is PxAP (Choe et al. 2020, arXiv 2001.07437) of each image on its own.
    There, all images' pixels make one curve, after scaling every map to [0, 1]; here the order
    within a map is all that counts. A constant map gets the object's share of the picture.

    Args:
        maps: See `energy`.
        masks: See `energy`.

    Returns:
        (B,) float64 in [0, 1] on the device of maps; 0 for a mask without a pixel.

    Raises:
        TypeError: See `energy`.
        ValueError: See `energy`.

    Example:
        >>> import torch
        >>> masks = torch.tensor([[[True, False, True, False]]])
        >>> average_precision(torch.tensor([[[4.0, 3.0, 2.0, 2.0]]]), masks)  # (1/1 + 2/4) / 2
        tensor([0.7500], dtype=torch.float64)
    """
    found, taken, last = _thresholds(maps, masks)
    counted = torch.where(last, found, 0.0).cummax(dim=1).values
    gained = counted.diff(dim=1, prepend=torch.zeros_like(counted[:, :1]))
    return (gained * found / taken).sum(dim=1) / _nonzero(found[:, -1])


def _thresholds(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What {map >= t} holds as t falls from the largest value, cell by cell.

    Returns:
        The object's area within (B, h * w), the area as a whole (h * w,), both float64 in the
        unit of `_covered`, and whether the cell is the last of its value (B, h * w): only there
        is {map >= t} complete.
    """
    covered = _covered(maps, masks).long().flatten(1)
    values, order = maps.flatten(1).sort(dim=1, descending=True)
    found = covered.gather(1, order).cumsum(dim=1).double()
    taken = torch.arange(1, values.shape[1] + 1, device=maps.device).double() * masks[0].numel()
    last = torch.ones_like(values, dtype=torch.bool)
    last[:, :-1] = values[:, :-1] != values[:, 1:]
    return found, taken, last


def _coverage(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of each cell of the maps that the object covers, (B, h, w) float64."""
    return _covered(maps, masks) / masks[0].numel()


def _covered(maps: Tensor, masks: Tensor) -> Tensor:
    """The object's area on each cell of the maps, (B, h, w) float64.

    The unit is 1 / (h w) of a pixel: then all areas are whole numbers, and H W that of a cell.
    """
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
    """The length of each cell on each pixel, along one axis, in 1 / cells: (cells, pixels)."""
    cell = torch.arange(cells + 1, device=device, dtype=torch.float64) * pixels
    pixel = torch.arange(pixels + 1, device=device, dtype=torch.float64) * cells
    ends = torch.minimum(cell[1:, None], pixel[None, 1:])
    starts = torch.maximum(cell[:-1, None], pixel[None, :-1])
    return (ends - starts).clamp(min=0)


def _nonzero(values: Tensor) -> Tensor:
    """The values, with 1 for 0, to divide by."""
    return torch.where(values > 0, values, 1.0)


MEASURES = (
    Measure("pointing_game", "pointing game", "map", "higher", 0, 1, pointing_game),
    Measure("energy", "energy", "map", "higher", 0, 1, energy),
    Measure("iou", "best IoU", "map", "higher", 0, 1, best_iou),
    Measure("average_precision", "average precision", "map", "higher", 0, 1, average_precision),
)
"""What every comparison on masks measures, in the order of its columns."""
