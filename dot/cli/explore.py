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

    named = _named(options.files)
    path = options.output or Path("explore.html")
    kind = "conflicts" if _of_conflict(named) else "surfaces"
    if kind == "conflicts" and options.term:
        raise UsageError("--term goes with surface files. Got conflict files.")
    shown = {name: found[0] for name, found in named.items()} if kind == "conflicts" else named
    ls.explore(shown, term=options.term or None).write_html(path)  # type: ignore[arg-type]
    return Reply(str(path), {"page": str(path), kind: list(named)})


Result = Union["Surface", "Conflict", "Flatness"]


def _named(files: Sequence[Path]) -> dict[str, list[Result]]:
    """What the files hold, by method: those of a run folder belong together."""
    import landscape as ls

    named: dict[str, list[Result]] = {}
    for name, paths in by_folder(files).items():
        named[name] = [ls.load(path) for path in paths]
    return _with_their_surfaces(named)


def _with_their_surfaces(named: dict[str, list[Result]]) -> dict[str, list[Result]]:
    """Flatness numbers from elsewhere beside the surfaces of the same weights.

    Raises:
        ValueError: No surface is of these weights.
    """
    from landscape import Surface
    from landscape.sharpness import Flatness

    alone = [name for name, found in named.items() if all(isinstance(one, Flatness) for one in found)]
    for name in alone:
        numbers = named.pop(name)
        weights = {one.attrs.get("checkpoint_sha256") for one in numbers}
        owners = [
            of
            for of, found in named.items()
            if {one.attrs.get("checkpoint_sha256") for one in found if isinstance(one, Surface)} & weights
        ]
        if not owners:
            raise ValueError(f"{name} must be flatness numbers of the weights of a surface. Got no surface of these.")
        named[owners[0]] += numbers
    return named


def _of_conflict(named: Mapping[str, Sequence[Result]]) -> bool:
    from landscape import Conflict

    every = [one for found in named.values() for one in found]
    conflicts = [one for one in every if isinstance(one, Conflict)]
    if conflicts and len(conflicts) < len(every):
        raise UsageError("expected surface and flatness files, or conflict files. Got both: make a page of each.")
    return bool(conflicts)
