"""Which pixels come first, and images with the first of them replaced: plain functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cci_captum.attribution.seeds import generator_of

from .protocols import Fill, Rounding, Ties

_BLUR_SIZE, _BLUR_SIGMA, _BLUR_REACH = 11, 5.0, 20  # RISE's released evaluation, scipy's reach


def rank_pixels(maps: Tensor, ties: Tensor) -> Tensor:
    """The place of each pixel in the order of importance.

    Args:
        maps: (B, H, W) importance; larger comes first.
        ties: (B, H, W) numbers that order pixels of the same importance, larger first. Random
            ones keep the order of rows and columns out of coarse maps: a constant map is then
            a random one.

    Returns:
        (B, H, W) int64 from 0 (the most important) to H * W - 1.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> import torch
        >>> rank_pixels(torch.tensor([[[0.5, 0.9, 0.5]]]), torch.tensor([[[1.0, 2.0, 3.0]]]))
        tensor([[[2, 0, 1]]])
    """
    if maps.shape != ties.shape or maps.ndim != 3:
        raise ValueError(
            "maps and ties: expected the same shape (B, H, W), got "
            f"{tuple(maps.shape)} and {tuple(ties.shape)}"
        )
    by_ties = ties.flatten(1).argsort(dim=1, descending=True, stable=True)
    values = maps.flatten(1).gather(1, by_ties)
    order = by_ties.gather(1, values.argsort(dim=1, descending=True, stable=True))
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view(maps.shape)


def perturb(images: Tensor, ranks: Tensor, counts: Tensor, fill: Tensor) -> Tensor:
    """Images whose first-ranked pixels are taken from `fill`.

    Args:
        images: (B, 3, H, W).
        ranks: (B, H, W) int64, as of `rank_pixels`.
        counts: (B,) int64, how many pixels of each image are replaced.
        fill: (B, 3, H, W).

    Returns:
        (B, 3, H, W).

    Example:
        >>> import torch
        >>> images, fill = torch.ones(1, 3, 1, 3), torch.zeros(1, 3, 1, 3)
        >>> perturb(images, torch.tensor([[[2, 0, 1]]]), torch.tensor([2]), fill)[0, 0]
        tensor([[1., 0., 0.]])
    """
    replaced = ranks < counts.to(ranks.device)[:, None, None]
    return torch.where(replaced[:, None], fill, images)


def filled(
    images: Tensor,
    fill: Fill,
    mean: Tensor,
    std: Tensor,
    seed: int,
    rounding: Rounding = "nearest",
) -> Tensor:
    """What a protocol replaces pixels by.

    "blur" is that of RISE's released evaluation: a convolution with zeros beyond the border
    (normalised, the mean colour) and an 11 x 11 kernel, which is what scipy's `gaussian_filter`
    with sigma 5 makes of a single one in the middle of 11 x 11 zeros: a Gaussian mirrored at the
    window's edges, nearly a box, with weights from 0.00774 at the corners to 0.00883.

    Args:
        images: (B, 3, H, W) normalised inputs of the model.
        fill: See `Protocol`.
        mean: (3, 1, 1), what pixel values in [0, 1] were normalised by.
        std: (3, 1, 1).
        seed: Of the noise, which depends on it and the image's content alone.
        rounding: See `Protocol`; of noise. "nearest" leaves it as it is drawn.

    Returns:
        (B, 3, H, W), normalised.

    Raises:
        ValueError: If a function returns another shape.
    """
    if callable(fill):
        result = fill(images)
        if not isinstance(result, Tensor) or result.shape != images.shape:
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(f"fill: expected images of shape {tuple(images.shape)}, got {got}")
        return result
    if fill == "mean":
        return torch.zeros_like(images)
    if fill == "black":
        return ((0 - mean) / std).to(images).expand_as(images)
    if fill == "blur":
        return _blurred(images)
    noise = torch.stack(
        [torch.rand(image.shape, generator=generator_of(image, seed)) for image in images]
    )
    if rounding == "down":
        noise = ((255 * noise).floor() + 0.5) / 256  # the middle of the values that `to_photo` cuts
    return (noise.to(mean.device) - mean).div(std).to(images)


def ties_of(ties: Ties, images: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    """Numbers that order pixels of the same importance, for `rank_pixels`.

    Args:
        ties: See `Protocol`.
        images: (B, 3, H, W).
        size: (h, w) of the maps whose equal values they order.
        seed: Of the random ones.

    Returns:
        (B, h, w), on the images' device.

    Example:
        >>> import torch
        >>> ties_of("raster", torch.zeros(1, 3, 8, 8), (1, 3), seed=0)
        tensor([[[2, 1, 0]]])
    """
    if ties == "random":
        return random_ties(images, size, seed)
    places = torch.arange(size[0] * size[1], device=images.device)
    ordered = places.flip(0) if ties == "raster" else places
    return ordered.view(size).expand(len(images), -1, -1)


def tied_share(maps: Tensor) -> Tensor:
    """The share of each map's pixels whose value another pixel has too.

    Args:
        maps: (B, H, W).

    Returns:
        (B,) float64 in [0, 1].

    Example:
        >>> import torch
        >>> tied_share(torch.tensor([[[0.5, 0.9, 0.5, 0.1]]]))
        tensor([0.5000], dtype=torch.float64)
    """
    ordered = maps.flatten(1).sort(dim=1).values
    same = F.pad(ordered.diff(dim=1) == 0, (1, 1))
    return (same[:, 1:] | same[:, :-1]).double().mean(dim=1)


def splits_ties(maps: Tensor, counts: Tensor) -> Tensor:
    """Whether the order of ties decides which pixels are the first so many.

    Args:
        maps: (B, H, W) importance; larger comes first.
        counts: (P,) int64, from 0 to H * W.

    Returns:
        (B, P) bool, true where pixels of the same value are among the first and the others.

    Example:
        >>> import torch
        >>> splits_ties(torch.tensor([[[0.5, 0.9, 0.5]]]), torch.tensor([0, 1, 2, 3]))
        tensor([[False, False,  True, False]])
    """
    ordered = maps.flatten(1).sort(dim=1, descending=True).values
    same = F.pad(ordered.diff(dim=1) == 0, (1, 1))
    return same[:, counts]


def random_ties(images: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    """Random numbers that depend on the seed and each image's content alone.

    Args:
        images: (B, 3, H, W).
        size: (h, w) of the maps whose equal values they order.
        seed: Any int.

    Returns:
        (B, h, w) float32, uniform in [0, 1), on the images' device.
    """
    # Another stream than the noise's: the order must not follow from what is painted.
    rows = [torch.rand(size, generator=generator_of(image, ~seed)) for image in images]
    return torch.stack(rows).to(images.device)


def _blurred(images: Tensor) -> Tensor:
    """(B, 3, H, W) images, RISE's blur of them; see `filled`."""
    channels = images.shape[1]
    kernel = _blur_kernel().to(images).expand(channels, 1, -1, -1)
    return F.conv2d(images, kernel, padding=_BLUR_SIZE // 2, groups=channels)


def _blur_kernel() -> Tensor:
    """(11, 11) float64 weights: a product, along either side of the window."""
    reach = torch.arange(-_BLUR_REACH, _BLUR_REACH + 1)
    gaussian = (-(reach.double() ** 2) / (2 * _BLUR_SIGMA**2)).exp()
    # Mirrored at both edges, what falls at offset x is what would fall at x + 11 m for any m.
    places = (reach + _BLUR_SIZE // 2) % _BLUR_SIZE
    sides = torch.zeros(_BLUR_SIZE, dtype=torch.float64)
    sides.index_add_(0, places, gaussian / gaussian.sum())
    return torch.outer(sides, sides)
