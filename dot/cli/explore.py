"""Write one self-contained page with surfaces side by side in 3-D, to rotate in the browser without a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dot.cli._shared import Common, Output, Reply, at_least_one, by_name

EXAMPLES = (
    "explore studies/digits-quick/runs/*/surface.h5 -o surfaces.html",
    "explore surface.h5 --term kd",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``explore``."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """One to six surface files; of each method the smallest seed is shown."""
    output: Output = None
    """The page; explore.html by default."""
    term: str = ""
    """Which term; the first by default."""


def run(options: Options) -> Reply:
    """Run the verb."""
    at_least_one(options.files, "surface file")
    import landscape as ls
    from landscape import report, store

    surfaces = {name: store.load_surface(paths[0]) for name, paths in by_name(options.files).items()}
    page = options.output or Path("explore.html")
    report.write(page, ls.explore(surfaces, term=options.term or next(iter(surfaces.values())).terms[0]).to_html())
    return Reply(str(page), {"page": str(page), "surfaces": list(surfaces)})
