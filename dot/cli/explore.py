"""Write one self-contained page to compare methods in the browser without a network: surfaces, or gradient conflict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Union

import tyro

from dot.cli._shared import Common, Output, Reply, UsageError, at_least_one, by_folder

if TYPE_CHECKING:
    from landscape import Conflict, Surface
    from landscape.sharpness import Flatness

EXAMPLES = (
    "explore studies/digits-quick/runs/*/surface.h5 -o surfaces.html",
    "explore surface.h5 --term kd",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``explore``."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Surface files of one to six methods, of several epochs and splits where there are; flatness files, for the table;
    or conflict files. Of each method the smallest seed is shown."""
    output: Output = None
    """The page; explore.html by default."""
    term: str = ""
    """Which term of surfaces is shown first; the first by default."""


def run(options: Options) -> Reply:
    """Run the verb."""
    at_least_one(options.files, "surface file")
    import landscape as ls
    from landscape import store

    surfaces = {name: store.load_surface(paths[0]) for name, paths in by_name(options.files).items()}
    page = options.output or Path("explore.html")
    ls.explore(surfaces, term=options.term or next(iter(surfaces.values())).terms[0]).write_html(page)
    return Reply(str(page), {"page": str(page), "surfaces": list(surfaces)})
