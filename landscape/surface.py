"""Evaluating a problem on a grid around its weights."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landscape import averages, store
from landscape import grid as grids
from landscape.averages import Average
from landscape.directions import Directions
from landscape.grid import Grid, Grid2D
from landscape.isolation import thread_count
from landscape.problem import Problem
from landscape.progress import bar
from landscape.provenance import digest_model, stamp
from landscape.results import DONE, NOT_FINITE, PENDING, Surface


def evaluate(
    problem: Problem,
    directions: Directions,
    grid: Grid,
    *,
    out: str | Path | None = None,
    label: str = "surface",
) -> Surface:
    """Average each term over all the examples at every point of ``grid`` around the problem's weights.

    The problem's model is never written to. The unperturbed weights are always evaluated, on the grid or beside it.
    With ``out`` each finished row is in the file at once: called again after an interruption, it goes on where it
    was, and (on a CPU) the values are the same to the last bit; called again after the end, it returns what is there.
    Weights, data, directions and grid are compared with the file's first; the objective is by its values at the origin.

    Args:
        problem: Model, objective and data; measured in eval mode.
        directions: Two for a `Grid2D`; for a `Grid1D` one, or several that give a bundle of lines.
        grid: Coordinates in units of the directions.
        out: HDF5 file to write, and to resume; without it the surface is in memory only.
        label: Name on the progress bar.

    Returns:
        Values ``[ny, nx]`` for a plane, ``[nx]`` for a line, ``[direction, nx]`` for a bundle, float64.

    Raises:
        ValueError: The directions do not fit the model or the grid, a term is not of shape ``[N]`` or not finite at the
            origin, the data change from pass to pass, or the file is of another measurement (what differs is named).
        OSError: The file cannot be written.
    """
    _check_fit(problem, directions)
    dims, sizes = grids.shape(grid, len(directions))
    path = None if out is None else Path(out)
    found = store.load_surface(path) if path is not None and path.exists() else None
    threads = found.attrs["plan"]["threads"] if found else torch.get_num_threads()
    with thread_count(threads):
        walker = _Walker(problem, directions)
        origin, data_sha256 = averages.average_and_digest(walker.model, problem)
        if found is None:
            _refuse_changing(walker, origin, data_sha256)
            surface = _allocate(problem, directions, grid, dims, sizes, origin, data_sha256)
            if path is not None:
                store.create_surface(path, surface)
        else:
            surface = found
            _refuse_another(surface, _identity(problem, directions, data_sha256), grid, path)
            _refuse_another_origin(surface, origin, path)
            if surface.complete:
                return surface
        with store.SurfaceWriter(path) if path is not None else nullcontext() as writer:
            _fill(surface, walker, grids.units(grid, len(directions)), origin, writer, label)
        _warn_if_flat(surface)
    return surface


class _Walker:
    """A private copy of a problem's model that moves to any point of the grid."""

    def __init__(self, problem: Problem, directions: Directions) -> None:
        self.problem = problem
        self.model = problem.private_copy()
        self._base = _state(problem.model)
        self._state = _state(self.model)
        self._axes = [{name: d.to(self._base[name]) for name, d in axis.items()} for axis in directions.axes]

    def averages_at(self, point: Sequence[float]) -> dict[str, Average]:
        self.model.eval()  # an objective may have left it in another mode
        with torch.no_grad():
            for name, tensor in self._state.items():
                tensor.copy_(self._base[name])
            for coordinate, axis in zip(point, self._axes, strict=True):
                if coordinate != 0:
                    for name, direction in axis.items():
                        self._state[name].add_(direction, alpha=coordinate)
        return averages.average(self.model, self.problem)


def _state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: t.detach() for name, t in [*model.named_parameters(), *model.named_buffers()]}


def _fill(
    surface: Surface,
    walker: _Walker,
    units: list[list[grids.Cell]],
    origin: dict[str, Average],
    writer: store.SurfaceWriter | None,
    label: str,
) -> None:
    with bar(surface.status.size, label, "cell") as progress:
        progress.update(int((surface.status != PENDING).sum()))
        for unit in units:
            todo = [(index, point) for index, point in unit if surface.status[index] == PENDING]
            for index, point in todo:
                cell = walker.averages_at(point) if any(point) else origin
                if cell.keys() != surface.means.keys():
                    raise ValueError(
                        f"the objective must return the same terms everywhere: {', '.join(surface.means)}. "
                        f"Got {', '.join(cell)} at {point}."
                    )
                for name, (mean, sem, _) in cell.items():
                    surface.means[name][index], surface.sems[name][index] = mean, sem
                finite = all(np.isfinite(average.mean) for average in cell.values())
                surface.status[index] = DONE if finite else NOT_FINITE
                progress.update()
            if todo and writer is not None:
                writer.write(surface, [index for index, _ in todo])


