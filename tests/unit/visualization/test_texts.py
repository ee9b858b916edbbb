"""Texts in the colours of their words: what stands where, and in which colour."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from cci_captum._colours import DIVERGING_STOPS, diverging
from cci_captum.html import map_view
from cci_captum.visualization import text_heat

PIECES = [("a ", None), ("red cat", 0.5), (", ", None), ("a", 0.0), (" ", None), ("dog", -1.0)]


def boxes(figure: Figure, kind: Any) -> list[Bbox]:
    """Of all texts that are not empty, or of all grounds, in pixels."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    found = [*figure.texts] if kind is Text else [*figure.artists, *figure.patches]
    return [
        item.get_window_extent(renderer) for item in found if kind is not Text or item.get_text()
    ]


def written(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts if text.get_text()]


@pytest.mark.parametrize("decimals", [3, None])
@pytest.mark.parametrize("width", [1.0, 3.25, None])
def test_nothing_overlaps_or_leaves_the_page(width: float | None, decimals: int | None) -> None:
    long = [(f"word{'s' * (i % 5)} ", (i % 7 - 3) / 3 if i % 3 else None) for i in range(25)]
    figure = text_heat([PIECES, long], row_titles=None, width=width, decimals=decimals)
    if width is not None:
        assert figure.get_figwidth() == pytest.approx(width)
    found = boxes(figure, Text)
    page = figure.bbox
    for one in found:
        assert page.x0 <= one.x0 and one.x1 <= page.x1 and page.y0 <= one.y0 and one.y1 <= page.y1
    for one, other in combinations(found, 2):
        assert not one.shrunk(0.97, 0.9).overlaps(other.shrunk(0.97, 0.9))


def test_words_and_values() -> None:
    figure = text_heat([PIECES], row_titles=["cat.png"])
    minus = "\N{MINUS SIGN}"
    assert written(figure) == [
        *("cat.png", "a", "red", "0.500", "cat", ",", "a", "0.000", "dog", f"{minus}1.000")
    ]
    plain = text_heat([PIECES], decimals=None)
    assert written(plain) == ["a", "red", "cat", ",", "a", "dog"]


def test_colours() -> None:
    """Full at the largest value of all texts, or at a given one; white words on dark grounds."""
    figure = text_heat([PIECES, [("cat", 0.25)]], decimals=None)
    grounds = [item.get_facecolor()[:3] for item in figure.artists if isinstance(item, Rectangle)]
    close = {"atol": 0.02}
    half = to_rgb(DIVERGING_STOPS[4]), to_rgb(DIVERGING_STOPS[5])
    assert np.allclose(grounds[0], np.mean(half, axis=0), **close)  # 0.5, of stops at thirds
    assert np.allclose(grounds[0], grounds[1]) and np.allclose(grounds[0], grounds[2])  # a phrase
    assert np.allclose(grounds[3], (1, 1, 1), **close)
    assert np.allclose(grounds[4], to_rgb(DIVERGING_STOPS[0]), **close)
    inks = {text.get_text(): text.get_color() for text in figure.texts}
    assert inks["dog"] == "white" and inks["red"] == "#222222"
    own = text_heat([[("cat", 0.25)]], scale=0.25).artists[0].get_facecolor()  # type: ignore[attr-defined]
    assert np.allclose(own[:3], to_rgb(DIVERGING_STOPS[-1]), **close)


def test_a_phrase_is_one_ground() -> None:
    found = sorted(boxes(text_heat([[("a big red cat", 0.5)]]), Rectangle), key=lambda b: b.x0)
    assert len(found) == 7  # words and the spaces between them
    for one, other in pairwise(found):
        assert one.x1 == pytest.approx(other.x0, abs=0.01)


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        ([], {}, ValueError, "texts: expected at least one text, got none"),
        ([["cat"]], {}, TypeError, r"texts\[0\]\[0\]: expected a string and a number or None"),
        ([[("a", "b")]], {}, TypeError, r"texts\[0\]\[0\]: expected a string and a number"),
        ([[("a", np.nan)]], {}, ValueError, r"texts\[0\]\[0\]: expected a finite value, got nan"),
        ([PIECES], {"width": 0.2}, ValueError, "width: expected at least .* for the longest word"),
        ([PIECES], {"scale": 0}, ValueError, "scale: expected"),
        ([PIECES], {"row_titles": ["a", "b"]}, ValueError, "row_titles: expected a list of 1"),
    ],
)
def test_wrong_arguments(texts: Any, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        text_heat(texts, **options)


def test_colours_of_html_are_those_of_figures() -> None:
    figure = text_heat([PIECES], decimals=None)
    ground = figure.artists[0].get_facecolor()  # type: ignore[attr-defined]
    assert np.allclose(np.array(diverging(0.5)) / 255, ground[:3], atol=0.02)
    assert diverging(-3) == diverging(-1) == (31, 86, 163)


def test_sentences_in_html() -> None:
    photos = [Image.new("RGB", (8, 8))] * 2
    maps = {"cat": [np.eye(2), np.eye(2)]}
    html = map_view(photos, maps, sentences=[[("<b> ", None), ("cat & dog", 0.5)], [("a", 0.0)]])
    assert "&lt;b&gt; " in html and ">cat &amp; dog</span>" in html
    assert 'title="+0.5"' in html and f"background: rgb{diverging(1.0)}".replace(",", "") in html
    with pytest.raises(ValueError, match="sentences: expected 2 texts in pieces, got 1"):
        map_view(photos, maps, sentences=[[("a", None)]])
    with pytest.raises(TypeError, match=r"sentences\[0\]\[0\]: expected a string and a number"):
        map_view(photos, maps, sentences=[["a"], ["b"]])  # type: ignore[list-item]


def test_a_text_from_right_to_left() -> None:
    """The first word stands on the right; a phrase's value below its middle."""
    pieces = [("קטה אדומה", 0.5), (" על ", None), ("שלג", -0.25)]
    figure = text_heat([pieces])
    places = {text.get_text(): text.get_position()[0] for text in figure.texts if text.get_text()}
    assert places["קטה"] > places["אדומה"] > places["על"] > places["שלג"]
    assert places["אדומה"] < places["0.500"] < places["קטה"]


def test_a_long_word_makes_a_wide_figure() -> None:
    figure = text_heat([[("https://example.org/" + 100 * "a", 0.5)]])
    assert figure.get_figwidth() > 6.5
