"""Images with their maps as numbers, drawn by plain JavaScript; no request to anywhere."""

from __future__ import annotations

import base64
import io
import json
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from PIL import Image

from .._checks import check_choice
from ..visualization._page import STOPS

Box = tuple[float, float, float, float]
_LARGEST = 640  # pixels: the longer side of an image in a page
_QUALITY = 85
_DIGITS = 4  # of the values
_SCALES = ("per-map", "per-row")


def map_view(
    images: Sequence[Image.Image],
    columns: Mapping[str, Sequence[Any]],
    *,
    boxes: Sequence[Box] | None = None,
    row_titles: Sequence[str] | None = None,
    scores: Mapping[str, Sequence[float]] | None = None,
    unit: str = "",
    title: str = "",
    scale: Literal["per-map", "per-row"] = "per-map",
    fragment: bool = True,
) -> str:
    """HTML that shows maps over images and tells the value under the pointer.

    Red supports, blue opposes, white is zero, as in `attribution_grid`. Arrow keys move over the
    patches of a map that has the focus. Works from a file, without a network and in several copies
    a page.

    Args:
        images: B RGB images; larger ones are scaled down to 640 pixels.
        columns: Title -> B maps (h, w), numbers, of four digits in the page.
        boxes: Of each image the rectangle that its maps cover: left, top, right, bottom in its
            pixels, beyond it where it was padded; None is all of it.
        row_titles: Of the images.
        scores: Title of a column -> B numbers.
        unit: Of the maps' values, such as "cosine".
        title: Above all.
        scale: At which value colours are full at first, the largest absolute one of each map, or
            of all maps of an image; a control changes it.
        fragment: A `<div>` for a notebook; False is a whole page.

    Returns:
        The HTML.

    Raises:
        ValueError: If numbers of images, maps, boxes or titles differ, or a map is no matrix of
            finite numbers.

    Example:
        >>> html = map_view([Image.new("RGB", (40, 30))], {"a cat": [np.eye(3)]}, unit="cosine")
        >>> html.startswith("<div"), "http" in html
        (True, False)
    """
    check_choice("scale", scale, _SCALES)
    count = len(images)
    given: dict[str, Sequence[Any] | None] = {"boxes": boxes, "row_titles": row_titles}
    given |= {f"columns[{name!r}]": maps for name, maps in columns.items()}
    given |= {f"scores[{name!r}]": values for name, values in (scores or {}).items()}
    for name, values in given.items():
        if values is not None and len(values) != count:
            raise ValueError(f"{name}: expected {count}, one an image, got {len(values)}")
    rows: list[dict[str, Any]] = []
    for index, image in enumerate(images):
        left, top, right, bottom = boxes[index] if boxes else (0, 0, *image.size)
        rows.append(
            {
                "title": row_titles[index] if row_titles else "",
                "width": image.width,
                "height": image.height,
                "source": _encoded(image),
                "box": [
                    left / image.width,
                    top / image.height,
                    right / image.width,
                    bottom / image.height,
                ],
                "cells": [
                    _cell(name, maps[index], (scores or {}).get(name, [None] * count)[index])
                    for name, maps in columns.items()
                ],
            }
        )
    shared = {"stops": STOPS, "unit": unit, "scale": scale}
    numbers = [{"box": row["box"], "maps": [cell["map"] for cell in row["cells"]]} for row in rows]
    return _template().render(
        identity=f"cci-{uuid.uuid4().hex[:12]}",
        rows=rows,
        title=title,
        unit=unit,
        scale=scale,
        fragment=fragment,
        data=_in_a_script(shared | {"rows": numbers}),
        script=Markup(_file("view.js")),
        style=Markup(_file("view.css")),
    )


def _cell(name: str, values: Any, score: Any) -> dict[str, Any]:
    map_ = np.asarray(values, dtype=np.float64)
    if map_.ndim != 2 or not map_.size or not np.isfinite(map_).all():
        raise ValueError(
            f"columns[{name!r}]: expected maps (h, w) of finite numbers, got shape {map_.shape}"
        )
    largest = map_.flat[np.abs(map_).argmax()]
    return {
        "name": name,
        "score": None if score is None else f"{float(score):.3f}",
        "largest": f"{largest:.3g}",
        "map": [[float(f"{value:.{_DIGITS}g}") for value in row] for row in map_.tolist()],
    }


def _encoded(image: Image.Image) -> str:
    """A data URI of the image, at most 640 pixels large."""
    small = image.convert("RGB")
    small.thumbnail((_LARGEST, _LARGEST))
    content = io.BytesIO()
    small.save(content, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _in_a_script(value: Any) -> Markup:
    """JSON that ends no script element."""
    text = json.dumps(value, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@lru_cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader(__package__, ""), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("view.html.j2")


@lru_cache
def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")
