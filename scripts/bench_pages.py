"""What pages of surfaces cost: their size, the time until they are drawn, and the frames of a camera that is dragged.

Run as `python scripts/bench_pages.py -o figures/performance/bench-pages.json`. The seconds to planes are those until
every plane is seen from above, the seconds to open those until all are seen in 3-D too. Each page is opened in headless
Chromium, which draws 3-D on the processor: with a graphics card the frames differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stamped import ROOT, stamped

import landscape as ls
from landscape.results import DONE, Surface

sys.path.insert(0, str(ROOT / "tests"))
from browser import browser

TERMS = ("ce", "kd", "error")
CASES = {"1 surface, 51 x 51": (1, 1, 51), "4 x 20 epochs, 51 x 51": (4, 20, 51), "1 surface, 201 x 201": (1, 1, 201)}
"""Methods, epochs of each, and points along an axis."""

DRAG = """async () => {
    const scene = document.querySelector(".scene canvas");
    const box = scene.getBoundingClientRect();
    const send = (type, x, buttons) => scene.dispatchEvent(new MouseEvent(type, {
        clientX: box.left + x, clientY: box.top + box.height / 2, buttons, bubbles: true,
    }));
    const frame = () => new Promise(requestAnimationFrame);
    send("mousemove", 100, 0);
    send("mousedown", 100, 1);
    await frame();
    const start = performance.now();
    let frames = 0;
    while (frames < 60 && performance.now() - start < 10000) {
        send("mousemove", 100 + 2 * frames, 1);
        await frame();
        frames++;
    }
    const seconds = (performance.now() - start) / 1000;
    send("mouseup", 100 + 2 * frames, 0);
    return frames / seconds;
}"""


def surface(seed: int, epoch: int, points: int) -> Surface:
    """A bowl with ripples that differ from method to method, and sink from epoch to epoch."""
    x = np.linspace(-1, 1, points)
    bowl = 0.05 + (3 + seed) * (x[None, :] ** 2 + x[:, None] ** 2) + np.sin(5 * x[None, :] + seed) ** 2 / (1 + epoch)
    values = {"ce": bowl, "kd": 2 * bowl + 0.1, "error": 1 - np.exp(-bowl)}
    sems = {term: np.full(bowl.shape, 0.01) for term in TERMS}
    middle = (points // 2, points // 2)
    return Surface(
        x,
        x,
        ("y", "x"),
        values,
        sems,
        np.full(bowl.shape, DONE, dtype=np.uint8),
        {term: (float(values[term][middle]), 0.01) for term in TERMS},
        {"normalize": "filter", "ignore": "biasbn", "seed": 0, "n_examples": 1000, "split": "train", "epoch": epoch},
    )


def case(chromium: Any, folder: Path, methods: int, epochs: int, points: int) -> dict[str, float]:
    named = {f"method {seed}": [surface(seed, epoch, points) for epoch in range(epochs)] for seed in range(methods)}
    path = folder / "page.html"
    start = time.perf_counter()
    ls.explore(named).write_html(path)
    written = time.perf_counter() - start
    tab = chromium.new_context(offline=True, viewport={"width": 1280, "height": 900}).new_page()
    start = time.perf_counter()
    tab.goto(path.as_uri(), wait_until="commit")
    tab.wait_for_function(f"document.querySelectorAll('#page .plane .main-svg').length >= {methods}")
    seen = time.perf_counter() - start
    tab.wait_for_selector("#page .scene canvas")
    tab.wait_for_selector("#page:not([aria-busy])")
    opened = time.perf_counter() - start
    frames = tab.evaluate(DRAG)
    tab.close()
    return {
        "megabytes": path.stat().st_size / 1e6,
        "seconds to write": written,
        "seconds to planes": seen,
        "seconds to open": opened,
        "frames": frames,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    output = parser.parse_args().output
    results = {}
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        for name, sizes in CASES.items():
            results[name] = case(chromium, Path(folder), *sizes)
            print(name, {key: round(value, 2) for key, value in results[name].items()}, flush=True)
        found = {"browser": chromium.version, "results": results}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(stamped(torch.device("cpu"), found), indent=2) + "\n")


if __name__ == "__main__":
    main()
