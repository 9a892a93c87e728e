"""Curvature over a surface: how convex the loss is at each cell of a grid around the weights."""

from __future__ import annotations

import math
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from landscape import grid as grids
from landscape import identity, modules, store
from landscape.allocation import allocate
from landscape.averages import Moments
from landscape.derivatives import Derivatives, Kind
from landscape.directions import Directions
from landscape.directions.weights import check_fit
from landscape.files import claim
from landscape.grid import Grid
from landscape.hessian.ends import Ends, ends, warn_of_given_up
from landscape.hessian.searching import check
from landscape.isolation import thread_count
from landscape.parts import Part
from landscape.plan import Plan
from landscape.problem import Problem
from landscape.progress import bar
from landscape.results import DONE, NOT_FINITE, PENDING, Surface

_ROUNDING = 100
"""What rounding may add to a residual, in units in the last place of the largest magnitude."""


def over(
    problem: Problem,
    directions: Directions,
    grid: Grid,
    term: str | None = None,
    *,
    out: str | Path | None = None,
    tolerance: float = 1e-2,
    kind: Kind = "hessian",
    parameters: Collection[str] | None = None,
    precision: Literal["as given", "float64"] = "as given",
    differences: bool = False,
    max_products: int = 200,
    seed: int = 0,
    label: str = "curvature",
) -> Surface:
    """The smallest and the largest eigenvalue of a term's curvature at every point of a grid around the weights.

    As in Li et al., "Visualizing the Loss Landscape of Neural Nets" (NeurIPS 2018), figure 7: where the ratio of both
    is small, a surface that looks convex is nearly so in all other directions, too. Each cell takes some tens of
    products, each of them two to three times a pass over the data: use a coarse grid.

    With ``out``, finished cells are in the file, as with `landscape.evaluate`: called again after an interruption, it
    goes on where it was, and (on a CPU) the values are the same to the last bit.

    Args:
        problem: Model, objective and data; measured in eval mode, the model is never written to.
        directions: Two for a `Grid2D`; for a `Grid1D` one, or several; for a `Path` as many as its coordinates.
        grid: Coordinates in units of the directions.
        term: A differentiable term; the objective's first one by default.
        out: HDF5 file to write, and to resume; without it the surface is in memory only.
        tolerance: Of both residuals, as a share of the larger magnitude of the two.
        kind: Which matrix stands for the curvature, see `landscape.derivatives.Kind`.
        parameters: Names of those whose curvature counts, all by default; the directions may move others, too.
        precision: ``"float64"`` casts model and batches to double precision.
        differences: Whether products are central differences of gradients.
        max_products: After which a cell is given up: what it has is kept, with its residuals, and a warning, which
            counts those of earlier calls, too.
        seed: Of the random vector that each search starts from.
        label: Name on the progress bar.

    Returns:
        The terms ``smallest``, ``largest`` and ``ratio``, ``|smallest| / |largest|``. Their ``sem`` are no standard
        errors but bounds: the length of the residual, within which there is an eigenvalue.

    Raises:
        ValueError: As `landscape.hessian.eigenpairs`; the directions do not fit the model or the grid, or the file is
            of another measurement (what differs is named).
        RuntimeError: The device has no memory for a single example.
        OSError: The file cannot be written, or another process writes it.
    """
    check(tolerance, max_products, seed, 2)
    check_fit(problem.model, directions.axes)
    grids.shape(grid, len(directions))  # refused at once where they do not fit
    made = Derivatives(problem, term, kind=kind, parameters=parameters, precision=precision, differences=differences)
    options = {
        "measure": "curvature",
        "matrix": kind,
        "term": term or "",
        "parameters": "all" if parameters is None else sorted(parameters),
        "differences": differences,
        "tolerance": tolerance,
        "max_products": max_products,
        "search_seed": seed,
    }
    place = Place(made, problem, directions)
    work = _Work(problem, directions, grid, place, options, precision, None if out is None else Path(out), label)
    with claim(work.out) if work.out is not None else nullcontext(), torch.inference_mode(mode=False):
        return work.run()


