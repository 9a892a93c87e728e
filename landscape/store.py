"""HDF5 files: every result with its axes and its provenance, readable by h5py, xarray (h5netcdf) and HDF5 viewers.

Result arrays are contiguous, uncompressed and allocated at creation, and a file appears under its name only when it
is whole: a killed process leaves a readable file, in which ``status`` says what is done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from landscape.conflict import file as conflict_file
from landscape.conflict.result import Conflict
from landscape.directions import Directions, files
from landscape.hdf5 import (
    check_names,
    read_attrs,
    read_compressed,
    read_tensors,
    reading,
    write_attrs,
    write_compressed,
    write_labelled,
    write_new,
    write_scale,
    write_tensor,
)
from landscape.results import Array, Sampled, Surface

if TYPE_CHECKING:
    from landscape.sharpness.flatness import Flatness

SURFACE, CONFLICT, FLATNESS = (f"dot-landscape/{kind}" for kind in ("surface", "conflict", "flatness"))
VERSIONS = {SURFACE: 1, CONFLICT: 2, FLATNESS: 1}
"""The newest layout of each that this package reads, and the one it writes."""

_PROBES = {"dot-landscape/probes": "trace, frobenius or density", "dot-landscape/diagonal": "diagonal"}
"""Files of `landscape.hessian` to go on from, no results: which call has left them."""

_AT_LEAST_EVERY = 0.25
"""Seconds of finished cells that a killed process may lose."""


def load(path: str | Path) -> Surface | Conflict | Flatness:
    """Read a surface, conflict or flatness file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not an HDF5 file of this package, is cut short, or is of a newer version; or it has the random
            probes of `landscape.hessian`, which are no result.
    """
    with reading(path) as file:
        schema = _schema(file, path)
        try:
            return _READERS[schema](file)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} must hold a whole {schema}. Got a file with a part missing: {error}.") from error


def load_surface(path: str | Path) -> Surface:
    """`load` a file that must be a surface.

    Raises:
        FileNotFoundError, ValueError: As `load`; or it is a file of something else.
    """
    found = load(path)
    if not isinstance(found, Surface):
        raise ValueError(f"{path} must be a surface file. Got a {type(found).__name__.lower()} file.")
    return found


def load_conflict(path: str | Path) -> Conflict:
    """`load` a file that must be a conflict.

    Raises:
        FileNotFoundError, ValueError: As `load`; or it is a file of something else.
    """
    found = load(path)
    if not isinstance(found, Conflict):
        raise ValueError(f"{path} must be a conflict file. Got a {type(found).__name__.lower()} file.")
    return found


def load_flatness(path: str | Path) -> Flatness:
    """`load` a file that must be of the flatness of a minimum.

    Raises:
        FileNotFoundError, ValueError: As `load`; or it is a file of something else.
    """
    from landscape.sharpness.flatness import Flatness

    found = load(path)
    if not isinstance(found, Flatness):
        raise ValueError(f"{path} must be a flatness file. Got a {type(found).__name__.lower()} file.")
    return found


def load_samples(path: str | Path) -> dict[str, NDArray[Any]]:
    """The samples that are kept in the file of a sampled surface: ``Surface.sampled.samples``; empty where none are.

    Raises:
        FileNotFoundError, ValueError: As `load`.
    """
    with reading(path) as file:
        _schema(file, path)
        return read_compressed(file["samples"]) if "samples" in file else {}


def create_surface(path: str | Path, surface: Surface) -> None:
    """Write a new surface file, every array at its full size.

    Raises:
        OSError: The folder cannot be written or is full; nothing is left behind under this name.
    """
    write_new(path, lambda file: _write_surface(file, surface))


def save_conflict(path: str | Path, conflict: Conflict) -> None:
    """Write a conflict file, replacing one that is there in a single step.

    Raises:
        OSError: The folder cannot be written or is full; a file that was there is kept.
    """

    check_names(conflict.terms, conflict_file.AXES[:2])

    def write(file: h5py.File) -> None:
        write_attrs(file, conflict.attrs | {"schema": CONFLICT, "schema_version": VERSIONS[CONFLICT]})
        conflict_file.write(file, conflict)
        for name, group in conflict.groups.items():
            conflict_file.write(file.create_group(name), group)
        file.attrs["groups"] = json.dumps(list(conflict.groups))

    write_new(path, write)


def save_flatness(path: str | Path, flatness: Flatness) -> None:
    """Write a flatness file, replacing one that is there in a single step.

    Raises:
        OSError: The folder cannot be written or is full; a file that was there is kept.
    """
    from landscape.sharpness import file as flatness_file  # above this module: it measures what is stored

    def write(file: h5py.File) -> None:
        write_attrs(file, flatness.attrs | {"schema": FLATNESS, "schema_version": VERSIONS[FLATNESS]})
        flatness_file.write(file, flatness)

    write_new(path, write)


class SurfaceWriter:
    """Puts finished cells into a file: their values first, their status after, each on its way before the next.

    Cells are gathered for a quarter of a second, so that a fast network does not wait for its file; at the end, also
    after an exception, all of them are written. The file stays open to readers: its layout never changes.

    Raises:
        OSError: It cannot be written.
    """

    def __init__(self, path: str | Path, surface: Surface) -> None:
        try:
            self._file = h5py.File(path, "r+", locking=False)
        except OSError as error:
            raise OSError(f"{path} must be a file that can be written. Got: {error}. Check its permissions.") from error
        self._surface = surface
        self._waiting: list[tuple[int, ...]] = []
        self._written = time.monotonic()
        self._values: list[tuple[h5py.Dataset, NDArray[Any]]] = [
            (self._file[g][name], values) for g, arrays in _by_term(surface).items() for name, values in arrays.items()
        ]
        if surface.sampled is not None:
            self._values.append((self._file["n_examples"], surface.sampled.n_examples))
        self._status = self._file["status"]

    def __enter__(self) -> SurfaceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._write()
        finally:
            self._file.close()

    def add(self, cell: tuple[int, ...]) -> None:
        """Take in a finished cell of the surface, by its index."""
        self._waiting.append(cell)
        if time.monotonic() - self._written > _AT_LEAST_EVERY:
            self._write()

    def _write(self) -> None:
        # Whole rows: one call is faster than one for each cell, and what is pending is NaN here and there.
        rows = list(dict.fromkeys(cell[:-1] for cell in self._waiting))
        if rows:
            for dataset, values in self._values:
                for row in rows:
                    dataset[row] = values[row]
            self._file.flush()
            for row in rows:
                self._status[row] = self._surface.status[row]
            self._file.flush()
        self._waiting.clear()
        self._written = time.monotonic()


def is_directions(path: str | Path) -> bool:
    """Whether a file holds directions alone, as `landscape.directions.save` wrote them.

    Raises:
        FileNotFoundError, ValueError: As `load`.
    """
    with reading(path) as file:
        return bool(file.attrs.get("schema") == files.SCHEMA)


def _schema(file: h5py.File, path: str | Path) -> str:
    schema, version = file.attrs.get("schema"), int(file.attrs.get("schema_version", 0))
    if schema in _PROBES:
        raise ValueError(
            f"{path} must be a result file. Got the random probes that landscape.hessian's {_PROBES[schema]} goes on "
            "from: the same call with the same out returns its result without new ones."
        )
    if schema not in VERSIONS:
        raise ValueError(f"{path} must have the schema {' or '.join(VERSIONS)}. Got {schema or 'none'}.")
    if version > VERSIONS[schema]:
        raise ValueError(
            f"{path} has schema version {version}, newer than {VERSIONS[schema]}: update dot-landscape to read it."
        )
    return str(schema)


def _write_surface(file: h5py.File, surface: Surface) -> None:
    check_names(surface.means, surface.dims)
    own = {
        "schema": SURFACE,
        "schema_version": VERSIONS[SURFACE],
        "dims": list(surface.dims),
        "terms": list(surface.means),
    }
    write_attrs(file, surface.attrs | own)
    for dim, size in zip(surface.dims, surface.status.shape, strict=True):
        if dim == "direction":
            write_scale(file, dim, np.arange(size), "direction", "1")
        else:
            write_scale(
                file, dim, surface.x if dim == "x" else np.asarray(surface.y), f"coordinate along {dim}", surface.unit
            )
    for group, arrays in _by_term(surface).items():
        for name, values in arrays.items():
            write_labelled(file, f"{group}/{name}", values, surface.dims)
    write_labelled(file, "status", surface.status, surface.dims)
    if surface.sampled is not None:
        write_labelled(file, "n_examples", surface.sampled.n_examples, surface.dims)
        for name, array in surface.sampled.samples.items():
            write_compressed(file, f"samples/{name}", array)
    if surface.path is not None:
        file["path"] = surface.path
    for name, (mean, sem) in surface.origin.items():
        file[f"origin/terms/{name}"], file[f"origin/sem/{name}"] = mean, sem
    if surface.directions is not None:
        for name, axis in zip(_axis_names(surface), surface.directions.axes, strict=True):
            group = file.create_group(f"directions/{name}")
            for parameter, tensor in axis.items():
                write_tensor(group, parameter, tensor)
        for name, points in surface.directions.points.items():
            file[f"points/{name}"] = points


def _by_term(surface: Surface) -> dict[str, dict[str, Array]]:
    """The groups that hold an array for each term."""
    groups = {"terms": surface.means, "sem": surface.sems} | surface.sums
    return groups if surface.sampled is None else groups | surface.sampled.arrays


def _axis_names(surface: Surface) -> list[str]:
    if surface.dims[0] == "direction":
        return [str(i) for i in range(surface.status.shape[0])]
    if surface.path is not None:
        return [str(i) for i in range(surface.path.shape[1])]
    return ["x", "y"][: len(surface.dims)]


def _read_surface(file: h5py.File) -> Surface:
    attrs = read_attrs(file)
    dims = tuple(attrs.pop("dims"))
    status = file["status"][()]  # first: whoever writes meanwhile writes it last
    means = {name: file["terms"][name][()] for name in attrs.pop("terms")}
    surface = Surface(
        x=file["x"][()],
        y=file["y"][()] if "y" in file else None,
        dims=dims,
        means=means,
        sems={name: file["sem"][name][()] for name in means},
        status=status,
        origin={name: (float(file["origin/terms"][name][()]), float(file["origin/sem"][name][()])) for name in means},
        attrs=attrs,
        path=file["path"][()] if "path" in file else None,
        sums={g: {name: file[g][name][()] for name in means} for g in ("squares", "cross") if g in file},
        sampled=_read_sampled(file, list(means)) if "n_examples" in file else None,
    )
    if "directions" in file:
        surface.directions = _read_directions(file, surface)
    return surface


def _read_sampled(file: h5py.File, terms: list[str]) -> Sampled:
    """Without the samples, which are large: see `load_samples`."""
    sampling_sem, half, sem_diff = (
        {name: file[group][name][()] for name in terms} for group in ("sampling_sem", "half", "sem_diff")
    )
    return Sampled(file["n_examples"][()], sampling_sem, half, sem_diff)


def _read_directions(file: h5py.File, surface: Surface) -> Directions:
    seed = int(surface.attrs["seed"])
    return Directions(
        tuple(read_tensors(file["directions"][name]) for name in _axis_names(surface)),
        normalize=surface.attrs["normalize"],
        ignore=surface.attrs["ignore"],
        seed=None if seed < 0 else seed,
        kind=surface.attrs.get("kind", "random"),
        points={name: dataset[()] for name, dataset in file["points"].items()} if "points" in file else {},
        explained=tuple(surface.attrs.get("explained", ())),
    )


def _read_flatness(file: h5py.File) -> Flatness:
    from landscape.sharpness import file as flatness_file

    return flatness_file.read(file)


_READERS: dict[str, Callable[[h5py.File], Any]] = {
    SURFACE: _read_surface,
    CONFLICT: conflict_file.read,
    FLATNESS: _read_flatness,
}
