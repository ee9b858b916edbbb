"""The view in a real browser, opened from a file: what is drawn where, the pointer, the keys."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cci_captum.html import map_view
from cci_captum.visualization._page import DIVERGING

MINUS = "\N{MINUS SIGN}"
WHITE = Image.new("RGB", (200, 100), "white")
VALUES = np.array([[0.125, -1.0, 0.0], [2e-7, 0.5, -0.25]])


def test_the_pointer_gives_the_value_of_its_patch(opened: Any) -> None:
    shown = opened([WHITE], {"a": [VALUES], "b": [10 * VALUES]}, unit="logit")
    texts = [["+0.125", f"{MINUS}1", "0"], [f"+2e{MINUS}7", "+0.5", f"{MINUS}0.25"]]
    for row, column in np.ndindex(2, 3):
        shown.hover((column + 0.5) / 3, (row + 0.5) / 2)
        assert shown.values()[0] == f"{texts[row][column]} logit"
        place = f"row {row + 1} of 2, column {column + 1} of 3"
        assert shown.live() == f"{place}: {texts[row][column]} logit"
    assert shown.values()[1] == f"{MINUS}2.5 logit"  # the same patch of the image's other map
    cursor = shown.page.locator(".cci-cursor").first.bounding_box()
    canvas = shown.page.locator("canvas").first.bounding_box()
    assert cursor["x"] - canvas["x"] == pytest.approx(canvas["width"] * 2 / 3, abs=0.5)
    assert cursor["y"] - canvas["y"] == pytest.approx(canvas["height"] / 2, abs=0.5)
    assert cursor["width"] == pytest.approx(canvas["width"] / 3, abs=0.5)
    shown.page.mouse.move(1, 1)
    assert shown.values() == ["", ""] and shown.live() == ""


def test_maps_of_other_sizes_show_the_same_place(opened: Any) -> None:
    fine = np.arange(24.0).reshape(4, 6)
    shown = opened([WHITE, WHITE], {"coarse": [VALUES, VALUES], "fine": [fine, fine]})
    shown.hover(0.95, 0.95, index=1)
    assert shown.values() == [f"{MINUS}0.25", "+23", "", ""]
    shown.hover(0.5, 0.3, index=2)
    assert shown.values()[2:] == [f"{MINUS}1", "+9"]  # the patch of fine at the centre of coarse's


def test_arrow_keys_move_from_patch_to_patch(opened: Any) -> None:
    shown = opened([WHITE], {"a": [VALUES], "b": [10 * VALUES]}, unit="logit")
    for _ in range(3):  # scale, opacity, the first map
        shown.page.keyboard.press("Tab")
    assert shown.page.evaluate("document.activeElement.tagName") == "CANVAS"
    assert shown.live() == f"row 1 of 2, column 2 of 3: {MINUS}1 logit"  # the strongest
    steps = [
        ("ArrowLeft", "+0.125"),
        ("ArrowLeft", "+0.125"),
        ("ArrowDown", f"+2e{MINUS}7"),
        ("ArrowDown", f"+2e{MINUS}7"),
        ("ArrowRight", "+0.5"),
        ("ArrowRight", f"{MINUS}0.25"),
        ("ArrowRight", f"{MINUS}0.25"),
        ("ArrowUp", "0"),
    ]
    for key, text in steps:
        shown.page.keyboard.press(key)
        assert shown.values()[0] == f"{text} logit"
        assert shown.live().endswith(f": {text} logit")
    shown.page.keyboard.press("ArrowLeft")
    shown.page.keyboard.press("Tab")  # on to the other map, at the same patch
    assert shown.live() == f"row 1 of 2, column 2 of 3: {MINUS}10 logit"
    shown.page.keyboard.press("Tab")
    assert shown.values() == ["", ""]


def test_colours_are_those_of_figures(opened: Any) -> None:
    values = np.linspace(-2, 2, 15).reshape(3, 5)
    shown = opened([WHITE], {"map": [values]})
    shown.set_opacity(100)
    pixels = shown.pixels()
    height, width = pixels.shape[:2]
    for (row, column), value in np.ndenumerate(values):
        pixel = pixels[int((row + 0.5) * height / 3), int((column + 0.5) * width / 5)]
        expected = 255 * np.array(DIVERGING((value / 2 + 1) / 2))
        assert np.abs(pixel - expected).max() <= 2  # both round, and one is a table of 513


def test_the_photo_shows_as_brightness_and_alone_at_no_opacity(opened: Any) -> None:
    photo = Image.new("RGB", (200, 100), (200, 100, 40))
    shown = opened([photo], {"map": [np.array([[0.0, 1.0]])]})
    shown.set_opacity(100)
    grey = 255 - 0.55 * (255 - np.dot((200, 100, 40), (0.299, 0.587, 0.114)))
    left, right = shown.pixels()[50, [60, 420], :3]
    assert np.abs(left - grey).max() <= 3  # as attribution_grid, with luma in two decimals
    assert np.abs(right - np.array(DIVERGING(1.0)[:3]) * grey).max() <= 3
    shown.set_opacity(0)
    assert np.abs(shown.pixels()[50, [60, 420], :3] - np.array((200, 100, 40))).max() <= 1


def test_a_patch_lies_where_the_model_looked(opened: Any) -> None:
    values = np.zeros((4, 5))
    values[1, 3] = 1.0
    boxes = [None, (50, 0, 150, 100), (0, -50, 200, 150), (-30, 20, 250, 90)]
    shown = opened([WHITE] * 4, {"map": [values] * 4}, fields_of_view=boxes)
    shown.set_opacity(100)
    for index, box in enumerate(boxes):
        left, top, right, bottom = box or (0, 0, 200, 100)
        frame = np.array([min(left, 0), min(top, 0), max(right, 200), max(bottom, 100)])
        size = frame[2:] - frame[:2]
        pixels = shown.pixels(index).astype(int)
        scale = np.array(pixels.shape[1::-1]) / size  # pixels of the canvas a pixel of the photo
        assert scale[0] == pytest.approx(scale[1], rel=0.01)
        red = np.argwhere((pixels[..., 0] - pixels[..., 2] > 60) & (pixels[..., 3] > 200))[:, ::-1]
        patch = np.array([right - left, bottom - top]) / (5, 4)
        expected = np.array([left, top]) + np.array([[3, 1], [4, 2]]) * patch
        found = np.array([red.min(axis=0), red.max(axis=0) + 1]) / scale + frame[:2]
        assert (np.abs(found - expected) <= 1.5 / scale).all()
        shown.hover(*(expected.mean(axis=0) - frame[:2]) / size, index)
        assert shown.values()[index] == "+1"
        photo = shown.page.locator("img").nth(index).bounding_box()
        canvas = shown.page.locator("canvas").nth(index).bounding_box()
        shares = np.array([photo[side] / canvas[side] for side in ("width", "height")])
        assert np.abs(shares - (200, 100) / size).max() < 0.01
    shown.hover(0.1, 0.5, 1)
    assert shown.values()[1] == "not seen by the model"


@pytest.mark.parametrize("unit", ["", "logit"])
def test_the_reader_chooses_the_scale(opened: Any, unit: str) -> None:
    strong, weak = np.array([[5.0, 0.0]]), np.array([[1.0, 0.0]])
    shown = opened([WHITE, WHITE], {"a": [strong, weak], "b": [weak, weak]}, unit=unit)
    shown.set_opacity(100)
    full, fifth = (255 * np.array(DIVERGING(v))[:3] for v in (1.0, 0.6))
    ends = {"per map": "opposes", "shared": f"opposes {MINUS}5 {unit}".strip()}
    expected = {"per map": [full] * 4, "shared": [full, *[fifth] * 3]}

    chooser = shown.page.get_by_label("scale")

    def check(scale: str) -> None:
        assert chooser.evaluate("select => select.selectedOptions[0].text") == scale
        assert shown.page.locator(".cci-low").text_content() == ends[scale]
        for index, colour in enumerate(expected[scale]):
            assert np.abs(shown.pixels(index)[50, 60, :3] - colour).max() <= 2

    check("shared" if unit else "per map")  # with a unit strengths are compared
    for scale in ("per map", "shared"):
        chooser.select_option(label=scale)
        check(scale)


def test_a_map_of_zeros_is_white(opened: Any) -> None:
    shown = opened([WHITE], {"map": [np.zeros((2, 2))]})
    assert (shown.pixels() == 255).all()
    shown.page.locator("canvas").focus()
    assert shown.live() == "row 1 of 2, column 1 of 2: 0"


# As notebooks put output into their page: text that becomes elements, whose scripts are made anew.
NOTEBOOK = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,">
<title>notebook</title><body><script type="application/json" id="outputs">OUTPUTS</script><script>
for (const html of JSON.parse(document.getElementById("outputs").textContent)) {
  const output = document.createElement("div");
  output.innerHTML = html;
  for (const old of output.querySelectorAll("script")) {
    const script = document.createElement("script");
    for (const { name, value } of old.attributes) script.setAttribute(name, value);
    script.textContent = old.textContent;
    old.replaceWith(script);
  }
  document.body.append(output);
}
</script></body></html>"""


