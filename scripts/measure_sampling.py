"""What a surface from samples of the examples costs, and whether its errors hold: on a trained network and real images.

    python scripts/measure_sampling.py runs/ce-resnet20-33d83f18 --points 51 --rel-error 0.01 --precision bf16

Measures one surface of one term, prints the share of the full evaluations by the distance from the origin, and the time
beside that of the bare loop over all cells and examples, extrapolated from some batches. Then random cells are
evaluated on all examples, by the same path, and the stated 95 % intervals compared with them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from stamped import stamped
from torch import Tensor, nn

import landscape as ls
from dot import devices, runs
from landscape.batches import Reader, size_of

BARE_BATCHES = 8
RINGS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""Borders of the distances from the origin, in units of the half-width of the grid."""


def only(problem: ls.Problem, term: str) -> ls.Problem:
    """The same problem with a single term."""

    def objective(model: nn.Module, batch: Any) -> Mapping[str, Tensor]:
        return {term: problem.objective(model, batch)[term]}

    return ls.Problem(problem.model, objective, problem.batches, problem.split)


def bare(problem: ls.Problem) -> float:
    """Seconds an example of the plain eager loop."""
    model = problem.private_copy()
    with torch.no_grad(), closing(Reader(problem.batches, problem.device).read()) as source:
        batches = list(islice(source, BARE_BATCHES))
        problem.objective(model, batches[0])
        start = time.perf_counter()
        for batch in batches:
            problem.objective(model, batch)
        return (time.perf_counter() - start) / sum(map(size_of, batches))


def rings(surface: ls.Surface, n: int) -> list[dict[str, float]]:
    """Mean examples a cell by distance from the origin, as a share of all."""
    assert surface.sampled is not None
    assert surface.y is not None
    half = max(np.abs(surface.x).max(), np.abs(surface.y).max())
    distance = np.hypot(*np.meshgrid(surface.x, surface.y)) / half
    found = []
    for low, high in pairwise(RINGS):
        inside = (distance >= low) & (distance < high)
        if inside.any():
            share = float(surface.sampled.n_examples[inside].mean() / n)
            found.append({"from": low, "to": high, "cells": int(inside.sum()), "share": share})
    return found


def check(
    problem: ls.Problem, plane: Any, surface: ls.Surface, term: str, cells: int, precision: Any
) -> dict[str, Any]:
    """Evaluate random cells that were sampled on all examples, and count the intervals that hold the truth."""
    assert surface.sampled is not None
    assert surface.y is not None
    n = surface.attrs["n_examples"]
    open_ = np.argwhere((surface.sampled.n_examples < n) & (surface.status == 1))
    chosen = np.random.default_rng(0).permutation(open_)[:cells]
    if not len(chosen):
        return {"cells": 0}
    points = [(float(surface.x[i]), float(surface.y[j])) for j, i in chosen]
    truth = ls.evaluate(problem, plane, ls.Path(range(len(points)), points), precision=precision).values(term)
    where = tuple(chosen.T)
    ratios = np.abs(surface.values(term)[where] - truth) / surface.sampled.half[term][where]
    inside = int((ratios <= 1).sum())
    return {
        "cells": len(chosen),
        "covered": inside,
        "p": float(stats.binom.cdf(inside, len(chosen), 0.95)),
        "error_over_half_width": ratios.tolist(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--split", default="train", choices=("train", "test"))
    parser.add_argument("--term", default="ce")
    parser.add_argument("--points", type=int, default=51)
    parser.add_argument("--rel-error", type=float, default=0.01)
    parser.add_argument("--abs-error", type=float)
    parser.add_argument("--precision", default="as given")
    parser.add_argument("--check", type=int, default=0, help="evaluate so many cells on all examples")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    parser.add_argument("--surface", type=Path, help="keep the surface here; refined if it is there")
    options = parser.parse_args()
    device = devices.pick(options.device)
    problem = only(runs.problem(options.run, options.split, device), options.term)
    plane = ls.directions.random(problem.model, n=2, seed=0)
    axis = (-1.0, 1.0, options.points)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        surface = ls.evaluate(
            problem,
            plane,
            ls.Grid2D(axis, axis),
            out=options.surface or Path(folder) / "surface.h5",
            precision=options.precision,
            rel_error=options.rel_error,
            abs_error=options.abs_error,
        )
        seconds = time.perf_counter() - start
    assert surface.sampled is not None
    n = surface.attrs["n_examples"]
    full = n * surface.status.size
    mean, error = np.abs(surface.values(options.term)), surface.sampled.sampling_sem[options.term]
    wanted = np.maximum(options.rel_error * mean, options.abs_error or 0.0)
    found = {
        "goal": surface.attrs["goal"],
        "term": options.term,
        "points": options.points,
        "examples": n,
        "origin": surface.origin[options.term][0],
        "plan": surface.attrs["plan"],
        "precision": surface.attrs["precision"],
        "errors": surface.attrs.get("errors"),
        "share": surface.attrs["evaluated"] / full,
        "share_by_distance": rings(surface, n),
        "largest_error_over_wanted": float((error / wanted).max()),
        "seconds": seconds,
        "bare_loop_seconds_extrapolated": bare(problem) * full,
        "check": check(problem, plane, surface, options.term, options.check, options.precision),
    }
    found = stamped(device, found)
    print(json.dumps(found, indent=2))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
