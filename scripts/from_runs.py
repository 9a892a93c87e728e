"""What the scripts of the paper's figures share: runs from the command line, and a figure as files with its caption."""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import landscape as ls
from dot import gallery, runs


def arguments(said: str | None) -> tuple[dict[str, list[runs.Run]], Path]:
    """Run folders grouped by method, and the path of the figure without its ending."""
    parser = argparse.ArgumentParser(description=said, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="measured run folders, every seed of each method")
    parser.add_argument("-o", "--output", required=True, type=Path, help="where to write, without .pdf, .svg or .png")
    use = parser.parse_args()
    return gallery.by_method([runs.open_run(path) for path in use.runs]), use.output


def write(figure: Figure, stem: Path) -> None:
    """All three files, their paths, and the sentence for the caption."""
    print(*ls.plot.save(figure, stem), ls.plot.caption(figure), sep="\n")
