"""What a caller may hand over as images, maps and texts, checked once and turned into arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import FigureBase
from numpy.typing import NDArray
from torch import Tensor

from ..names import encodable

Array = NDArray[np.float64]

_TOLERANCE = 1e-3  # resizing and de-normalising may leave [0, 1] by a rounding error


def denormalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Undo the normalisation of a model's preprocessing, so that images can be shown.

    Args:
        images: (B, C, H, W) or (C, H, W), normalised as (x - mean) / std.
        mean: The mean of each channel, C values.
        std: The standard deviation of each channel, C values.

    Returns:
        x, clipped to [0, 1], in the shape of images.

    Raises:
        ValueError: If mean or std does not have one value for each channel.

    Example:
        >>> import torch
        >>> images = denormalize(torch.zeros(1, 3, 2, 2), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
        >>> images[0, :, 0, 0]
        tensor([0.5000, 0.4000, 0.3000])
    """
    channels = images.shape[-3]
    if not len(mean) == len(std) == channels:
        raise ValueError(
            f"mean and std: expected {channels} values each, one a channel of images, got "
            f"{len(mean)} and {len(std)}"
        )
    shape = (channels, 1, 1)
    shown = images * images.new_tensor(std).view(shape) + images.new_tensor(mean).view(shape)
    return shown.clamp(0, 1)