def _refuse_changing(walker: _Walker, origin: dict[str, Average], data_sha256: str) -> None:
    """A second pass at the origin: cells can only be compared where nothing but the weights differs between them."""
    again, digest_again = averages.average_and_digest(walker.model, walker.problem)
    if digest_again != data_sha256:
        raise ValueError(
            "batches must be the same at every pass. Got other data the second time: take random augmentation out, "
            "seed it anew in each pass, or use persistent_workers=False."
        )
    if not _same(_pairs(again), _pairs(origin)):
        raise ValueError(
            f"objective must give the same values for the same weights and data. Got {_pairs(origin)}, then "
            f"{_pairs(again)}: does it keep a state, or draw at random?"
        )


def _warn_if_flat(surface: Surface) -> None:
    if surface.status.size > 1 and all(
        (values == surface.origin[name][0]).all() for name, values in surface.means.items()
    ):
        warnings.warn(
            "no cell differs from the origin: does the objective use the model that it is given, not another?",
            stacklevel=3,
        )


def _check_fit(problem: Problem, directions: Directions) -> None:
    state = _state(problem.model)
    for axis in directions.axes:
        for name, direction in axis.items():
            if name not in state:
                raise ValueError(f"directions must belong to the model. Got {name!r}, which the model does not have.")
            if direction.shape != state[name].shape:
                raise ValueError(
                    f"the direction of {name!r} must have the parameter's shape {list(state[name].shape)}. "
                    f"Got {list(direction.shape)}."
                )


def _identity(problem: Problem, directions: Directions, data_sha256: str) -> dict[str, Any]:
    """What must be the same for a file to be of the same measurement."""
    return {
        "checkpoint_sha256": digest_model(problem.model),
        "directions_sha256": directions.sha256,
        "data_sha256": data_sha256,
        "normalize": directions.normalize,
        "ignore": directions.ignore,
        "bn_mode": "eval",
        "precision": str(next(problem.model.parameters()).dtype).removeprefix("torch."),
        "split": problem.split,
    }


def _allocate(
    problem: Problem,
    directions: Directions,
    grid: Grid,
    dims: tuple[str, ...],
    sizes: tuple[int, ...],
    origin: dict[str, Average],
    data_sha256: str,
) -> Surface:
    for name, average in origin.items():
        if not np.isfinite(average.mean):
            raise ValueError(f"term {name!r} must be finite at the unperturbed weights. Got {average.mean}.")
    counts = {name: average.n for name, average in origin.items()}
    attrs = {
        **stamp(problem.device),
        "seed": -1 if directions.seed is None else directions.seed,
        "n_examples": next(iter(counts.values())) if len(set(counts.values())) == 1 else counts,
        "plan": {
            "threads": torch.get_num_threads(),
            "device": problem.device.type,
            "layout": "as given",
            "batches": "as given",
            "path": "plain",
        },
        **_identity(problem, directions, data_sha256),
    }
    return Surface(
        x=grid.xs,
        y=grid.ys if isinstance(grid, Grid2D) else None,
        dims=dims,
        means={name: np.full(sizes, np.nan) for name in origin},
        sems={name: np.full(sizes, np.nan) for name in origin},
        status=np.full(sizes, PENDING, np.uint8),
        origin=_pairs(origin),
        attrs=attrs,
        directions=directions,
    )


def _refuse_another(found: Surface, identity: dict[str, Any], grid: Grid, path: Path | None) -> None:
    differing = [key for key, value in identity.items() if found.attrs.get(key) != value]
    if not np.array_equal(found.x, grid.xs):
        differing.append("x")
    if not np.array_equal(found.y if found.y is not None else [], grid.ys if grid.ys is not None else []):
        differing.append("y")
    if differing:
        raise ValueError(
            f"{path} must be of this measurement to be resumed. Got a file that differs in {', '.join(differing)}. "
            "Write to another file."
        )


def _refuse_another_origin(found: Surface, origin: dict[str, Average], path: Path | None) -> None:
    now_at = _pairs(origin)
    if not _same(found.origin, now_at):
        raise ValueError(
            f"{path} must be of this measurement to be resumed: at the unperturbed weights it has {found.origin}. "
            f"Got {now_at}. The objective or the machine has changed: write to another file."
        )


def _pairs(origin: dict[str, Average]) -> dict[str, tuple[float, float]]:
    return {name: (average.mean, average.sem) for name, average in origin.items()}


def _same(a: dict[str, tuple[float, float]], b: dict[str, tuple[float, float]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)
