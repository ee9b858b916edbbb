"""Maps over their images, which show the value under the pointer or the arrow keys."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from numpy.typing import NDArray
from PIL import Image

from .._colours import DIVERGING_STOPS, diverging, is_dark
from ._inputs import (
    Box,
    Score,
    to_boxes,
    to_images,
    to_maps,
    to_scores,
    to_sentences,
    to_text,
    to_texts,
)
from ._pictures import data_uri

_DIGITS = 4  # significant ones of a map's values


def map_view(
    images: Sequence[Image.Image],
    columns: Mapping[str, Sequence[Any]],
    *,
    row_titles: Sequence[str] | None = None,
    scores: Mapping[str, Sequence[Score]] | None = None,
    fields_of_view: Sequence[Box | None] | None = None,
    sentences: Sequence[Sequence[tuple[str, float | None]]] | None = None,
    unit: str = "",
    title: str = "",
    fragment: bool = True,
) -> str:
    """Show maps over their images in HTML: a row an image, and in it a picture for each column.

    Red supports, blue opposes, white is zero, and the image shows through as brightness, as in
    `attribution_grid`. The patch under the pointer, or under a cursor that the arrow keys move,
    is marked in all maps of its image, and its value stands below each. A slider sets how much
    the maps cover; colours are full at the largest absolute value of each map, or of all maps of
    the view, as the reader chooses.

    The HTML holds the images, the values, its style and its script, and asks nothing of
    anywhere: it works from a file. Where scripts are off it shows the images, and of each map
    its title, score and range. Several views may stand on one page.

    Args:
        images: B PIL images, shown at no more than 640 pixels along their longer side.
        columns: Column title, such as a prompt or a method, -> B maps (h, w), arrays or tensors of
            numbers, which may differ in size. Row 0 is the top one. The page holds their values
            with 4 significant digits.
        row_titles: One title an image. None: none.
        scores: Column title -> B numbers or strings, shown with the maps.
        fields_of_view: Where each image's maps belong: (left, top, right, bottom) in pixels of the
            image, which may reach beyond it where the model's input was padded. What lies
            outside is shown pale, since the model did not see it. None, for one or for all: the
            whole image.
        sentences: For each image a text in pieces, each with a value or None, shown above its maps
            with the pieces in the colours of their values, full at the largest absolute one of
            all; see `cci_captum.visualization.text_heat`.
        unit: What values are measured in, such as "logit"; it follows each value. With a unit
            the maps are first drawn on one scale, since their strengths can be compared; without,
            each on its own.
        title: Of the view.
        fragment: True: a `<div>`, which `_repr_html_` may return. False: a page.

    Returns:
        The HTML. All texts are escaped. Two calls give ids of their own, and so never the same
        text.

    Raises:
        TypeError: If an image is no PIL image, or a text no string.
        ValueError: If lengths or names do not fit, a map is not (h, w) or has NaN or infinity, or
            a field of view is no rectangle that overlaps its image.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> photo = Image.new("RGB", (120, 96), "white")
        >>> maps = {"a cat": [np.eye(4)], "a dog": [-np.eye(4)]}
        >>> html = map_view([photo], maps, unit="logit", fields_of_view=[(12, 0, 108, 96)])
        >>> html.startswith("<div"), html.count("<canvas")
        (True, 2)
    """
    photos = to_images(images)
    maps = to_maps(columns, len(photos))
    titles = to_texts("row_titles", row_titles, len(photos))
    texts = to_scores(scores, [*maps], len(photos))
    boxes = to_boxes(fields_of_view, photos)
    rows = [
        row_of(
            index,
            titles,
            {name: column[index] for name, column in maps.items()},
            {name: column[index] for name, column in texts.items()},
            photo=data_uri(photo),
            size=photo.size,
            box=box,
        )
        for index, (photo, box) in enumerate(zip(photos, boxes, strict=True))
    ]
    told = to_sentences(sentences, len(photos))
    values = [abs(value) for pieces in told for _, value in pieces if value is not None]
    full = max(values, default=0.0) or 1.0
    for row, pieces in zip(rows, told, strict=False):
        row["sentence"] = [_piece(*piece, full) for piece in pieces]
    return render(rows, unit=unit, title=title, fragment=fragment)


def row_of(
    index: int,
    titles: list[str],
    maps: Mapping[str, NDArray[np.float64]],
    scores: Mapping[str, str],
    *,
    photo: str,
    size: tuple[int, int],
    box: Box,
    **data: Any,
) -> dict[str, Any]:
    """What the template says of one image; "data" is what its script reads.

    Args:
        index: Of the image.
        titles: Of all images, or none.
        maps: Column title -> (h, w).
        scores: Column title -> what stands with the map; nothing where it is empty.
        photo: A data URI.
        size: Width and height of the photo.
        box: What the maps cover, in its pixels.
        data: More for the script.
    """
    frame = _frame(size, box)
    title = titles[index] if titles else ""
    return {
        "title": title,
        "name": title or f"image {index + 1}",
        "source": photo,
        "ratio": frame[2] / frame[3],
        "place": {  # of the photo in the frame, in percent
            "left": 100 * abs(frame[0]) / frame[2],
            "top": 100 * abs(frame[1]) / frame[3],
            "width": 100 * size[0] / frame[2],
            "height": 100 * size[1] / frame[3],
        },
        "maps": [
            {
                "title": name,
                "score": scores[name],
                "highest": _text(float(map_.max())),
                "lowest": _text(float(map_.min())),
            }
            for name, map_ in maps.items()
        ],
        "sentence": [],
        "numbers": [],  # written on the photo
        "data": {
            "size": size,
            "box": (box[0], box[1], box[2] - box[0], box[3] - box[1]),
            "frame": frame,
            "maps": [_rounded(map_) for map_ in maps.values()],
            **data,
        },
    }


def render(
    rows: list[dict[str, Any]], *, unit: str, title: str, fragment: bool, clusters: bool = False
) -> str:
    """The HTML of rows, which show clusters or photos."""
    return _template().render(
        id=f"cci-{uuid.uuid4().hex}",
        rows=rows,
        data={
            "unit": to_text("unit", unit),
            "stops": DIVERGING_STOPS,
            "rows": [row["data"] for row in rows],
        },
        unit=to_text("unit", unit),
        title=to_text("title", title),
        fragment=fragment,
        clusters=clusters,
    )


def _piece(text: str, value: float | None, full: float) -> dict[str, str]:
    """What the template says of a piece of a text."""
    if value is None:
        return {"text": text, "value": ""}
    red, green, blue = diverging(value / full)
    dark = is_dark(red / 255, green / 255, blue / 255)
    return {
        "text": text,
        "value": _text(value),
        "colour": f"rgb({red} {green} {blue})",
        "ink": "#fff" if dark else "#222",
    }


def _frame(size: tuple[int, int], box: Box) -> Box:
    """The rectangle around an image and its field of view: left, top, width, height."""
    left, top = min(box[0], 0.0), min(box[1], 0.0)
    return left, top, max(box[2], size[0]) - left, max(box[3], size[1]) - top


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}") + 0.0  # no negative zero


def _rounded(values: NDArray[np.float64]) -> list[list[float]]:
    return [[_round(value) for value in line] for line in values.tolist()]


def _text(value: float) -> str:
    """A value as the script writes it, with a sign."""
    sign = "+" if value > 0 else "\N{MINUS SIGN}" if value < 0 else ""
    size = abs(_round(value))
    if 0 < size < 1e-6:
        digits = np.format_float_scientific(size, trim="-", exp_digits=1)
        return sign + digits.replace("e-", "e\N{MINUS SIGN}")
    return sign + np.format_float_positional(size, trim="-")


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("cci_captum.html", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template("view.html")