def to_array(values: Any) -> NDArray[Any]:
    """A tensor of any device and dtype, or anything array-like, as a numpy array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return np.asarray((values.double() if values.is_floating_point() else values).numpy())
    return np.asarray(values)


def to_images(images: Any) -> list[Array]:
    """Images as a list of (H, W, 3) float64 arrays in [0, 1].

    Tensors hold channels first, arrays and PIL images channels last. Whole numbers are read as
    0 to 255, floating point numbers as 0 to 1.
    """
    if not isinstance(images, (Tensor, np.ndarray, Sequence)):
        raise TypeError(
            "images: expected a tensor, an array or a list of images, got "
            f"{type(images).__name__}; put a single image into a list"
        )
    if isinstance(images, (Tensor, np.ndarray)) and images.ndim != 4:
        raise ValueError(
            "images: expected a batch, (B, 3, H, W) as a tensor or (B, H, W, 3) as an array, or "
            f"a list of images, got shape {tuple(images.shape)}"
        )
    if len(images) == 0:
        raise ValueError("images: expected at least one image, got none")
    return [_to_image(image, index) for index, image in enumerate(images)]


def _to_image(image: Any, index: int) -> Array:
    if hasattr(image, "convert"):  # a PIL image
        image = np.asarray(image.convert("RGB"))
    pixels = to_array(image)
    if isinstance(image, Tensor) and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or pixels.size == 0:
        order = "(3, H, W)" if isinstance(image, Tensor) else "(H, W, 3)"
        raise ValueError(
            f"images[{index}]: expected shape {order}, or one channel, got {np.shape(image)}"
        )
    if pixels.dtype.kind in "ui":
        pixels = pixels / 255
    pixels = pixels.astype(np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        raise ValueError(
            f"images[{index}]: expected values in [0, 1], got {low:.3g} to {high:.3g}; the "
            "normalised inputs of a model need cci_captum.visualization.denormalize first"
        )
    return np.broadcast_to(pixels.clip(0, 1), (*pixels.shape[:2], 3))


def to_maps(name: str, maps: Any, count: int) -> list[Array]:
    """Maps of one column as count arrays (h, w): the mean over channels, if there are any."""
    if not hasattr(maps, "__len__"):
        raise TypeError(f"maps[{name!r}]: expected a tensor or an array, got {type(maps).__name__}")
    if len(maps) != count:
        raise ValueError(f"maps[{name!r}]: expected {count} maps, one an image, got {len(maps)}")
    result = []
    for index, row in enumerate(maps):
        values = to_array(row).astype(np.float64)
        if values.ndim == 3:
            values = values.mean(axis=0)
        if values.ndim != 2 or values.size == 0:
            raise ValueError(
                f"maps[{name!r}]: expected shape (B, h, w) or (B, C, h, w), got "
                f"{(count, *np.shape(row))}"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"maps[{name!r}]: NaN or infinity in the map of image {index}")
        result.append(values)
    return result


def to_masks(masks: Any, count: int) -> list[NDArray[np.bool_]]:
    """Masks as count arrays (H, W) of bool."""
    if not hasattr(masks, "__len__") or len(masks) != count:
        got = len(masks) if hasattr(masks, "__len__") else type(masks).__name__
        raise ValueError(f"masks: expected {count} masks, one an image, got {got}")
    return [_to_mask(f"masks[{index}]", mask) for index, mask in enumerate(masks)]


def _to_mask(name: str, mask: Any) -> NDArray[np.bool_]:
    found = to_array(mask)
    if found.dtype != np.bool_ or found.ndim != 2 or not found.size:
        raise ValueError(
            f"{name}: expected bool of shape (H, W), got {found.dtype} of shape {found.shape}"
        )
    return found


def to_outlines(
    outlines: Any, columns: Sequence[str], count: int
) -> dict[str, list[NDArray[np.bool_] | None]]:
    """Column name -> count masks (h, w) of bool, or None where there is none."""
    if not isinstance(outlines, Mapping):
        raise TypeError(f"outlines: expected column name -> masks, got {type(outlines).__name__}")
    if unknown := [name for name in outlines if name not in columns]:
        raise ValueError(f"outlines: expected columns among {[*columns]}, got {unknown}")
    found: dict[str, list[NDArray[np.bool_] | None]] = {}
    for name, masks in outlines.items():
        if len(masks) != count:
            raise ValueError(
                f"outlines[{name!r}]: expected {count} masks, one an image, got {len(masks)}"
            )
        found[name] = [
            None if mask is None else _to_mask(f"outlines[{name!r}][{index}]", mask)
            for index, mask in enumerate(masks)
        ]
    return found


def to_boxes(boxes: Any, pictures: Sequence[Array]) -> list[tuple[float, ...] | None]:
    """Boxes in pixels of each picture as shares of its width and height; None for each of None."""
    if boxes is None:
        return [None] * len(pictures)
    if len(boxes) != len(pictures):
        raise ValueError(
            f"fields_of_view: expected {len(pictures)} boxes, one an image, got {len(boxes)}"
        )
    found: list[tuple[float, ...] | None] = []
    for index, (box, picture) in enumerate(zip(boxes, pictures, strict=True)):
        edges = tuple(float(edge) for edge in box)
        if len(edges) != 4 or not (edges[0] < edges[2] and edges[1] < edges[3]):
            raise ValueError(
                f"fields_of_view[{index}]: expected left, top, right, bottom, got {edges}"
            )
        height, width = picture.shape[:2]
        found.append(tuple(e / s for e, s in zip(edges, (width, height) * 2, strict=True)))
    return found


def cut_out(picture: Array, box: tuple[float, ...] | None) -> Array:
    """The part of a picture (H, W, 3) in a box in shares of it; white beyond it. None is all."""
    if box is None:
        return picture
    height, width = picture.shape[:2]
    left, top, right, bottom = (round(e * s) for e, s in zip(box, (width, height) * 2, strict=True))
    found = np.ones((max(bottom - top, 1), max(right - left, 1), 3))
    inside = picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    row, column = max(-top, 0), max(-left, 0)
    found[row : row + inside.shape[0], column : column + inside.shape[1]] = inside
    return found


def check_shapes(what: str, maps: Sequence[NDArray[Any] | None], pictures: Sequence[Array]) -> None:
    """Raise unless each map (h, w) may be one of its whole picture, but for a part of a patch."""
    for index, (map_, picture) in enumerate(zip(maps, pictures, strict=True)):
        if map_ is None:
            continue
        (h, w), (height, width) = map_.shape, picture.shape[:2]
        if min(abs(h * width - w * height) / width, abs(h * width - w * height) / height) >= 1:
            raise ValueError(
                f"{what}: a map of {h} x {w} cannot be one of all of image {index}, which "
                f"is {height} x {width}; say which part of the image it shows: fields_of_view="
                "[(left, top, right, bottom), ...] in its pixels, as Explanation.field_of_view has "
                "them, or [(0, 0, width, height)] where the image was squashed"
            )


def to_colormap(cmap: Any) -> Colormap:
    """A matplotlib colormap, or that of a name."""
    if isinstance(cmap, Colormap):
        return cmap
    if not isinstance(cmap, str) or cmap not in colormaps:
        raise ValueError(f"cmap: expected a matplotlib colormap or its name, got {cmap!r}")
    return colormaps[cmap]


def to_texts(name: str, texts: Sequence[str] | None, count: int) -> list[str]:
    """Texts as a list of count strings, or no strings at all for None."""
    if texts is None:
        return []
    if isinstance(texts, str) or len(texts) != count:
        raise ValueError(f"{name}: expected a list of {count} strings, got {texts!r}")
    # Names of files may hold lone surrogates, which no font takes.
    return [encodable(str(text)) for text in texts]


def check_canvas(fig: Any, ax: Any, width: float | None = None) -> None:
    """Raise unless at most one of them is given, and is what it should be."""
    if fig is not None and not isinstance(fig, FigureBase):
        raise TypeError(f"fig: expected a matplotlib Figure or SubFigure, got {type(fig).__name__}")
    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(f"ax: expected matplotlib Axes, got {type(ax).__name__}")
    if fig is not None and ax is not None:
        raise ValueError("ax: expected None together with fig, got both")
    if width is not None and (fig is not None or ax is not None):
        raise ValueError(f"width: expected None with fig or ax, which have their own, got {width}")


def positive_number(name: str, value: float) -> float:
    """The value as a float, if it is a finite number above zero."""
    if not (value > 0 and np.isfinite(value)):
        raise ValueError(f"{name}: expected a finite number above 0, got {value}")
    return float(value)
