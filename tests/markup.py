"""Views as text: their elements, texts and data."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from io import BytesIO
from typing import Any

from PIL import Image

HOSTILE = "</script><script>alert(1)</script> \"'><img src=x onerror=alert(2)> & {{ 7 * 7 }} <!--"
VOID = {"img", "input", "meta", "link"}


class Page(HTMLParser):
    """Elements with their attributes, and the texts in each kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> Any:
        """What the script reads."""
        at = next(
            i
            for i, (name, attributes) in enumerate(e for e in self.elements if e[0] == "script")
            if attributes.get("type") == "application/json"
        )
        return json.loads([text for tag, text in self.texts if tag == "script"][at])


def picture(attributes: dict[str, str]) -> Image.Image:
    kind, _, encoded = attributes["src"].partition(";base64,")
    image = Image.open(BytesIO(base64.b64decode(encoded)))
    assert kind == f"data:image/{(image.format or '').lower()}"
    return image
