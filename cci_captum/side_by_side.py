"""The figure of one explanation or of several of the same images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .attribution.resizing import Upsample, check_upsample
from .images import size_within
from .visualization import attribution_grid

_LARGEST = 768  # pixels: the longer side of a photo in a figure


def drawn_size(photo: Image.Image) -> tuple[int, int]:
    """Width and height in pixels at which a figure shows a photo."""
    return size_within(photo.size, _LARGEST)


def titles_of(texts: Sequence[str], methods: Sequence[str]) -> list[str]:
    """Of the columns of `side_by_side`."""
    if len(methods) == 1:
        return [*texts]
    return [f"{text}\n{method}" for text in texts for method in methods]


def side_by_side(
    explanations: Sequence[Any],
    *,
    images: Sequence[int] | None = None,
    upsample: Upsample = "nearest",
    **options: Any,
) -> Figure:
    """A row an image, for each text a column of each explanation: maps over the photos.

    Where one is given, of a method that hides clusters, the drops are drawn, all texts of an image
    on one scale. Otherwise maps are, each on its own: methods have no unit in common.

    Args:
        explanations: Each an `Explanation`, of the same images and texts.
        images: Which of them, by index, in this order; None is all.
        upsample: See `Explanation.on_photo`.
        options: Further ones of `attribution_grid`.

    Raises:
        ValueError: If they are not of the same images and texts, or there is no such image.
    """
    check_upsample(upsample)
    first = explanations[0]
    if any((e.names, e.texts) != (first.names, first.texts) for e in explanations):
        raise ValueError("explanations: expected the same images and texts in all")
    alone = len(explanations) == 1 and first.effects is not None
    chosen = range(len(first)) if images is None else images
    if not chosen or any(index not in range(len(first)) for index in chosen):
        raise ValueError(f"images: expected some of 0 to {len(first) - 1}, got {list(chosen)}")
    photos = [photo.resize(drawn_size(photo)) for photo in (first.photos[i] for i in chosen)]
    drawn = [e.drop_maps() if alone else e.maps for e in explanations]
    columns: dict[str, list[Tensor]] = {}
    scores: dict[str, Tensor] = {}
    for place_ in range(len(first.texts)):
        for explanation, maps in zip(explanations, drawn, strict=True):
            column = str(len(columns))
            columns[column] = [
                explanation.placed(
                    maps[index, place_ : place_ + 1], index, (photo.height, photo.width), upsample
                )[0]
                for index, photo in zip(chosen, photos, strict=True)
            ]
            scores[column] = explanation.similarities[list(chosen), place_]
    titles = first.row_titles
    usual: dict[str, Any] = {
        "titles": ["image", *titles_of(first.texts, [e.method for e in explanations])],
        "row_titles": titles and [titles[index] for index in chosen],
        "scores": scores,
        "scale": "per-row" if alone else "per-map",
        "unit": "drop" if alone else None,
    }
    return attribution_grid(photos, columns, **(usual | options))
