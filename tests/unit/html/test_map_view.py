"""The view as text: what it holds, what it escapes, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from markup import HOSTILE, Page, picture
from PIL import Image

from cci_captum import explain
from cci_captum.html import map_view
from cci_captum.visualization._page import DIVERGING

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 120, 3), dtype=np.uint8))


def random_maps(count: int = 1, shape: tuple[int, int] = (3, 5), seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=shape) * 10.0 ** random.integers(-9, 7, shape) for _ in range(count)]


def test_the_numbers_in_the_page_are_those_given() -> None:
    cats, dogs = random_maps(2), random_maps(2, (7, 2), seed=1)
    page = Page(map_view([PHOTO, PHOTO], {"cat": cats, "dog": dogs}))
    for index, row in enumerate(page.data["rows"]):
        for held, given in zip(row["maps"], (cats[index], dogs[index]), strict=True):
            held = np.array(held)
            assert held.shape == given.shape
            assert (np.abs(held - given) <= 0.5001e-3 * np.abs(given)).all()  # 4 digits
            assert held.tolist() == [[float(f"{v:.4g}") for v in line] for line in given.tolist()]


def test_maps_of_any_type_of_numbers() -> None:
    values = torch.tensor([[0.5, -0.25], [0.0, 1.0]])
    given = [
        values,
        values.bfloat16().requires_grad_(),
        values.numpy().astype(np.float16)[::-1][::-1],
    ]
    page = Page(map_view([PHOTO] * 3, {"map": given}))
    assert [row["maps"] for row in page.data["rows"]] == [[values.tolist()]] * 3
    assert "-0.0" not in map_view([PHOTO], {"map": [np.array([[-0.0, 1.0]])]})


def test_colours_are_those_of_figures() -> None:
    stops = Page(map_view([PHOTO], {"map": random_maps()})).data["stops"]
    drawn = 255 * DIVERGING(np.linspace(0, 1, len(stops)))[:, :3]
    held = np.array([[*bytes.fromhex(stop[1:])] for stop in stops])
    assert np.abs(drawn - held).max() < 1  # the figure's colours are a table of 513


@pytest.mark.parametrize(
    ("size", "shown", "kind"),
    [
        ((1280, 960), (640, 480), "JPEG"),
        ((300, 1000), (192, 640), "JPEG"),
        ((400, 300), (400, 300), "JPEG"),
        ((120, 96), (120, 96), "PNG"),
        ((2000, 1), (640, 1), "JPEG"),
    ],
)
def test_images_are_scaled_down_and_measured_in_their_own_pixels(
    size: tuple[int, int], shown: tuple[int, int], kind: str
) -> None:
    page = Page(map_view([Image.new("RGB", size, "teal")], {"map": random_maps()}))
    (image,) = page.all("img")
    assert picture(image).size == shown and picture(image).format == kind
    pixel = np.asarray(picture(image).convert("RGB"))[0, 0].astype(int)
    assert np.abs(pixel - (0, 128, 128)).max() <= 2
    row = page.data["rows"][0]
    assert row["size"] == [*size]
    assert row["box"] == row["frame"] == [0, 0, *size]


def test_a_small_image_loses_nothing() -> None:
    (image,) = Page(map_view([PHOTO], {"map": random_maps()})).all("img")
    assert (np.asarray(picture(image)) == np.asarray(PHOTO)).all()


def test_other_modes_of_images_are_shown_in_rgb() -> None:
    (image,) = Page(map_view([PHOTO.convert("L")], {"map": random_maps()})).all("img")
    assert picture(image).mode == "RGB"


def test_the_frame_holds_the_image_and_what_the_model_saw() -> None:
    boxes = [(12.0, 0.0, 108.0, 96.0), (-10, -22, 130, 118), None]
    page = Page(map_view([PHOTO] * 3, {"map": random_maps(3)}, fields_of_view=boxes))
    rows = page.data["rows"]
    assert [row["box"] for row in rows] == [[12, 0, 96, 96], [-10, -22, 140, 140], [0, 0, 120, 96]]
    assert [row["frame"] for row in rows] == [
        [0, 0, 120, 96],
        [-10, -22, 140, 140],
        [0, 0, 120, 96],
    ]
    style = page.all("img")[1]["style"]
    placed = dict(re.findall(r"(\w+): ([\d.]+)%", style))
    expected = {"left": 10 / 140, "top": 22 / 140, "width": 120 / 140, "height": 96 / 140}
    assert {side: float(share) for side, share in placed.items()} == pytest.approx(
        {side: 100 * share for side, share in expected.items()}, abs=1e-3
    )


def test_alternative_texts_name_title_score_and_range() -> None:
    maps = {"a cat": [np.array([[0.25, -1e-7]])], "a dog": [np.array([[-12345.0, 0.0]])]}
    view = map_view(
        [PHOTO], maps, row_titles=["tom.png"], scores={"a cat": [0.12345]}, unit="logit"
    )
    page = Page(view)
    assert page.all("img")[0]["alt"] == "tom.png"
    cat, dog = (canvas["aria-label"] for canvas in page.all("canvas"))
    assert cat.startswith(
        "tom.png, map of a cat: score 0.123, maximum +0.25 logit, minimum \N{MINUS SIGN}1e"
        "\N{MINUS SIGN}7."
    )
    assert dog.startswith("tom.png, map of a dog: maximum 0 logit, minimum \N{MINUS SIGN}12340.")
    assert all(canvas["tabindex"] == "0" for canvas in page.all("canvas"))
    shown = [text for tag, text in page.texts if tag == "span"]
    assert (
        "score 0.123" in shown and "max +0.25, min \N{MINUS SIGN}1e\N{MINUS SIGN}7 logit" in shown
    )


def view_of(text: str, fragment: bool) -> str:
    """A view in which every text is this one."""
    return map_view(
        [PHOTO],
        {text: random_maps()},
        row_titles=[text],
        scores={text: [text]},
        unit=text,
        title=text,
        fragment=fragment,
    )


@pytest.mark.parametrize("fragment", [True, False])
def test_texts_are_escaped(fragment: bool) -> None:
    page, plain = Page(view_of(HOSTILE, fragment)), Page(view_of("plain", fragment))
    assert [(tag, [*held]) for tag, held in page.elements] == [
        (tag, [*held]) for tag, held in plain.elements
    ]
    assert page.data["unit"] == HOSTILE
    assert page.all("img")[0]["alt"] == HOSTILE
    assert HOSTILE in page.all("canvas")[0]["aria-label"]
    texts = [text for tag, text in page.texts if tag in ("p", "h1", "figcaption")]
    assert texts.count(HOSTILE) == 3
    assert fragment or ("title", HOSTILE) in page.texts


@pytest.mark.parametrize("fragment", [True, False])
def test_nothing_is_asked_of_anywhere(fragment: bool) -> None:
    view = map_view([PHOTO], {"map": random_maps()}, fragment=fragment)
    view = re.sub(r"data:image/\w+;base64,[\w+/=]+", "", view)
    assert "http" not in view and "//" not in re.sub(r" // .*|^ *// .*", "", view, flags=re.M)
    assert not re.search(r"\bimport[ (]|@import|url\(|\bfetch\(|XMLHttpRequest", view)
    for _, attributes in Page(view).elements:
        assert not attributes.keys() & {"srcset", "data", "action", "onclick", "onload"}
        assert attributes.get("href", "data:,") == "data:,"


def test_two_fragments_share_no_id() -> None:
    views = [Page(map_view([PHOTO], {"map": random_maps()})) for _ in range(2)]
    ids = [
        attributes["id"] for view in views for _, attributes in view.elements if "id" in attributes
    ]
    assert len(ids) == len({*ids}) == 2
    names = [
        attributes for view in views for _, attributes in view.elements if "name" in attributes
    ]
    assert not names  # which would join buttons of both into one group


def test_a_fragment_is_one_div_and_a_page_is_a_page() -> None:
    fragment = map_view([PHOTO], {"map": random_maps()}, title="Maps")
    assert fragment.startswith("<div") and fragment.strip().endswith("</div>")
    page = map_view([PHOTO], {"map": random_maps()}, title="Maps", fragment=False)
    assert page.startswith("<!DOCTYPE html>") and page.strip().endswith("</html>")
    held = Page(page)
    assert held.all("html") == [{"lang": "en"}]
    assert ("title", "Maps") in held.texts and ("h1", "Maps") in held.texts
    assert {"charset": "utf-8"} in held.all("meta")
    assert any(meta.get("name") == "viewport" for meta in held.all("meta"))
    untitled = Page(map_view([PHOTO], {"map": random_maps()}, fragment=False))
    assert not untitled.all("h1") and [t for t in untitled.texts if t[0] == "title"]


def test_a_name_of_a_file_that_no_encoding_takes() -> None:
    view = map_view([PHOTO], {"map": random_maps()}, row_titles=["caf\udce9.png"])
    assert rb"caf\udce9.png" in view.encode()


ONE = [np.eye(2)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, r"images: expected at least one image, got none"),
        ({"images": PHOTO}, r"images: expected a list of PIL images, got Image"),
        ({"images": ["a.png"]}, r"images\[0\]: expected a PIL image, got str"),
        ({"columns": {}}, r"columns: expected at least one column, got none"),
        ({"columns": ONE}, r"columns: expected title -> maps, got list"),
        ({"columns": {3: ONE}}, r"columns: expected a string, got 3"),
        ({"columns": {"m": ONE * 2}}, r"columns\['m'\]: expected 1 maps, one an image, got 2"),
        ({"columns": {"m": 0.5}}, r"columns\['m'\]: expected 1 maps, one an image, got 0.5"),
        ({"columns": {"m": np.zeros((1, 3, 2, 2))}}, r"\['m'\]\[0\]: expected a map .*\(3, 2, 2\)"),
        ({"columns": {"m": [np.zeros((0, 2))]}}, r"\['m'\]\[0\]: expected a map \(h, w\)"),
        ({"columns": {"m": [[["a"]]]}}, r"\['m'\]\[0\]: expected a map \(h, w\) of numbers"),
        ({"columns": {"m": [np.full((2, 2), np.nan)]}}, r"\['m'\]\[0\]: .* got NaN or infinity"),
        (
            {"columns": {"m": [[[1.0], [1.0, 2.0]]]}},
            r"\['m'\]\[0\]: .* lines that differ in length",
        ),
        ({"scores": {"m": [None]}}, r"scores\['m'\]\[0\]: expected a number or a string, got None"),
        ({"fields_of_view": [3.0]}, r"fields_of_view\[0\]: expected 4 finite numbers .* got 3.0"),
        ({"row_titles": "cat"}, r"row_titles: expected 1 strings, got 'cat'"),
        ({"row_titles": ["a", "b"]}, r"row_titles: expected 1 strings, got 2"),
        ({"row_titles": [None]}, r"row_titles\[0\]: expected a string, got None"),
        ({"scores": {"n": [1]}}, r"scores: expected columns among \['m'\], got \['n'\]"),
        ({"scores": {"m": [1, 2]}}, r"scores\['m'\]: expected 1 scores, one an image, got 2"),
        ({"fields_of_view": [(0, 0, 1)]}, r"fields_of_view\[0\]: expected 4 finite numbers .*"),
        ({"fields_of_view": [(0, 0, 1, np.nan)]}, r"fields_of_view\[0\]: expected 4 finite"),
        ({"fields_of_view": [(9, 0, 1, 5)]}, r"fields_of_view\[0\]: expected left < right and"),
        ({"fields_of_view": [(120, 0, 130, 9)]}, r"overlaps its image of 120 x 96 pixels, got"),
        ({"fields_of_view": [None] * 2}, r"fields_of_view: expected 1 boxes, one an image, got 2"),
        ({"unit": None}, r"unit: expected a string, got None"),
        ({"title": 3}, r"title: expected a string, got 3"),
    ],
)
def test_what_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        map_view(**{"images": [PHOTO], "columns": {"m": ONE}, **change})


def test_notebooks_show_drops() -> None:
    """Of an explanation: the drops, where the model looked, with their unit."""
    photo = Image.new("RGB", (120, 96), "green")
    explanation = explain(photo, ["a cat", "a tree"], "tiny", device="cpu")
    data = Page(explanation._repr_html_()).data
    (row,) = data["rows"]
    found = torch.tensor(row["maps"])
    torch.testing.assert_close(found, explanation.drop_maps()[0], rtol=1e-3, atol=1e-9)
    assert row["box"] == pytest.approx([12, 0, 96, 96]) and data["unit"] == "drop in cosine"
