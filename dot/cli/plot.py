"""Draw result files as one figure, in PDF, SVG and PNG, and say its caption.

The kind of figure follows from the files: contours of planes, curves of lines and paths between networks, the cosine of
conflict files (of more than two terms, of every two), numbers of flatness files; run folders give task loss against
distillation loss over training. Others are asked for with --kind. Files of one method are taken as its seeds; where a
figure shows one of each method, that is the smallest seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dot.cli import _verdicts
from dot.cli._shared import Common, Output, Reply, UsageError, at_least_one, by_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = (
    "plot studies/digits-quick/runs/*/surface.h5 --term kd -o contours",
    "plot studies/digits-quick/runs/*/conflict.h5 --kind layers --style paper -o layers.pdf",
)
Kind = Literal[
    "auto",
    "contour",
    "relief",
    "difference",
    "error",
    "trajectory",
    "curves",
    "connectivity",
    "cosine",
    "cosines",
    "heatmap",
    "layers",
    "inconsistency",
    "decomposition",
    "flatness",
    "verdicts",
    "tradeoff",
]
Named = Mapping[str, Sequence[Any]]
"""Results by the name of their method, in the order of their seeds."""
_Draw = Callable[[Named, str], "Figure"]
"""Draws results; the second argument is the term of surfaces, else empty."""

_OTHER = (".jpg", ".jpeg", ".eps", ".ps", ".tif", ".tiff", ".webp", ".gif", ".html")
"""Endings of files that are not written, and would else be taken for a part of a name."""


@dataclass(frozen=True)
class Options(Common):
    """Options of ``plot``."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Result files of one kind, or run folders."""
    output: Output = None
    """A file that ends in .pdf, .svg or .png, or a name without ending for all three; the kind of figure by default."""
    kind: Kind = "auto"
    """Which figure."""
    term: str = ""
    """Which term of surfaces; their first by default."""
    style: Literal["", "paper"] = ""
    """For a journal's page: its width, its sizes of letters, and no text that belongs into the caption."""
    columns: Literal[1, 2] = 1
    """With --style paper: over how many columns of the page."""


def run(options: Options) -> Reply:
    """Run the verb."""
    at_least_one(options.files, "result file or run folder")
    if options.columns != 1 and not options.style:
        raise UsageError(f"--columns goes with --style paper. Got {options.columns} without it.")
    if options.output is not None and options.output.suffix.lower() in _OTHER:
        raise UsageError(f"--output must end in .pdf, .svg or .png, or have no ending. Got {options.output}.")
    from landscape import plot

    with plot.style(options.style, columns=options.columns) if options.style else nullcontext():
        kind, figure = _draw(options)
        written = list(map(str, _save(figure, options.output or Path(kind))))
    said = plot.caption(figure)
    return Reply("\n".join([*written, said]), {"kind": kind, "files": written, "caption": said})


def _save(figure: Figure, path: Path) -> list[Path]:
    from landscape import plot

    try:
        return plot.save(figure, path)
    except OSError as error:
        if error.strerror is None:  # it says what to do
            raise
        raise OSError(f"{path} cannot be written: {error.strerror}. Give another place with -o.") from error


def _draw(options: Options) -> tuple[str, Figure]:
    """The kind of figure, and the figure."""
    what, named, term = _read(options)
    kinds = _KINDS[what]
    if options.kind != "auto" and options.kind not in kinds:
        raise ValueError(f"--kind must be one of auto, {', '.join(kinds)} for {what}. Got {options.kind!r}.")
    kind = _usual(what, named) if options.kind == "auto" else options.kind
    return kind, kinds[kind](named, term)


