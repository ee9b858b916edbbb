"""The code of README and of every page runs, and the command lines are ones that exist."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import PAGES, Block, blocks, commands, run_page
from PIL import Image
from selection import exhaustive_unless
from toy_comparison import PREPROCESS

import cci_captum
from cci_captum import LoadedCLIP, ZeroShotClassifier
from cci_captum.baselines.spec import MethodSpec
from cci_captum.benchmarks.cli import build_parser

RUN_BY_TEST_DOCS = {"data.md", "vision_towers.md", "your_own_method.md"}
QUICK = {"README.md", "study.md"}
LANGUAGES = {"python", "sh", "text", "{toctree}", "{eval-rst}"}
WITH_CODE = [
    page
    for page in PAGES
    if page.name not in RUN_BY_TEST_DOCS
    and any(block.language == "python" and not block.reason for block in blocks(page))
]


@pytest.fixture
def given(
    model: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What a reader has: a model and what belongs to it, images, and a folder of photos.

    The model is small, so that thousands of passes take seconds; `load_clip` gives it too.
    """
    clip = LoadedCLIP(model, PREPROCESS, tokenizer, "toy")
    monkeypatch.setattr(cci_captum, "load_clip", lambda *name: clip)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for place in ("photo.jpg", "photos/cat/one.png", "photos/dog/two.png"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 36)).save(path)
    gallery = torch.stack([PREPROCESS(Image.open(tmp_path / "photo.jpg")), torch.zeros(3, 32, 32)])
    return {
        "model": model,
        "preprocess": PREPROCESS,
        "tokenizer": tokenizer,
        "classifier": ZeroShotClassifier(model, tokenizer, ["cat", "dog"], "{}"),
        "images": gallery[:1],
        "labels": [1],
        "my_function": PREPROCESS,
        "gallery": gallery,
        "texts": [["a cat", "a cat on snow"], ["a dog"]],
        "captions": torch.tensor([0, 2]),
    }


@pytest.mark.parametrize(
    "page",
    [exhaustive_unless(page.name in QUICK, page) for page in WITH_CODE],
    ids=lambda page: page.name,
)
def test_the_code_of_a_page_runs(page: Path, given: dict[str, Any]) -> None:
    assert run_page(page, given).keys() > given.keys()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_is_marked_as_what_it_is(page: Path) -> None:
    """So that none is left out by a fence of another name, or by a mark that is none."""
    found = blocks(page)
    assert {block.language for block in found} <= LANGUAGES
    text = page.read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(found)
    assert text.count("<!-- not run") == sum(bool(block.reason) for block in found)
    for block in found:
        if block.reason:
            assert block.language == "python", block
            assert len(block.reason.split()) > 1, block


def test_a_mark_needs_a_reason(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    code = "```python\nraise ValueError\n```\n"
    page.write_text(f"<!-- not run: needs weights -->\n{code}\n<!-- not run -->\n{code}{code}")
    first, second, third = blocks(page)
    assert first == Block(page, 2, "python", "raise ValueError\n", "needs weights")
    assert (second.line, second.reason, third.reason) == (7, "", "")
    with pytest.raises(ValueError) as caught:
        run_page(page)
    assert caught.traceback[-1].lineno == 7  # counted from 0: the page's eighth line


COMMANDS = [(page.name, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=str)
def test_command_lines_are_understood(page: str, words: list[str]) -> None:
    arguments = build_parser().parse_args(words)
    methods = getattr(arguments, "method", None) or ()
    for text in [methods] if isinstance(methods, str) else methods:
        assert text == "all" or MethodSpec.parse(text)


def test_command_lines_are_found() -> None:
    assert {words[0] for _, words in COMMANDS} >= {"explain", "compare"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_programs_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for module in re.findall(r"python -m (cci_captum[\w.]*)", text):
        assert find_spec(module.rstrip(".")), module
