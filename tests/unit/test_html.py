"""The HTML view: its numbers, its escapes, and what a browser does with it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cci_captum import explain
from cci_captum.html import map_view

EVIL = "</script><b>\"cat\" & 'dog' {{ 7 }} 猫"
MAPS = np.array([[0.5, -0.25, 0.0], [0.123456, -1.0, 1e-7]])


def view(**options: Any) -> str:
    given: dict[str, Any] = {"boxes": [(20, -10, 80, 70)], "unit": "nats"}
    return map_view([Image.new("RGB", (100, 60), "grey")], {EVIL: [MAPS]}, **(given | options))


def data_of(html: str) -> Any:
    (text,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    return json.loads(text)


def test_numbers_are_those_given_to_four_digits() -> None:
    data = data_of(view())
    assert data["rows"][0]["maps"] == [[[0.5, -0.25, 0.0], [0.1235, -1.0, 1e-07]]]
    assert data["rows"][0]["box"] == pytest.approx([0.2, -1 / 6, 0.8, 7 / 6])
    assert data["unit"] == "nats" and data["scale"] == "per-map"


def test_nothing_is_asked_of_a_network_and_copies_differ() -> None:
    one, other = view(), view()
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", one.replace("data:image", ""))
    identities = [re.findall(r'id="(.*?)"', html) for html in (one, other)]
    assert len({*identities[0], *identities[1]}) == 2
    assert one.startswith("<div") and "<html" not in one
    whole = view(fragment=False, title=EVIL)
    assert whole.startswith("<!DOCTYPE html>") and whole.rstrip().endswith("</html>")
    for html in (one, whole):
        assert "<b>" not in html and html.count("<script") == html.count("</script>") == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"boxes": []}, "boxes: expected 1, one an image, got 0"),
        ({"row_titles": ["a", "b"]}, "row_titles: expected 1, one an image, got 2"),
        ({"scores": {"x": [1, 2]}}, r"scores\['x'\]: expected 1, one an image, got 2"),
        ({"scale": "shared"}, "scale: expected"),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        view(**options)


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((0, 2)), np.array([[np.nan]])])
def test_what_is_no_map(values: Any) -> None:
    with pytest.raises(ValueError, match=r"columns\['a'\]: expected maps \(h, w\) of finite"):
        map_view([Image.new("RGB", (4, 4))], {"a": [values]})


def test_notebooks_show_drops() -> None:
    photo = Image.new("RGB", (120, 96), "green")
    explanation = explain(photo, ["a cat", EVIL], "tiny", device="cpu")
    data = data_of(explanation._repr_html_())
    found = torch.tensor(data["rows"][0]["maps"])
    torch.testing.assert_close(found, explanation.drop_maps()[0], rtol=1e-3, atol=1e-9)
    assert data["rows"][0]["box"] == pytest.approx([0.1, 0, 0.9, 1]) and data["scale"] == "per-row"
    assert data["unit"] == "drop in cosine"


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("needs Chromium")
    with playwright.sync_playwright() as running:
        yield running.chromium.launch(executable_path=path, args=["--no-sandbox"])


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Two copies of the view in one file, opened; anything said or asked fails the test."""
    file = tmp_path / "view.html"
    title = f'<!DOCTYPE html><meta charset="utf-8"><body>{view()}{view(scale="per-row")}</body>'
    file.write_text(title, encoding="utf-8")
    said: list[str] = []
    opened = browser.new_page(viewport={"width": 700, "height": 500})
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(file.as_uri())
    yield opened
    assert said == [] and [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    opened.close()


@pytest.mark.parametrize("copy", [0, 1])
def test_the_pointer_tells_the_value(page: Any, copy: int) -> None:
    """The map lies between 20 % and 80 % of the width, and beyond the image above and below."""
    cell, told = (page.locator(name).nth(copy) for name in (".cci-map", ".cci-value"))
    cell.scroll_into_view_if_needed()
    bounds = cell.bounding_box()
    for x, y, expected in [
        (0.3, 0.3, "0.5 nats (row 1, column 1)"),
        (0.5, 0.9, "-1 nats (row 2, column 2)"),
        (0.79, 0.49, "0 nats (row 1, column 3)"),
        (0.21, 0.51, "0.1235 nats (row 2, column 1)"),
    ]:
        page.mouse.move(bounds["x"] + x * bounds["width"], bounds["y"] + y * bounds["height"])
        assert told.text_content() == f"{EVIL}: {expected}"
    page.mouse.move(bounds["x"] + 0.1 * bounds["width"], bounds["y"] + 0.5 * bounds["height"])
    assert told.text_content().strip() == ""


def test_keys_move_over_patches(page: Any) -> None:
    cell, told = page.locator(".cci-map").first, page.locator(".cci-value").first
    cell.focus()
    places = []
    for key in ("Right", "Right", "Right", "Right", "Down", "Down", "Left", "Up"):
        page.keyboard.press(f"Arrow{key}")
        places.append(re.findall(r"\d+(?=[,)])", told.text_content()))
    moves = ["1 1", "1 2", "1 3", "1 3", "2 3", "2 3", "2 2", "1 2"]
    assert [" ".join(place) for place in places] == moves


def test_colours_are_drawn(page: Any) -> None:
    """Red where it is positive, blue where it is negative, nothing beside the map."""
    pixels = page.evaluate(
        """() => { const canvas = document.querySelector(".cci-map canvas");
        const { width, height } = canvas;
        const all = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        return [[0.3, 0.3], [0.5, 0.9], [0.7, 0.2], [0.1, 0.5]].map(([x, y]) => {
            const first = 4 * (Math.floor(y * height) * width + Math.floor(x * width));
            return [...all.slice(first, first + 4)]; }); }"""
    )
    positive, negative, zero, beside = pixels
    assert positive[0] > positive[2] + 50 and negative[2] > negative[0] + 50
    assert min(zero[:3]) >= 250 and zero[3] > 190 and beside[3] == 0
