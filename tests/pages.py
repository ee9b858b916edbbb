"""The code of README and of the pages of docs: found, and run as a reader does, block by block.

A block that cannot run in a test has its reason on the line before it, which no page shows:

    <!-- not run: downloads weights -->
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from helpers import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_MARK = re.compile(r"<!-- not run: (.+) -->")
_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """What stands between two fences."""

    page: Path
    line: int  # of the first fence
    language: str
    code: str
    reason: str  # why it is not run; "" where it is

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()].splitlines()
        mark = _MARK.fullmatch(before[-1]) if before else None
        found.append(Block(page, len(before) + 1, *fence.groups(), mark[1] if mark else ""))
    return found


def run_page(page: Path, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a page's Python blocks define, run one after the other, from what is given first."""
    names = dict(given or {})
    for block in blocks(page):
        if block.language == "python" and not block.reason:
            code = "\n" * block.line + block.code  # so that an error names the page's line
            exec(compile(code, str(page), "exec"), names)
    return names


def commands(page: Path) -> list[list[str]]:
    """The words of each call of `cci-captum` in blocks, fenced or indented."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^(?: {4})?(cci-captum .*)$", text, re.MULTILINE)
    return [shlex.split(line)[1:] for line in lines]
