"""Draw result files as one figure, in PDF and PNG.

The kind of figure follows from the files: contours of planes, curves of lines, the cosine of conflict files (of more
than two terms, of every two); run folders give task loss against distillation loss over training. With --kind error,
planes show how exact their cells are. Files of one method are taken as its seeds; of planes the smallest seed of each
method is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dot.cli._shared import Common, Output, Reply, at_least_one, by_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = (
    "plot studies/digits-quick/runs/*/surface.h5 --term kd -o contours",
    "plot studies/digits-quick/runs/*/conflict.h5 --kind layers",
)
Kind = Literal["auto", "contour", "curves", "error", "cosine", "cosines", "inconsistency", "layers", "tradeoff"]


@dataclass(frozen=True)
class Options(Common):
    """Options of ``plot``."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Result files of one kind, or run folders."""
    output: Output = None
    """File name without its ending; the kind of figure by default."""
    kind: Kind = "auto"
    """Which figure."""
    term: str = ""
    """Which term of surfaces; their first by default."""


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
    loaded: dict[Path, Any] = {path: ls.load(path) for path in options.files}
    flat = list(loaded.values())
    if all(isinstance(result, ls.Conflict) for result in flat):
        return _draw_conflicts(options.kind, loaded)
    if not all(isinstance(result, ls.Surface) for result in flat):
        kinds = ", ".join(sorted({type(result).__name__.lower() for result in flat}))
        raise ValueError(f"files must be of one kind, surfaces or conflicts. Got: {kinds}.")
    term = options.term or flat[0].terms[0]
    if all(result.y is None for result in flat if isinstance(result, ls.Surface)):
        _expect(options.kind, ("auto", "curves"), "lines")
        return "curves", ls.plot.curves(_named(loaded), term=term)
    if any(result.y is None for result in flat if isinstance(result, ls.Surface)):
        raise ValueError("files must be of one kind. Got planes and lines together.")
    _expect(options.kind, ("auto", "contour", "error"), "planes")
    first = {name: results[0] for name, results in _named(loaded).items()}
    kind = "contour" if options.kind == "auto" else options.kind
    return kind, getattr(ls.plot, kind)(first, term=term)


def _draw_conflicts(kind: Kind, loaded: dict[Path, Any]) -> tuple[str, Figure]:
    import landscape as ls

    _expect(kind, ("auto", "cosine", "cosines", "inconsistency", "layers"), "conflict files")
    found = list(loaded.values())
    if kind == "auto":
        kind = "cosine" if all(len(conflict.terms) == 2 for conflict in found) else "cosines"
    if kind != "cosines":
        return kind, getattr(ls.plot, kind)(_named(loaded))
    if len(found) > 1:
        raise ValueError(f"files must be one conflict file for --kind cosines. Got {len(found)}.")
    return kind, ls.plot.cosines(found[0])


def _named(loaded: dict[Path, Any]) -> dict[str, list[Any]]:
    return {name: [loaded[path] for path in paths] for name, paths in by_name(list(loaded)).items()}


def _expect(kind: str, possible: tuple[str, ...], what: str) -> None:
    if kind not in possible:
        raise ValueError(f"--kind must be one of {', '.join(possible)} for {what}. Got {kind!r}.")
