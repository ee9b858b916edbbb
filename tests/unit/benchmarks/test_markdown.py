"""Text in Markdown, against what an independent renderer makes of it."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from cci_captum import ZeroShotClassifier
from cci_captum.benchmarks.comparison import compare, report
from cci_captum.benchmarks.data import ImageFolders
from cci_captum.benchmarks.markdown import code, literal, table

markdown_it = pytest.importorskip("markdown_it")

NAMES = [
    "a|b",
    "a\\|b",
    "two\nlines",
    "*bold* __and__ _more_",
    "<b>html</b> &amp; <!-- no -->",
    "[link](http://x) ![image](y)",
    "`code` ``more``",
    "# head",
    "~~gone~~ $x$",
    "polar_bear.jpg",
    "tabs\tand\r\nreturns\x0b",
    "",
]


def rendered(text: str) -> str:
    return str(markdown_it.MarkdownIt("gfm-like", {"linkify": False}).render(text))


def cells(text: str) -> list[list[str]]:
    """The texts of a table's cells; fails where one holds an element."""
    rows = re.findall(r"<tr>(.*?)</tr>", rendered(text), flags=re.DOTALL)
    found = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.DOTALL) for row in rows]
    assert not any("<" in cell for row in found for cell in row), found
    return [[html.unescape(cell) for cell in row] for row in found]


def test_cells_are_shown_as_they_are() -> None:
    rows = [[name, number] for number, name in enumerate(NAMES)]
    expected = [[" ".join(name.split()), str(number)] for name, number in rows]
    assert cells(table(["name", "no|"], rows)) == [["name", "no|"], *expected]


@pytest.mark.parametrize("name", NAMES[:-1])
def test_texts_are_shown_as_they_are(name: str) -> None:
    shown = " ".join(name.split())
    assert html.unescape(rendered(f"# {literal(name)}")) == f"<h1>{shown}</h1>\n"
    assert html.unescape(rendered(f"see {literal(name)}")) == f"<p>see {shown}</p>\n"


@pytest.mark.parametrize("text", [*NAMES[:-2], "a `` b ```", " `", "``` \n ````\n x"])
def test_code_is_shown_as_it_is(text: str) -> None:
    (shown,) = re.findall(r"<code>(.*)</code>", rendered(code(text)), flags=re.DOTALL)
    assert html.unescape(shown).removesuffix("\n") == text


def test_a_report_of_files_with_odd_names(tmp_path: Path, make_clip: Any, tokenizer: Any) -> None:
    """A photo that cannot be read, of a class and data with markup in their names."""
    root = tmp_path / "<b>data|set"
    for folder in ("cat", "a|b *c*", "empty_one"):
        (root / folder).mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "cat" / "1.png")
    (root / "a|b *c*" / "two\nlines|.png").write_text("no image")
    (root / "cat" / "x.he|ic").write_text("")
    with pytest.warns(UserWarning):
        data = ImageFolders(root)
    model, _ = make_clip(1)
    classifier = ZeroShotClassifier(model, tokenizer, data.class_names, "{}").eval()
    found = compare(
        ["maskclip"],
        data,
        forward_func=classifier,
        preprocess=transforms.Compose([transforms.Resize(32), transforms.ToTensor()]),
    )
    assert len(found.settings["notes"]) == 2
    page = report.page(found, note=code("cci-captum compare --data 'a`b'"))
    shown = html.unescape(rendered(page))
    assert "<h1><b>data|set (2 images of 2 classes)</h1>" in shown
    assert "<b>data|set: 1 x .he|ic</p>" in shown
    assert "no images directly in 'empty_one' of" in shown
    heading = page.index("## Images that could not be read")
    ((why, count, name),) = cells(page[heading:].split("\n\n")[2])[1:]
    assert (why, count) == ("not an image, or of an unknown kind", "1")
    assert name.endswith(r"/<b>data|set/a|b *c*/two\nlines|.png")