class Place:
    """Moves the network of derivatives to the points of a grid."""

    def __init__(self, derivatives: Derivatives, problem: Problem, directions: Directions) -> None:
        self.derivatives = derivatives
        own, given = modules.state(derivatives.model), modules.state(problem.model)
        self._axes = [{name: d.to(own[name]) for name, d in axis.items()} for axis in directions.axes]
        self._base = {name: given[name].to(own[name]) for axis in self._axes for name in axis}

    def go_to(self, point: tuple[float, ...]) -> Derivatives:
        """The derivatives at a point."""
        moved: dict[str, Tensor] = dict(self._base)
        for coordinate, axis in zip(point, self._axes, strict=True):
            if coordinate != 0:
                moved |= {name: torch.add(moved[name], d, alpha=coordinate) for name, d in axis.items()}
        self.derivatives.put(moved)
        return self.derivatives


class _Work(NamedTuple):
    """One call of `over`."""

    problem: Problem
    directions: Directions
    grid: Grid
    place: Place
    options: dict[str, Any]
    precision: str
    out: Path | None
    label: str

    def run(self) -> Surface:
        known = self._identity()
        found = self._found(known)
        plan = Plan.new(self.problem.device, "rows") if found is None else Plan.of(found.attrs)
        if plan.device != self.problem.device.type:
            raise ValueError(
                f"{self.out} plans to compute on {plan.device}, whose last bits are its own. Got a model on "
                f"{self.problem.device.type}: move it there, or write to another file."
            )
        with thread_count(plan.threads):
            return self._fill(self._begun(found, known, plan))

    def _found(self, known: dict[str, Any]) -> Surface | None:
        if self.out is None or not self.out.exists():
            return None
        found = store.load_surface(self.out)
        identity.refuse_another(found, known, self.grid, str(self.out))
        return found

    def _identity(self) -> dict[str, Any]:
        part = Part()
        known = identity.of(
            self.problem, self.directions, bn_mode="eval", precision=self.precision, shard=part, data_shard=part
        )
        return known | {"data_sha256": self.problem.data_sha256(), "bn_sample_sha256": ""} | self.options

    def _begun(self, found: Surface | None, known: dict[str, Any], plan: Plan) -> Surface:
        at_home = self.place.derivatives.slope()
        probe = {str(self.options["term"]): at_home.value}
        if found is not None:
            identity.refuse_another_objective(found, probe, str(self.out))
            return found
        terms = self._ends((0.0,) * len(self.directions)).terms
        n = self.place.derivatives.examples
        counted = {name: Moments(value, math.nan, 0.0, n, n, n) for name, (value, _) in terms.items()}
        surface = allocate(self.problem.device, self.directions, self.grid, plan, counted, known | {"probe": probe})
        surface.origin = terms
        if self.out is not None:
            store.create_surface(self.out, surface)
        return surface

    def _ends(self, point: tuple[float, ...]) -> Ends:
        options = self.options
        return ends(self.place.go_to(point), options["tolerance"], options["max_products"], options["search_seed"])

    def _fill(self, surface: Surface) -> Surface:
        cells = [cell for unit in grids.units(self.grid, len(self.directions)) for cell in unit]
        todo = [cell for cell in cells if surface.status[cell[0]] == PENDING]
        writing = store.SurfaceWriter(self.out, surface) if self.out is not None and todo else nullcontext()
        with writing as writer, bar(len(cells), self.label, "cell") as progress:
            progress.update(len(cells) - len(todo))
            for index, point in todo:
                found = self._ends(point) if any(point) else None
                _put(surface, index, surface.origin if found is None else found.terms)
                if writer is not None:
                    writer.add(index)
                progress.update()
        warn_of_given_up(self._given_up(surface), f"{len(cells)} cells", self.options["max_products"], calls=3)
        return surface

    def _given_up(self, surface: Surface) -> int:
        """Cells of this call and of earlier ones with a residual above the tolerance by more than rounding."""
        ends = ("smallest", "largest")
        scale = np.maximum(*(np.abs(surface.means[name]) for name in ends))
        residual = np.maximum(*(surface.sems[name] for name in ends))
        rounding = _ROUNDING * torch.finfo(next(self.place.derivatives.model.parameters()).dtype).eps
        return int((residual > scale * (1.01 * self.options["tolerance"] + rounding)).sum())


def _put(surface: Surface, index: tuple[int, ...], terms: dict[str, tuple[float, float]]) -> None:
    for name, (value, error) in terms.items():
        surface.means[name][index], surface.sems[name][index] = value, error
    finite = all(math.isfinite(value) for value, _ in terms.values())
    surface.status[index] = DONE if finite else NOT_FINITE
