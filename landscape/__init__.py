"""Loss surfaces, flatness and gradient conflict of any ``torch.nn.Module``.

    import landscape as ls
    problem = ls.Problem(model, objective, loader)
    directions = ls.directions.random(model, n=2, seed=0)
    surface = ls.evaluate(problem, directions, ls.Grid2D(x=(-1, 1, 51), y=(-1, 1, 51)), out="surface.h5")
    ls.plot.contour(surface, term="ce").savefig("contour.pdf")

The plotting libraries are imported when ``ls.plot``, ``ls.explore`` or ``ls.report`` is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from landscape import conflict, connectivity, directions, hessian, sharpness
from landscape.conflict.result import Conflict
from landscape.grid import Grid1D, Grid2D, LogAxis, Path
from landscape.merging import merge
from landscape.problem import PerToken, Problem
from landscape.results import Surface
from landscape.store import load
from landscape.surface import evaluate

if TYPE_CHECKING:
    from landscape import formats, plot, report
    from landscape.explorer import explore

__all__ = [
    "Conflict",
    "Grid1D",
    "Grid2D",
    "LogAxis",
    "Path",
    "PerToken",
    "Problem",
    "Surface",
    "conflict",
    "connectivity",
    "directions",
    "evaluate",
    "explore",
    "formats",
    "hessian",
    "load",
    "merge",
    "plot",
    "report",
    "sharpness",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name in ("formats", "plot", "report"):
        return import_module(f"landscape.{name}")
    if name == "explore":
        return import_module("landscape.explorer").explore
    raise AttributeError(f"module 'landscape' has no attribute {name!r}")
