"""Clusters and what hiding each did, without photos."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .._regions import innermost
from ._inputs import Score, to_drops, to_labels, to_numbers, to_scores, to_texts
from ._pictures import data_uri
from .view import render, row_of

_LONGEST = 256  # pixels of a picture of clusters
_INK = (0x22, 0x22, 0x22)
_GOLDEN = 0.618034  # turns of the hue from cluster to cluster: neighbours in number are far apart


def cluster_view(
    labels: Sequence[Any],
    columns: Mapping[str, Sequence[Any]],
    *,
    clusters: Sequence[Any] | None = None,
    row_titles: Sequence[str] | None = None,
    scores: Mapping[str, Sequence[Score]] | None = None,
    unit: str = "drop",
    title: str = "",
    fragment: bool = True,
) -> str:
    """Show clusters and the drop of each in HTML: a row an image, which is not shown itself.

    A row begins with the clusters in colours of their own, with their numbers; a map follows for
    each column, red where hiding a cluster lowers the output and blue where it raises it. The
    cluster under the pointer, or under a cursor that the arrow keys move, is outlined in all maps
    of its image, and its drop stands below each. All else is as in `map_view`.

    `cci_captum.ClusterEffects.to_html` makes it of effects, and a notebook that ends a cell with
    effects shows it.

    Args:
        labels: (B, h, w) whole numbers, or B of (h, w): of each patch the column of its cluster in
            drops. Row 0 is the top one.
        columns: Column title, such as a class or a prompt, -> (B, K) drops.
        clusters: (B, K) whole numbers, what each cluster is called. None: 0 to K - 1.
        row_titles: One title an image. None: none.
        scores: Column title -> B numbers or strings, shown with the maps.
        unit: What drops are measured in; it follows each value. With a unit the maps are first
            drawn on one scale, without, each on its own.
        title: Of the view.
        fragment: True: a `<div>`, which `_repr_html_` may return. False: a page.

    Returns:
        The HTML. All texts are escaped.

    Raises:
        TypeError: If an argument is of another type, or a text no string.
        ValueError: If shapes, lengths or names do not fit, or drops have NaN or infinity.

    Example:
        >>> html = cluster_view([[[0, 0, 1], [2, 2, 1]]], {"a cat": [[0.25, -0.125, 0.0]]})
        >>> html.startswith("<div"), html.count("<canvas")
        (True, 1)
    """
    images = to_labels(labels)
    drops = to_drops(columns, images)
    titles = to_texts("row_titles", row_titles, len(images))
    texts = to_scores(scores, [*drops], len(images))
    names = to_numbers(clusters, images)
    rows = []
    for index, image in enumerate(images):
        height, width = image.shape
        row = row_of(
            index,
            titles,
            {name: column[index][image] for name, column in drops.items()},
            {name: column[index] for name, column in texts.items()},
            photo=data_uri(_picture(image)),
            size=(width, height),
            box=(0.0, 0.0, float(width), float(height)),
            labels=image.tolist(),
            clusters=names[index],
        )
        row["numbers"] = [
            {
                "text": names[index][k],
                "left": 100 * (column + 0.5) / width,
                "top": 100 * (line + 0.5) / height,
            }
            for k in np.unique(image).tolist()
            for line, column in innermost(image == k)[:1].tolist()
        ]
        rows.append(row)
    return render(rows, unit=unit, title=title, fragment=fragment, clusters=True)


def _picture(labels: NDArray[np.int64]) -> Image.Image:
    """Clusters in pale colours, with lines between them."""
    colours = [colorsys.hsv_to_rgb(k * _GOLDEN % 1, 0.3, 0.97) for k in range(labels.max() + 1)]
    side = max(1, _LONGEST // max(labels.shape))
    large = labels.repeat(side, axis=0).repeat(side, axis=1)
    pixels = (255 * np.array(colours)).round().astype(np.uint8)[large]
    if side > 2:  # else there is no room for lines
        pixels[1:][large[1:] != large[:-1]] = _INK
        pixels[:, 1:][large[:, 1:] != large[:, :-1]] = _INK
    return Image.fromarray(pixels)