def test_several_fragments_in_one_notebook(opened: Any) -> None:
    first = map_view([WHITE], {"a": [VALUES]}, title="one")
    second = map_view([WHITE], {"a": [10 * VALUES]}, title="two", unit="logit")
    outputs = json.dumps([first, second, first]).replace("<", "\\u003c")  # one output shown twice
    shown = opened(html=NOTEBOOK.replace("OUTPUTS", outputs))
    known = "Object.getOwnPropertyNames(window).filter(name => !/^\\d+$/.test(name)).sort()"
    blank = opened(html="<!DOCTYPE html><link rel='icon' href='data:,'><title>nothing</title>")
    assert shown.page.evaluate(known) == blank.page.evaluate(known)  # no global names
    for index, texts in enumerate((["+0.5", "", ""], ["", "+5 logit", ""], ["", "", "+0.5"])):
        shown.hover(0.5, 0.75, index)
        assert shown.values() == texts
    lows = shown.page.locator(".cci-low")
    assert lows.all_inner_texts() == ["opposes", f"opposes {MINUS}10 logit", "opposes"]
    shown.page.get_by_label("scale").nth(0).select_option("shared")
    shown.page.get_by_label("scale").nth(1).select_option("own")
    assert lows.all_inner_texts() == [f"opposes {MINUS}1", "opposes", "opposes"]


