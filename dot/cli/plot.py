"""Draw result files as one figure, in PDF and PNG.

The kind of figure follows from the files: contours of planes, curves of lines, the cosine of conflict files; run
folders give their way through task and distillation loss. Files of one method are taken as its seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dot.cli._shared import Common, Output, Reply, at_least_one, label_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = (
    "plot studies/digits-quick/runs/*/surface.h5 --term kd -o contours",
    "plot studies/digits-quick/runs/*/conflict.h5 --kind layers",
)
Kind = Literal["auto", "contour", "curves", "cosine", "layers", "tradeoff"]


@dataclass(frozen=True)
class Options(Common):
    """Options of ``plot``."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Result files of one kind, or run folders."""
    output: Output = None
    """File name without its ending; the kind of figure by default."""
    kind: Kind = "auto"
    """Which figure."""
    term: str = "ce"
    """Which term of surfaces."""


def run(options: Options) -> Reply:
    """Run the verb."""
    at_least_one(options.files, "result file or run folder")
    from landscape import plot

    kind, figure = _draw(options)
    written = plot.save(figure, options.output or Path(kind))
    return Reply("\n".join(map(str, written)), {"kind": kind, "files": list(map(str, written))})


def _draw(options: Options) -> tuple[str, Figure]:
    import landscape as ls

    if any(path.is_dir() for path in options.files):
        from dot import gallery, runs

        for path in options.files:
            if not path.is_dir():
                raise ValueError(f"files must be of one kind. Got run folders, and {path}.")
        _expect(options.kind, ("auto", "tradeoff"), "run folders")
        return "tradeoff", ls.plot.tradeoff(gallery.paths(gallery.by_method(list(map(runs.open_run, options.files)))))
    found: dict[str, list[ls.Surface | ls.Conflict]] = {}
    for path in options.files:
        found.setdefault(label_of(path), []).append(ls.load(path))
    flat = [result for results in found.values() for result in results]
    if all(isinstance(result, ls.Conflict) for result in flat):
        _expect(options.kind, ("auto", "cosine", "layers"), "conflict files")
        kind = "cosine" if options.kind == "auto" else options.kind
        return kind, getattr(ls.plot, kind)(found)
    if not all(isinstance(result, ls.Surface) for result in flat):
        raise ValueError("files must be of one kind. Got surface and conflict files together.")
    if all(result.y is None for result in flat if isinstance(result, ls.Surface)):
        _expect(options.kind, ("auto", "curves"), "lines")
        return "curves", ls.plot.curves(found, term=options.term)  # type: ignore[arg-type]
    if any(result.y is None for result in flat if isinstance(result, ls.Surface)):
        raise ValueError("files must be of one kind. Got planes and lines together.")
    _expect(options.kind, ("auto", "contour"), "planes")
    first = {name: results[0] for name, results in found.items()}
    return "contour", ls.plot.contour(first, term=options.term)  # type: ignore[arg-type]


def _expect(kind: str, possible: tuple[str, ...], what: str) -> None:
    if kind not in possible:
        raise ValueError(f"--kind must be one of {', '.join(possible)} for {what}. Got {kind!r}.")