def _read(options: Options) -> tuple[str, Named, str]:
    """What the files are, as in `_KINDS`; what they hold, by name; and which term is drawn, of surfaces."""
    import landscape as ls
    from landscape.sharpness import Flatness

    folders = [path for path in options.files if path.is_dir()]
    if folders:
        return "run folders", {"": _runs(options.files)}, ""
    loaded: dict[Path, Any] = {path: ls.load(path) for path in options.files}
    found = list(loaded.values())
    kinds = {type(result) for result in found}
    if len(kinds) > 1:
        came = ", ".join(sorted(kind.__name__.lower() for kind in kinds))
        raise ValueError(f"files must be of one kind, surfaces, conflicts or flatness. Got: {came}.")
    if kinds == {Flatness}:
        return "flatness files", {"": list(loaded.items())}, ""
    surfaces = kinds != {ls.Conflict}
    if surfaces and len({result.y is None for result in found}) > 1:
        raise ValueError("files must be of one kind. Got planes and lines together.")
    named = {name: [loaded[path] for path in paths] for name, paths in by_name(list(loaded)).items()}
    if not surfaces:
        return "conflict files", named, ""
    return "lines" if found[0].y is None else "planes", named, options.term or found[0].terms[0]


def _runs(paths: Sequence[Path]) -> list[Any]:
    from dot import runs

    for path in paths:
        if not path.is_dir():
            raise ValueError(f"files must be of one kind. Got run folders, and {path}.")
    return list(map(runs.open_run, paths))


def _usual(what: str, named: Named) -> str:
    """The kind of figure that shows what there is."""
    every = [result for seeds in named.values() for result in seeds]
    if what == "conflict files" and any(len(conflict.terms) > 2 for conflict in every):
        return "cosines"
    if what == "lines" and all(surface.path is not None for surface in every):
        return "connectivity"
    return next(iter(_KINDS[what]))


def _every(kind: str) -> _Draw:
    """A figure of all seeds of each method."""
    return lambda named, term: _function(kind)(named, **({"term": term} if term else {}))


def _first(kind: str) -> _Draw:
    """A figure of one seed of each method."""
    return lambda named, term: _every(kind)({name: seeds[0] for name, seeds in named.items()}, term)


def _difference(named: Named, term: str) -> Figure:
    every = [(f"{name} ({i})", one) for name, seeds in named.items() for i, one in enumerate(seeds, 1)]
    two = [(name, seeds[0]) for name, seeds in named.items()] if len(named) > 1 else every
    if len(two) != 2:
        raise ValueError(f"--kind difference needs two planes. Got {len(two)}: {', '.join(name for name, _ in two)}.")
    (one, a), (other, b) = two
    return _function("difference")(a, b, term=term, names=(one, other))


def _cosines(named: Named, _: str) -> Figure:
    every = [conflict for seeds in named.values() for conflict in seeds]
    if len(every) > 1:
        raise ValueError(f"files must be one conflict file for --kind cosines. Got {len(every)}.")
    return _function("cosines")(every[0])


def _of_files(kind: str) -> _Draw:
    """A figure of flatness files, compared."""
    return lambda named, _: _function(kind)(_verdicts.of_files(dict(named[""])))


def _of_runs(kind: str) -> _Draw:
    """A figure of the flatness that was measured of runs."""
    return lambda named, _: _function(kind)(_verdicts.of_runs(named[""]))


def _tradeoff(named: Named, _: str) -> Figure:
    from dot import gallery

    return gallery.tradeoff(gallery.by_method(named[""]))


def _function(kind: str) -> Callable[..., Figure]:
    import landscape as ls

    return getattr(ls.plot, kind)


_KINDS: Mapping[str, Mapping[str, _Draw]] = {
    "planes": {
        "contour": _first("contour"),
        "relief": _first("relief"),
        "difference": _difference,
        "error": _first("error"),
        "trajectory": _first("trajectory"),
    },
    "lines": {"curves": _every("curves"), "connectivity": _first("connectivity")},
    "conflict files": {
        "cosine": _every("cosine"),
        "cosines": _cosines,
        "heatmap": _first("heatmap"),
        "layers": _every("layers"),
        "inconsistency": _every("inconsistency"),
        "decomposition": _every("decomposition"),
    },
    "flatness files": {"flatness": _of_files("flatness"), "verdicts": _of_files("verdicts")},
    "run folders": {"tradeoff": _tradeoff, "flatness": _of_runs("flatness"), "verdicts": _of_runs("verdicts")},
}
"""How each kind of figure is drawn, by what the files are; the first is the usual one."""
