"""Fonts for text in any script: the usual ones, and installed ones for what these lack.

matplotlib draws each character in the first of several families that has it. Which families these
are is said of each text; no global setting changes. Shaping (joined Arabic letters, right to left,
Devanagari clusters) is matplotlib's own, from 3.11 on; older versions put letter by letter.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache

from matplotlib import get_data_path, rcParams
from matplotlib.font_manager import (
    FontProperties,
    findfont,
    findSystemFonts,
    fontManager,
    get_font,
    weight_dict,
)

_NORMAL, _STEP = 400, 100  # weights


def families(text: str) -> list[str]:
    """The usual font families, then installed ones for the characters of text that they lack."""
    usual = tuple(rcParams["font.family"])
    return [*usual, *_others(usual, _drawn(text) - _characters(usual))]


def without_glyph(texts: Iterable[str]) -> str:
    """The characters of texts that no installed font has, sorted."""
    drawn = frozenset[str]().union(*map(_drawn, texts))
    return "".join(sorted(drawn - _characters(tuple(families("".join(drawn))))))


def _drawn(text: str) -> frozenset[str]:
    """Its characters that need a glyph: no spaces, no controls, no joiners."""
    return frozenset(c for c in text if not c.isspace() and unicodedata.category(c)[0] != "C")


@lru_cache(maxsize=1024)
def _others(usual: tuple[str, ...], lacking: frozenset[str]) -> tuple[str, ...]:
    """As few installed families as have the characters, or as many of them as any has."""
    chosen: list[str] = []
    while lacking:
        known = {name: lacking & _in_file(path) for name, path in sorted(_installed().items())}
        best = max(known, key=lambda name: len(known[name]), default=None)
        if best is None or not known[best]:
            # Fonts installed since matplotlib made its list, if there are any.
            if not _list_new_fonts():
                break
            continue
        chosen.append(best)
        lacking -= known[best]
    return tuple(chosen)


def _installed() -> dict[str, str]:
    """Family -> the file of its upright face of normal weight, for families that have one."""
    return {
        entry.name: os.fspath(entry.fname)
        for entry in fontManager.ttflist
        if entry.style == "normal"
        and abs(_weight(entry.weight) - _NORMAL) <= _STEP
        and _is_for_text(os.fspath(entry.fname))
    }


def _weight(weight: str | int) -> int:
    return weight_dict[weight] if isinstance(weight, str) else weight


def _is_for_text(path: str) -> bool:
    """False for matplotlib's own fonts of mathematical signs and of boxes, and removed files."""
    own = path.startswith(get_data_path())
    return os.path.exists(path) and (not own or os.path.basename(path).startswith("DejaVu"))


def _list_new_fonts() -> bool:
    """Add fonts to matplotlib's list that were installed after it was made; False if none was."""
    listed = {os.fspath(entry.fname) for entry in fontManager.ttflist}
    before = len(fontManager.ttflist)
    for path in sorted({*findSystemFonts()} - listed):
        with suppress(OSError, RuntimeError, ValueError):  # no font that matplotlib reads
            fontManager.addfont(path)
    return len(fontManager.ttflist) > before


def _characters(names: tuple[str, ...]) -> frozenset[str]:
    """The characters that these families have."""
    files = (os.fspath(findfont(FontProperties(family=[name]))) for name in names)
    return frozenset[str]().union(*map(_in_file, files))


@lru_cache(maxsize=1024)
def _in_file(path: str) -> frozenset[str]:
    """The characters that a font has; of fonts of pixels, which are not drawn, none."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError, ValueError):
        return frozenset()
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()
