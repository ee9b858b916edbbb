"""Which pixels come first, and images with the first of them replaced: plain functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cci_captum._seeds import generator_of

from .protocols import Fill

_BLUR_SIZE, _BLUR_SIGMA = 11, 5.0  # RISE's released evaluation


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


def filled(images: Tensor, fill: Fill, mean: Tensor, std: Tensor, seed: int) -> Tensor:
    """What a protocol replaces pixels by.

    Args:
        images: (B, 3, H, W) normalised inputs of the model.
        fill: See `Protocol`.
        mean: (3, 1, 1), what pixel values in [0, 1] were normalised by.
        std: (3, 1, 1).
        seed: Of the noise, which depends on it and the image's content alone.

    Returns:
        (B, 3, H, W), normalised.

    Raises:
        ValueError: If a function returns another shape, or images are too small to blur.
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
    noise = [torch.rand(image.shape, generator=generator_of(image, seed)) for image in images]
    return (torch.stack(noise).to(mean.device) - mean).div(std).to(images)


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
    if min(images.shape[2:]) <= _BLUR_SIZE // 2:
        raise ValueError(
            f"images: expected more than {_BLUR_SIZE // 2} pixels a side to blur, got "
            f"{images.shape[2]} x {images.shape[3]}"
        )
    offsets = torch.arange(_BLUR_SIZE, dtype=torch.float64) - _BLUR_SIZE // 2
    weights = (-(offsets**2) / (2 * _BLUR_SIGMA**2)).exp()
    kernel = (weights / weights.sum()).to(images)
    channels, margin = images.shape[1], _BLUR_SIZE // 2
    padded = F.pad(images, (margin, margin, margin, margin), mode="reflect")
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        one = kernel.view(shape).expand(channels, -1, -1, -1)
        padded = F.conv2d(padded, one, groups=channels)
    return padded
