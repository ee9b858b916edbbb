"""An `Explanation` as a notebook and a terminal show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from .explained_words import pieces
from .html import map_view
from .side_by_side import MOST_WORDS


def described(explanation: Any) -> str:
    """An explanation in a line."""
    images, texts, *size = explanation.maps.shape
    return (
        f"Explanation({images} image{'s'[: images != 1]}, {texts} text{'s'[: texts != 1]}, "
        f"{explanation.method} of {explanation.model}, {explanation.score}, "
        f"maps {' x '.join(map(str, size))})"
    )


def view_of(explanation: Any) -> str:
    """The maps of an explanation's texts in HTML, then those of the words of each text."""
    drawn = explanation.maps if explanation.effects is None else explanation.drop_maps()
    texts, similarities = explanation.texts, explanation.similarities
    views = [
        _view(
            explanation,
            {text: drawn[:, place] for place, text in enumerate(texts)},
            {text: similarities[:, place] for place, text in enumerate(texts)},
            title=f"{explanation.method}, {explanation.model}",
        )
    ]
    if explanation.words is not None:
        views += [_view_of_words(explanation, text) for text in range(len(texts))]
    return "".join(views)


def _view_of_words(explanation: Any, text: int) -> str:
    words, sentence = explanation.words, explanation.texts[text]
    names, drops, maps = words.strongest(text, MOST_WORDS)
    values = words.drops[:, text].tolist()
    try:
        sentences = [pieces(sentence, words.words[text], row) for row in values]
    except ValueError:  # words that overlap
        sentences = None
    return _view(
        explanation,
        {name: maps[:, place] for place, name in enumerate(names)},
        {name: drops[:, place] for place, name in enumerate(names)},
        sentences=sentences,
    )


def _view(
    explanation: Any, maps: dict[str, Tensor], scores: dict[str, Tensor], **options: Any
) -> str:
    return map_view(
        explanation.photos,
        {name: list(column.cpu()) for name, column in maps.items()},
        fields_of_view=[explanation.map_area(index) for index in range(len(explanation))],
        row_titles=[Path(name).name for name in explanation.names],
        scores={name: column.tolist() for name, column in scores.items()},
        unit="" if explanation.effects is None else f"drop in {explanation.score}",
        **options,
    )
