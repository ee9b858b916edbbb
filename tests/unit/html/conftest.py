"""Pages in a real browser, opened from a file."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cci_captum.html import map_view

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"needs one of {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """A page opened from a file, and all that it asked for or said."""

    def __init__(self, browser: Any, path: Path, html: str, **options: Any) -> None:
        path.write_text(html, encoding="utf-8")
        self.page = browser.new_page(**options)
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(path.as_uri())
        self.address = path.as_uri()

    def done(self) -> None:
        """Assert that nothing was asked for but the file and what it holds, and nothing said."""
        asked = [url for url in self.asked if not url.startswith("data:")]
        assert (asked, self.said) == ([self.address], [])
        self.page.close()

    def hover(self, x: float, y: float, index: int = 0) -> None:
        """Point at a share of the width and height of a map."""
        canvas = self.page.locator("canvas").nth(index)
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        self.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])

    def values(self) -> list[str]:
        """What stands below each map."""
        return self.page.locator(".cci-value").all_inner_texts()

    def live(self) -> str:
        return str(self.page.locator("[aria-live=polite]").first.text_content())

    def pixels(self, index: int = 0) -> np.ndarray:
        """What a map's canvas holds, (H, W, 4)."""
        url = self.page.locator("canvas").nth(index).evaluate("canvas => canvas.toDataURL()")
        return np.asarray(Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))))

    def set_opacity(self, percent: int) -> None:
        self.page.locator("input[type=range]").fill(str(percent))


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Opens a page of a view, or any other; none may ask for anything or say anything."""
    pages: list[Opened] = []

    def opener(*arguments: Any, html: str = "", options: Any = None, **given: Any) -> Opened:
        html = html or map_view(*arguments, fragment=False, **given)
        pages.append(Opened(browser, tmp_path / f"{len(pages)}.html", html, **(options or {})))
        return pages[-1]

    yield opener
    for page in pages:
        page.done()
