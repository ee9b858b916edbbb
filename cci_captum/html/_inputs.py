"""What a caller hands over to a view, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .._checks import check_pieces
from ..names import encodable

Box = tuple[float, float, float, float]
Score = float | str
Piece = tuple[str, float | None]


def to_images(images: Sequence[Image.Image]) -> list[Image.Image]:
    """Images in RGB."""
    if isinstance(images, (Image.Image, str)) or not isinstance(images, Sequence):
        raise TypeError(f"images: expected a list of PIL images, got {type(images).__name__}")
    for index, image in enumerate(images):
        if not isinstance(image, Image.Image):
            raise TypeError(f"images[{index}]: expected a PIL image, got {type(image).__name__}")
    if not images:
        raise ValueError("images: expected at least one image, got none")
    return [image.convert("RGB") for image in images]


def to_maps(
    columns: Mapping[str, Sequence[Any]], count: int
) -> dict[str, list[NDArray[np.float64]]]:
    """Column title -> count maps (h, w), finite."""
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns: expected title -> maps, got {type(columns).__name__}")
    if not columns:
        raise ValueError("columns: expected at least one column, got none")
    found: dict[str, list[NDArray[np.float64]]] = {}
    for title, column in columns.items():
        argument = f"columns[{title!r}]"
        _check_length(argument, column, count, "maps, one an image")
        found[to_text("columns", title)] = [
            _to_map(f"{argument}[{index}]", values) for index, values in enumerate(column)
        ]
    return found


def to_labels(labels: Sequence[Any]) -> list[NDArray[np.int64]]:
    """Of each image (h, w), at least one image."""
    if not hasattr(labels, "__len__"):
        raise TypeError(f"labels: expected a clustering an image, got {labels!r}")
    if len(labels) == 0:
        raise ValueError("labels: expected at least one image, got none")
    found = []
    for index, image in enumerate(labels):
        array = _to_map(f"labels[{index}]", image)
        if (array != array.round()).any() or array.min() < 0:
            raise ValueError(f"labels[{index}]: expected whole numbers from 0 on, got others")
        found.append(array.astype(np.int64))
    return found


def to_drops(
    columns: Mapping[str, Sequence[Any]], labels: list[NDArray[np.int64]]
) -> dict[str, list[NDArray[np.float64]]]:
    """Column title -> a row (K,) of finite numbers an image, a number for each cluster."""
    if not isinstance(columns, Mapping):
        raise TypeError(f"columns: expected title -> drops, got {type(columns).__name__}")
    if not columns:
        raise ValueError("columns: expected at least one column, got none")
    found = {}
    for title, column in columns.items():
        argument = f"columns[{title!r}]"
        _check_length(argument, column, len(labels), "rows of drops, one an image")
        found[to_text("columns", title)] = [
            _to_row(f"{argument}[{index}]", row, image)
            for index, (row, image) in enumerate(zip(column, labels, strict=True))
        ]
    return found


def to_numbers(clusters: Sequence[Any] | None, labels: list[NDArray[np.int64]]) -> list[list[int]]:
    """What each cluster of each image is called."""
    if clusters is None:
        return [[*range(int(image.max()) + 1)] for image in labels]
    _check_length("clusters", clusters, len(labels), "rows of numbers, one an image")
    return [
        [round(number) for number in _to_row(f"clusters[{index}]", row, image).tolist()]
        for index, (row, image) in enumerate(zip(clusters, labels, strict=True))
    ]


def to_scores(
    scores: Mapping[str, Sequence[Score]] | None, titles: list[str], count: int
) -> dict[str, list[str]]:
    """Column title -> count texts, which are empty where a column has no scores."""
    given = scores or {}
    if unknown := [title for title in given if title not in titles]:
        raise ValueError(f"scores: expected columns among {titles}, got {unknown}")
    for title, column in given.items():
        _check_length(f"scores[{title!r}]", column, count, "scores, one an image")
    return {
        title: [
            _to_score(f"scores[{title!r}][{index}]", score)
            for index, score in enumerate(given.get(title, [""] * count))
        ]
        for title in titles
    }


def to_boxes(boxes: Sequence[Box | None] | None, images: Sequence[Image.Image]) -> list[Box]:
    """Left, top, right and bottom of what the maps of each image cover, in its pixels."""
    if boxes is None:
        boxes = [None] * len(images)
    _check_length("fields_of_view", boxes, len(images), "boxes, one an image")
    found = []
    for index, (box, image) in enumerate(zip(boxes, images, strict=True)):
        width, height = image.size
        try:
            sides = [float(side) for side in ((0, 0, width, height) if box is None else box)]
        except (TypeError, ValueError):
            sides = []
        if len(sides) != 4 or not all(map(math.isfinite, sides)):
            raise ValueError(
                f"fields_of_view[{index}]: expected 4 finite numbers (left, top, right, bottom), "
                f"got {box!r}"
            )
        left, top, right, bottom = (round(side, 2) + 0.0 for side in sides)
        if not (left < right and top < bottom):
            raise ValueError(
                f"fields_of_view[{index}]: expected left < right and top < bottom, got {box!r}"
            )
        if not (left < width and right > 0 and top < height and bottom > 0):
            raise ValueError(
                f"fields_of_view[{index}]: expected a box that overlaps its image of {width} x "
                f"{height} pixels, got {box!r}"
            )
        found.append((left, top, right, bottom))
    return found


def to_sentences(sentences: Sequence[Sequence[Piece]] | None, count: int) -> list[list[Piece]]:
    """Count texts in pieces, or none at all for None."""
    if sentences is None:
        return []
    _check_length("sentences", sentences, count, "texts in pieces")
    return [
        [(encodable(text), value) for text, value in check_pieces(f"sentences[{index}]", pieces)]
        for index, pieces in enumerate(sentences)
    ]


def to_texts(argument: str, texts: Sequence[str] | None, count: int) -> list[str]:
    """Count strings, or none at all for None."""
    if texts is None:
        return []
    _check_length(argument, texts, count, "strings")
    return [to_text(f"{argument}[{index}]", text) for index, text in enumerate(texts)]


def to_text(argument: str, text: str) -> str:
    """A string that can be written to a file."""
    if not isinstance(text, str):
        raise TypeError(f"{argument}: expected a string, got {text!r}")
    return encodable(text)


def _to_score(argument: str, score: Score) -> str:
    if isinstance(score, str):
        return encodable(score)
    try:
        return f"{float(score):.3f}"
    except (TypeError, ValueError):
        raise TypeError(f"{argument}: expected a number or a string, got {score!r}") from None


def _to_map(argument: str, values: Any) -> NDArray[np.float64]:
    return _to_array(argument, values, 2, "a map (h, w) of numbers")


def _to_row(argument: str, values: Any, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    row = _to_array(argument, values, 1, "a row (K,) of numbers")
    if len(row) <= labels.max():
        raise ValueError(
            f"{argument}: expected a number for each of {labels.max() + 1} clusters, got {len(row)}"
        )
    return row


def _to_array(argument: str, values: Any, ndim: int, what: str) -> NDArray[np.float64]:
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()  # numpy has no bfloat16
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{argument}: expected {what}, got lines that differ in length") from None
    if array.ndim != ndim or array.size == 0 or array.dtype.kind not in "biuf":
        raise ValueError(f"{argument}: expected {what}, got shape {array.shape}, {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{argument}: expected finite numbers, got NaN or infinity")
    return array


def _check_length(argument: str, values: Any, count: int, what: str) -> None:
    if isinstance(values, (str, Mapping)) or not hasattr(values, "__len__"):
        raise TypeError(f"{argument}: expected {count} {what}, got {values!r}")
    if len(values) != count:
        raise ValueError(f"{argument}: expected {count} {what}, got {len(values)}")
