"""Measure a loss surface around trained weights, along filter-normalised random directions.

Of a run folder, or of your own network through a function that returns a landscape.Problem. Every finished row is in
the file at once; the same command goes on after an interruption.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dot.cli._shared import Measured, Output, Reply, find_problem

EXAMPLES = (
    "surface runs/kd-dot-convnet8-* --x -1 1 11 --y -1 1 11",
    "surface --problem my_network:problem --lines 10 -o lines.h5",
)


@dataclass(frozen=True)
class Options(Measured):
    """Options of ``surface``."""

    output: Output = None
    """HDF5 file; surface.h5 or lines.h5 in the run folder (or here, for --problem) by default."""
    x: tuple[float, float, int] = (-1.0, 1.0, 21)
    """First and last coordinate, and how many."""
    y: tuple[float, float, int] = (-1.0, 1.0, 21)
    """Likewise, of a plane."""
    lines: int = 0
    """Measure so many lines along x instead of a plane."""
    normalize: Literal["filter", "layer", "model", "none"] = "filter"
    """What the directions are scaled to."""
    ignore: Literal["biasbn", "none"] = "biasbn"
    """Whether biases and normalisation layers stay put."""
    seed: int = 0
    """Of the directions."""


def run(options: Options) -> Reply:
    """Run the verb."""
    import landscape as ls
    from landscape import store

    grid = ls.Grid1D(options.x) if options.lines else ls.Grid2D(options.x, options.y)
    problem, folder = find_problem(options)
    out = options.output or folder / ("lines.h5" if options.lines else "surface.h5")
    drawn = ls.directions.random(
        problem.model,
        n=options.lines or 2,
        normalize=options.normalize,
        ignore=options.ignore,
        seed=options.seed,
    )
    surface = ls.evaluate(problem, drawn, grid, out=out)
    origin = ", ".join(f"{name} {mean:.4g} ± {sem:.2g}" for name, (mean, sem) in surface.origin.items())
    return Reply(f"{out}: {surface.status.size} cells done; at the origin {origin}", store.describe(out))