def test_no_text_of_the_caller_runs(opened: Any) -> None:
    hostile = "</script><script>console.log(1)</script><img src=x onerror=console.log(2)>'\"${3}"
    shown = opened(
        [WHITE], {hostile: [VALUES]}, row_titles=[hostile], unit=hostile, title=hostile,
        scores={hostile: [hostile]},
    )  # fmt: skip
    shown.hover(0.5, 0.75)
    assert shown.values() == [f"+0.5 {hostile}"]
    assert shown.page.title() == hostile


def test_without_scripts_the_images_and_a_sentence(opened: Any) -> None:
    shown = opened(
        [WHITE], {"a": [VALUES]}, scores={"a": [0.25]}, options={"java_script_enabled": False}
    )
    text = shown.page.locator("body").inner_text()
    assert "The maps are drawn by JavaScript, which is off here" in text
    assert "score 0.250" in text and f"max +0.5, min {MINUS}1" in text
    assert shown.page.locator("img").is_visible()
    assert not shown.page.locator("canvas").is_visible()
    assert not shown.page.locator("input[type=range]").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_in_light_and_dark(opened: Any, scheme: str) -> None:
    shown = opened(
        [WHITE], {"a": [VALUES]}, title="t", row_titles=["r"], options={"color_scheme": scheme}
    )
    shown.hover(0.5, 0.75)
    for name in ("title", "head", "name", "range", "value", "low"):
        style = "element => { const s = getComputedStyle(element); return [s.color, s.opacity] }"
        colour, opacity = shown.page.locator(f".cci-{name}").last.evaluate(style)
        ink = np.array([int(c) for c in colour[4:-1].split(",")])
        ground = np.array(Image.open(BytesIO(shown.page.screenshot())).convert("RGB"))[2, 2]
        seen = float(opacity) * ink + (1 - float(opacity)) * ground
        assert contrast(seen, ground) >= 7  # WCAG 2.2, level AAA
    assert (ground.mean() < 60) == (scheme == "dark")


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """The contrast ratio of two colours in sRGB, 0 to 255 (WCAG 2.2)."""

    def luminance(colour: np.ndarray) -> float:
        c = colour / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
