"""The figure of one explanation or of several of the same images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .attribution.resizing import Upsample, check_upsample
from .explained_words import pieces
from .images import size_within
from .visualization import attribution_grid, text_heat
from .visualization._lettering import signed
from .visualization.strongest import outlined

MOST_WORDS = 8  # in a figure or a view of its own accord

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
    upsample: Upsample = "nearest",
    outline: bool | Sequence[int] = False,
    **options: Any,
) -> Figure:
    """A row an image, for each text a column of each explanation: maps over the photos.

    Where one is given, of a method that hides clusters, the drops are drawn, all texts of an image
    on one scale. Otherwise maps are, each on its own: methods have no unit in common.

    Args:
        explanations: Each an `Explanation`, of the same images and texts.
        upsample: See `Explanation.on_photo`.
        outline: True draws a line around the cluster with the largest drop of each map, or none
            where no drop is above rounding; or around those of B numbers. See `show_clusters`.
        options: Further ones of `attribution_grid`.

    Raises:
        ValueError: If they are not of the same images and texts, or a method hides no clusters
            and outline asks for one.
    """
    first = explanations[0]
    if any((e.names, e.texts) != (first.names, first.texts) for e in explanations):
        raise ValueError("explanations: expected the same images and texts in all")
    alone = len(explanations) == 1 and first.effects is not None
    photos, usual = _drawn(first, upsample)
    asked = not isinstance(outline, bool) or outline
    if asked and (without := [e.method for e in explanations if e.effects is None]):
        raise ValueError(f"outline: expected methods that hide clusters, got {', '.join(without)}")
    drawn = [e.drop_maps() if alone else e.maps for e in explanations]
    columns: dict[str, Tensor] = {}
    scores: dict[str, Tensor] = {}
    outlines: dict[str, Any] = {}
    for place in range(len(first.texts)):
        for explanation, maps in zip(explanations, drawn, strict=True):
            column = str(len(columns))
            columns[column] = maps[:, place]
            scores[column] = explanation.similarities[:, place]
            if asked:
                outlines[column] = outlined(explanation.effects, place, outline)
    usual |= {
        "titles": ["image", *titles_of(first.texts, [e.method for e in explanations])],
        "scores": scores,
        "outlines": outlines,
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
    names, drops, maps = explanation.words.strongest(text, most)
    own_scale = explanation.words.effects is None
    photos, usual = _drawn(explanation, upsample)
    usual |= {
        "titles": [f"image, {explanation.method}", *names],
        "scores": {
            str(place): [f"adds {signed(drop, 3)}" for drop in column]
            for place, column in enumerate(drops.T.tolist())
        },
        "scale": "per-map" if own_scale else "per-row",
        "unit": None if own_scale else "in a region",
    }
    columns = {str(place): maps[:, place] for place in range(len(names))}
    return attribution_grid(photos, columns, **(usual | options))


def texts_coloured(explanation: Any, **options: Any) -> Figure:
    """The texts of each image, each word in the colour of its drop.

    Args:
        explanation: An `Explanation` with words.
        options: Of `text_heat`.
    """
    words, texts, titles = explanation.words, explanation.texts, explanation.row_titles
    coloured = [
        pieces(text, own, values)
        for drops in words.drops.tolist()
        for text, own, values in zip(texts, words.words, drops, strict=True)
    ]
    if titles is not None:  # once an image, beside the first of its texts
        titles = [title for name in titles for title in (name, *[""] * (len(texts) - 1))]
    return text_heat(coloured, **({"row_titles": titles} | options))


def _drawn(explanation: Any, upsample: Upsample) -> tuple[list[Image.Image], dict[str, Any]]:
    """Photos as they are drawn, and options of `attribution_grid`: where maps lie in them."""
    check_upsample(upsample)
    photos = [photo.resize(drawn_size(photo)) for photo in explanation.photos]
    boxes = []
    for index, (photo, drawn) in enumerate(zip(explanation.photos, photos, strict=True)):
        sides = (drawn.width / photo.width, drawn.height / photo.height) * 2
        area = explanation.map_area(index)
        boxes.append(tuple(edge * side for edge, side in zip(area, sides, strict=True)))
    options = {
        "row_titles": explanation.row_titles,
        "fields_of_view": boxes,
        "interpolation": upsample,
    }
    return photos, options
