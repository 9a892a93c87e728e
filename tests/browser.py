"""A real browser for the tests of pages: offline, and strict about everything that it reports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

# Without a screen and a graphics card WebGL is drawn by software.
_ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", Path(__file__).parent.parent / "build" / "screenshots"))
"""Where pictures of the pages are kept, to be looked at."""


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's Chromium; a machine without it fails and says what to install."""
    path = shutil.which("chromium")
    assert path, "expected chromium on the PATH. Got none. Run `apt-get install chromium`."
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield chromium
        chromium.close()


@contextmanager
def opened(
    chromium: Any, path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light", fragment: str = ""
) -> Iterator[Page]:
    """A page that is open without a network; at the end nothing may have failed, asked for a network or run a name."""
    problems: list[str] = []
    context = chromium.new_context(
        offline=True, viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
    )
    tab = context.new_page()
    tab.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("dialog", lambda dialog: (problems.append("a name ran as a script"), dialog.dismiss()))
    tab.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    tab.goto(path.as_uri() + fragment)
    yield tab
    context.close()
    assert not problems


def screenshot(tab: Page, name: str) -> None:
    """Keep a picture of the whole page under a name."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
