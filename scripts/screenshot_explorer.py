"""Takes the README's picture of the explorer, from the surfaces of a finished study.

    python scripts/screenshot_explorer.py [studies/digits]

Opens the page of one student of each method (the smallest seed) in headless Chromium without a network, points at a
place, and writes figures/<name of the study>/explorer.png, with a JSON beside it that says how it was made.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import FloatRect, Page, sync_playwright
from stamped import ROOT, stamped

import landscape as ls
from dot import gallery
from dot.runs import open_run
from landscape import store

WIDTH, HEIGHT = 1280, 900
"""Of the window; the picture goes on to the end of the panels, where what is pointed at is read."""

MARGIN = 20
MOST = 400_000
"""Bytes of the picture."""

POINTED_AT = (0.62, 0.35)
"""Where in the first plane, as shares of its width and height."""

# Without a screen and a graphics card WebGL is drawn by software.
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
DRAWN = "document.querySelector('.js-plotly-plot .main-svg') && !document.querySelector('[aria-busy=true]')"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, default=ROOT / "studies" / "digits")
    study = parser.parse_args().study
    shown = smallest_seed(study)
    surfaces = {name: store.load_surface(run / "surface.h5") for name, run in shown.items()}
    target = ROOT / "figures" / study.name / "explorer.png"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "explorer.html"
        ls.explore(surfaces, term="ce").write_html(page)
        chromium, picture = photographed(page)
    if len(picture) > MOST:
        sys.exit(f"the picture must have at most {MOST} bytes. Got {len(picture)}. Take a smaller window.")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(picture)
    said: dict[str, Any] = {
        "runs": {name: run.name for name, run in shown.items()},
        "chromium": chromium,
        "window": [WIDTH, HEIGHT],
    }
    made = stamped(torch.device("cpu"), said)
    target.with_suffix(".json").write_text(json.dumps(made, indent=1) + "\n")
    print(f"{target.relative_to(ROOT)}: {len(picture)} bytes")


def smallest_seed(study: Path) -> Mapping[str, Path]:
    """The measured run of each method that has the smallest seed."""
    folders = sorted(path.parent for path in (study / "runs").glob("*/surface.h5"))
    if not folders:
        sys.exit(f"expected runs with a surface.h5. Got none in {study / 'runs'}. Run `dot-landscape reproduce` first.")
    return {name: runs[0].path for name, runs in gallery.by_method([open_run(path) for path in folders]).items()}


def photographed(path: Path) -> tuple[str, bytes]:
    """The version of Chromium, and a picture of the page as it is when it is pointed at, down to the last panel."""
    found = shutil.which("chromium")
    if found is None:
        sys.exit("expected chromium on the PATH. Got none. Run `apt-get install chromium`.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        tab = chromium.new_context(offline=True, viewport={"width": WIDTH, "height": HEIGHT}).new_page()
        tab.goto(path.as_uri())
        tab.wait_for_function(DRAWN)
        left, top, width, height = place(tab, ".cross")
        tab.mouse.move(left + POINTED_AT[0] * width, top + POINTED_AT[1] * height, steps=4)
        tab.wait_for_timeout(1000)  # scenes draw some frames after they were asked to
        _, top, _, height = place(tab, ".panels")
        clip: FloatRect = {"x": 0, "y": 0, "width": WIDTH, "height": top + height + MARGIN}
        return chromium.version, tab.screenshot(full_page=True, clip=clip)


def place(tab: Page, selector: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of the first element that is meant, in pixels of the page."""
    box = tab.locator(selector).first.bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"], box["height"]


if __name__ == "__main__":
    main()
