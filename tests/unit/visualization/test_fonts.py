"""Texts in any script: drawn in a font that has their characters, or said to be boxes.

Fonts are made here, so that no test depends on what is installed: each has a few characters of its
own, all of them a filled square.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from cci_captum.visualization import Band, _fonts, attribution_grid, faithfulness_curves
from cci_captum.visualization._lettering import Lettering, extent, text_width

MANDARIN, HINDI, RUNES = "\u732b\u72d7", "\u0915\u0941\u0924", "\u16a0\u16a2"


def make_font(path: Path, family: str, characters: str) -> Path:
    """A font whose characters are squares of one em."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"u{ord(c):04x}" for c in characters)]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"u{ord(c):04x}" for c in characters})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files of installed fonts, to be filled; matplotlib lists only its own at first."""
    found: list[str] = []
    own = [e for e in font_manager.fontManager.ttflist if "mpl-data" in str(e.fname)]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(_fonts, "findSystemFonts", lambda: found)
    caches = (_fonts._others, _fonts._in_file, extent)
    for cache in caches:
        cache.cache_clear()
    yield found
    for cache in caches:
        cache.cache_clear()


def grid(text: str) -> Figure:
    return attribution_grid(torch.rand(1, 3, 8, 8), {text: torch.rand(1, 2, 2)}, row_titles=[text])


def fonts_of(figure: Figure, text: str) -> list[str]:
    (first, *_) = (t for t in figure.texts if t.get_text() == text)
    return first.get_fontfamily()


def test_the_usual_fonts_stay_where_they_suffice(installed: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fonts_of(grid("caf\u00e9 \u2193"), "caf\u00e9 \u2193") == ["sans-serif"]


def test_a_font_that_has_the_characters_is_used(installed: list[str], tmp_path: Path) -> None:
    for name, characters in (("Han", MANDARIN), ("Deva", HINDI), ("Less", MANDARIN[:1])):
        installed.append(str(make_font(tmp_path / f"{name}.ttf", f"Test {name}", characters)))
    text = f"a {MANDARIN} {HINDI}"
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of every box that it draws
        figure = grid(text)
        figure.savefig(io.BytesIO(), format="png")
        figure.savefig(io.BytesIO(), format="pdf")
    shown = {family for t in figure.texts for family in t.get_fontfamily()}
    assert shown == {"sans-serif", "Test Han", "Test Deva"}
    assert dict(matplotlib.rcParams) == before


def test_widths_are_those_of_the_font_that_is_used(installed: list[str], tmp_path: Path) -> None:
    installed.append(str(make_font(tmp_path / "Han.ttf", "Test Han", MANDARIN)))
    assert text_width(MANDARIN[0] * 10, 7.2) == pytest.approx(1.0, abs=0.08)  # ten ems
    assert [len(line) for line in Lettering().wrap(MANDARIN[0] * 10, 0.55, 7.2)] == [5, 5]


def test_characters_that_no_font_has_are_named(installed: list[str], tmp_path: Path) -> None:
    installed.append(str(make_font(tmp_path / "Han.ttf", "Test Han", MANDARIN)))
    message = rf"^no installed font has '{RUNES}', of which the figure shows boxes"
    with pytest.warns(UserWarning, match=message) as warned:
        grid(f"{RUNES} {MANDARIN}")
    assert sum("no installed font" in str(w.message) for w in warned) == 1
    band = {"CCI": Band([1.0, 0.5]), RUNES: Band([1.0, 0.2])}
    with pytest.warns(UserWarning, match=rf"^no installed font has '{HINDI[0]}{RUNES}', of"):
        faithfulness_curves([0.0, 1.0], {"deletion": band}, ylabel=HINDI[0])


def test_no_line_begins_with_a_mark(installed: list[str], tmp_path: Path) -> None:
    installed.append(str(make_font(tmp_path / "Deva.ttf", "Test Deva", HINDI)))
    word = (HINDI[0] + HINDI[1]) * 8  # a consonant and its vowel sign
    for width in (0.25, 0.35, 0.45):
        lines = Lettering().wrap(word, width, 7.2)
        assert len(lines) > 1 and "".join(lines) == word
        assert not any(line.startswith(HINDI[1]) for line in lines)


def test_files_that_are_no_fonts_do_no_harm(installed: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    installed += [str(tmp_path / "broken.ttf"), str(tmp_path / "gone.ttf")]
    installed.append(str(make_font(tmp_path / "Han.ttf", "Test Han", MANDARIN)))
    assert fonts_of(grid(MANDARIN), MANDARIN) == ["sans-serif", "Test Han"]
