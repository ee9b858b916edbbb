"""The figure of one explanation or of several of the same images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .attribution.resizing import Upsample, check_upsample
from .explained_words import numbered
from .images import size_within
from .visualization import attribution_grid
from .visualization.grid import signed

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
    explanations: Sequence[Any], *, upsample: Upsample = "nearest", **options: Any
) -> Figure:
    """A row an image, for each text a column of each explanation: maps over the photos.

    Where one is given, of a method that hides clusters, the drops are drawn, all texts of an image
    on one scale. Otherwise maps are, each on its own: methods have no unit in common.

    Args:
        explanations: Each an `Explanation`, of the same images and texts.
        upsample: See `Explanation.on_photo`.
        options: Further ones of `attribution_grid`.

    Raises:
        ValueError: If they are not of the same images and texts.
    """
    check_upsample(upsample)
    first = explanations[0]
    if any((e.names, e.texts) != (first.names, first.texts) for e in explanations):
        raise ValueError("explanations: expected the same images and texts in all")
    alone = len(explanations) == 1 and first.effects is not None
    photos = [photo.resize(drawn_size(photo)) for photo in first.photos]
    drawn = [e.drop_maps() if alone else e.maps for e in explanations]
    columns: dict[str, list[Tensor]] = {}
    scores: dict[str, Tensor] = {}
    for place_ in range(len(first.texts)):
        for explanation, maps in zip(explanations, drawn, strict=True):
            column = str(len(columns))
            columns[column] = _placed(explanation, maps[:, place_], photos, upsample)
            scores[column] = explanation.similarities[:, place_]
    usual: dict[str, Any] = {
        "titles": ["image", *titles_of(first.texts, [e.method for e in explanations])],
        "row_titles": first.row_titles,
        "scores": scores,
        "scale": "per-row" if alone else "per-map",
        "unit": "drop" if alone else None,
    }
    return attribution_grid(photos, columns, **(usual | options))


def words_apart(
    explanation: Any, text: int, *, most: int | None, upsample: Upsample = "nearest", **options: Any
) -> Figure:
    """A row an image, a column a word of one text: maps over the photos, the words' drops below.

    Args:
        explanation: An `Explanation` with words.
        text: Index of the text.
        most: See `Explanation.word_figure`.
        upsample: See `Explanation.on_photo`.
        options: Further ones of `attribution_grid`.
    """
    check_upsample(upsample)
    words = explanation.words
    drops = words.drops[:, text, : len(words.words[text])]
    shown = strongest(drops, most)
    maps = words.maps if words.effects is None else words.drop_maps()
    photos = [photo.resize(drawn_size(photo)) for photo in explanation.photos]
    own_scale = words.effects is None
    usual: dict[str, Any] = {
        "titles": ["image", *numbered([words.words[text][index].text for index in shown])],
        "row_titles": explanation.row_titles,
        "scores": {
            str(index): [f"adds {signed(drop, 3)}" for drop in drops[:, index].tolist()]
            for index in shown
        },
        "scale": "per-map" if own_scale else "per-row",
        "unit": None if own_scale else "in a region",
    }
    columns = {
        str(index): _placed(explanation, maps[:, text, index], photos, upsample) for index in shown
    }
    return attribution_grid(photos, columns, **(usual | options))


def strongest(drops: Tensor, most: int | None) -> list[int]:
    """The columns of drops (B, W), or as many as `most` of the largest absolute value, in order."""
    if most is None:
        return list(range(drops.shape[1]))
    return sorted(drops.abs().amax(dim=0).topk(min(most, drops.shape[1])).indices.tolist())


def _placed(
    explanation: Any, maps: Tensor, photos: Sequence[Image.Image], upsample: Upsample
) -> list[Tensor]:
    """Maps (B, h, w) of an explanation's images, each (H, W) where it lies in its photo."""
    return [
        explanation.placed(maps[index : index + 1], index, (photo.height, photo.width), upsample)[0]
        for index, photo in enumerate(photos)
    ]
