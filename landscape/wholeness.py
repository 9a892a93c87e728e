"""What is wrong with a result: everything that a file must hold to be read for what it says, checked at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape import directions, hdf5, store
from landscape.conflict import file as conflict_file
from landscape.conflict.result import Conflict
from landscape.results import DONE, NOT_FINITE, PENDING, Array, Surface
from landscape.sharpness import file as flatness_file
from landscape.sharpness.flatness import Flatness

_DIMS = (("x",), ("direction", "x"), ("y", "x"))
_ATTRIBUTES = (
    *("created_at", "command", "versions", "seed", "checkpoint_sha256", "directions_sha256", "data_sha256"),
    *("normalize", "ignore", "bn_mode", "precision", "n_examples", "split", "plan"),
)


def faults(path: str | Path) -> list[str]:
    """What is wrong with a surface, conflict, flatness or directions file, a sentence each; nothing where it is whole.

    Of a surface: attributes, axes, shapes, statuses, that done cells are finite and others of status 2 are not, that
    the cell at 0 is the origin, and that the directions have their digest. Of a conflict: steps, layers, shapes, that
    the inner products can be such, and that cosines, norms and the like are those that they tell. Of flatness numbers:
    that each is the centre of its samples, and lies in its interval.
    """
    try:
        if store.is_directions(path):
            directions.load(path)  # which compares the digest
            return []
        found = store.load(path)
    except Exception as error:  # whatever HDF5 makes of a damaged file is what is wrong with it
        return [str(error) or type(error).__name__]
    if isinstance(found, Surface):
        return of_surface(found)
    if isinstance(found, Flatness):
        return flatness_file.faults(found)
    return of_conflict(found) or _beside_gram(path, found)


def of_surface(surface: Surface) -> list[str]:
    """`faults` of a surface."""
    missing = [f"attribute {name} is missing." for name in _ATTRIBUTES if name not in surface.attrs]
    return [*missing, *_axes_and_cells(surface), *_directions(surface)]


def of_conflict(conflict: Conflict) -> list[str]:
    """`faults` of a conflict, those of its groups with their names."""
    wrong = _records(conflict)
    for name, group in conflict.groups.items():
        wrong += [f"{name}: {fault}" for fault in _records(group)]
    return wrong


def _beside_gram(path: str | Path, conflict: Conflict) -> list[str]:
    with hdf5.reading(path) as file:
        return conflict_file.faults(file, conflict)


def _axes_and_cells(surface: Surface) -> list[str]:
    if surface.dims not in _DIMS or ("y" in surface.dims) != (surface.y is not None):
        y = "no y" if surface.y is None else "y"
        return [f"dims must be one of {', '.join(map(str, _DIMS))}, with y for a plane. Got {surface.dims} and {y}."]
    axes = {"x": surface.x} if surface.y is None else {"x": surface.x, "y": surface.y}
    # What follows compares cell by cell.
    wrong = [fault for name, values in axes.items() for fault in _axis(name, values)] or _shapes(surface)
    return wrong or [*_statuses(surface.status), *_values(surface), *_origin(surface)]


def _axis(name: str, values: Array) -> list[str]:
    if values.ndim == 1 and values.size and np.isfinite(values).all() and (np.diff(values) > 0).all():
        return []
    return [f"{name} must be a list of increasing numbers. Got {np.array2string(values, threshold=6)}."]


def _shapes(surface: Surface) -> list[str]:
    lines = surface.status.shape[:1] if surface.directions is None else (len(surface.directions),)
    sizes = {"x": surface.x.shape, "y": () if surface.y is None else surface.y.shape, "direction": lines}
    shape = tuple(size for dim in surface.dims for size in sizes[dim])
    arrays: list[tuple[str, NDArray[Any]]] = [("status", surface.status), *surface.means.items()]
    arrays += [(_sem(name), values) for name, values in surface.sems.items()]
    arrays += [(f"{kind} of {name}", values) for kind, sums in surface.sums.items() for name, values in sums.items()]
    if surface.sampled is not None:
        arrays.append(("n_examples", surface.sampled.n_examples))
        arrays += [(f"{kind} of {n}", v) for kind, each in surface.sampled.arrays.items() for n, v in each.items()]
    wrong = _of_shape(shape, arrays)
    if surface.path is not None and surface.path.shape[:1] != surface.x.shape:
        wrong.append(f"path must have a point for each of {surface.x.size} x. Got {list(surface.path.shape)}.")
    return wrong


def _of_shape(shape: tuple[int, ...], arrays: Iterable[tuple[str, NDArray[Any]]]) -> list[str]:
    return [
        f"{name} must be of shape {list(shape)}. Got {list(values.shape)}."
        for name, values in arrays
        if values.shape != shape
    ]


def _statuses(status: NDArray[np.uint8]) -> list[str]:
    unknown = status[~np.isin(status, (PENDING, DONE, NOT_FINITE))]
    return [f"status must be 0, 1 or 2. Got {unknown[0]} in {_cells(unknown.size)}."] if unknown.size else []


def _values(surface: Surface) -> list[str]:
    wrong = []
    for name, values in surface.means.items():
        broken = int((~np.isfinite(values[surface.status == DONE])).sum())
        wrong += [f"{name} must be finite in every done cell. Got {_cells(broken)} where it is not."] if broken else []
    for name, errors in surface.sems.items():
        negative = int((errors[surface.status != PENDING] < 0).sum())
        wrong += [f"{_sem(name)} must not be negative. Got {_cells(negative)}."] if negative else []
    finite = np.all([np.isfinite(values) for values in surface.means.values()], axis=0)
    hidden = int((finite & (surface.status == NOT_FINITE)).sum())
    return wrong + (
        [f"a cell of status 2 must have a term that is not finite. Got {_cells(hidden)} of finite ones."]
        if hidden
        else []
    )


def _origin(surface: Surface) -> list[str]:
    measured = _at_0(surface) & (surface.status != PENDING)
    wrong = []
    for name, (mean, sem) in surface.origin.items():
        for what, values, value in ((name, surface.means[name], mean), (_sem(name), surface.sems[name], sem)):
            cells = values[measured]
            if not np.array_equal(cells, np.full_like(cells, value), equal_nan=True):
                wrong.append(f"{what} must be that of the origin, {value}, in the cell at 0. Got {cells.tolist()}.")
    return wrong


def _at_0(surface: Surface) -> NDArray[np.bool_]:
    if surface.path is not None:
        return (surface.path == 0).all(axis=1)
    return surface.x == 0 if surface.y is None else np.outer(surface.y == 0, surface.x == 0)


def _directions(surface: Surface) -> list[str]:
    wanted = surface.attrs.get("directions_sha256", "")
    found = "" if surface.directions is None else surface.directions.sha256
    if found == wanted:
        return []
    return [f"directions must have the digest {wanted or 'none'}. Got {found or 'no directions'}."]


def _records(conflict: Conflict) -> list[str]:
    wrong = [] if (np.diff(conflict.step) > 0).all() else [f"step must increase. Got {conflict.step.tolist()}."]
    if len(set(conflict.layers)) < len(conflict.layers):
        wrong.append(f"layers must be different. Got {', '.join(conflict.layers)}.")
    b, n, k = len(conflict.step), len(conflict.layers), len(conflict.terms)
    shaped = _of_shape((b, n, k, k), [("gram", conflict.gram)])
    shaped += [] if conflict.sizes is None else _of_shape((b, k), [("sizes", conflict.sizes)])
    if conflict.whole is not None:
        shaped += _of_shape((2, 2, n, k, k), [("gram of the halves", conflict.whole.halves)])
        shaped += _of_shape((n, k), [("spread", conflict.whole.spread)])
        shaped += _of_shape((k,), [("counts", conflict.whole.counts), ("batches", conflict.whole.batches)])
    if shaped:
        return wrong + shaped
    wrong += _gram("gram", conflict.gram)
    return wrong if conflict.whole is None else wrong + _gram("gram of all examples", conflict.whole.gram)


def _gram(name: str, grams: Array) -> list[str]:
    """Whether matrices can be inner products: finite, symmetric, with no cosine beyond 1."""
    if not np.isfinite(grams).all():
        return [f"{name} must be finite. Got {int((~np.isfinite(grams)).sum())} values that are not."]
    squared = np.diagonal(grams, axis1=-2, axis2=-1)
    if (squared < 0).any():
        return [f"{name} must have squared norms of at least 0. Got {squared.min()}."]
    bound = np.sqrt(squared[..., :, None] * squared[..., None, :]) * (1 + 1e-9)
    if (np.abs(grams) > bound).any() or (np.abs(grams - np.swapaxes(grams, -1, -2)) > 1e-9 * bound).any():
        return [f"{name} must be symmetric, without a cosine beyond 1. Got one that is not."]
    return []


def _sem(term: str) -> str:
    return f"standard error of {term}"


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"
