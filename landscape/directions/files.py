"""Directions in files: HDF5 of our own, and those of the original loss-landscape tool."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import torch
from torch import Tensor, nn

from landscape import modules
from landscape.directions.axes import Directions
from landscape.directions.weights import like, read
from landscape.hdf5 import read_attrs, read_tensors, reading, write_attrs, write_new, write_tensor

SCHEMA, VERSION = "dot-landscape/directions", 1

_ORIGINAL = ("xdirection", "ydirection")
"""The groups of a file of the original tool, the second one optional."""


def save(directions: Directions, path: str | Path) -> None:
    """Write directions to an HDF5 file with how they were made, replacing one that is there.

    Args:
        directions: Every tensor is stored bit for bit.
        path: Of the file.

    Raises:
        OSError: The file cannot be written.
    """
    write_new(path, lambda file: _write(file, directions))


def load(path: str | Path, model: nn.Module | None = None) -> Directions:
    """Read directions that `save` wrote, or the direction file of the original tool of Li et al. 2018.

    The original file (github.com/tomgoldstein/loss-landscape, groups ``xdirection`` and ``ydirection``) numbers its
    tensors in the order of the parameters, or of the entries of the state dict, and names none. How it was normalised
    is not in it: such directions count as ``normalize="none"``, lengths as they are.

    Args:
        path: Of the file.
        model: The network that a file of the original tool belongs to; other files need none.

    Returns:
        The same directions to the last bit, on the CPU; of an original file in the dtypes and on the device of the
        model.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a file of directions, is cut short, of a newer version or changed since it was saved; or
            it is an original file and the model is missing or does not fit.
    """
    with reading(path) as file:
        if _ORIGINAL[0] in file:
            return _read_original(file, path, model)
        _check_schema(file, path)
        try:
            directions, sha256 = _read(file), file.attrs["sha256"]
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} must hold whole {SCHEMA}. Got a file with a part missing: {error}.") from error
    if directions.sha256 != sha256:
        raise ValueError(f"{path} must hold the tensors that were saved. Got others, by their SHA-256: save it anew.")
    return directions


def _check_schema(file: h5py.File, path: str | Path) -> None:
    schema, version = file.attrs.get("schema"), int(file.attrs.get("schema_version", 0))
    if schema != SCHEMA:
        raise ValueError(f"{path} must have the schema {SCHEMA}. Got {schema or 'none'}.")
    if version > VERSION:
        raise ValueError(f"{path} has schema version {version}, newer than {VERSION}: update dot-landscape to read it.")


def _write(file: h5py.File, directions: Directions) -> None:
    attrs = {
        "schema": SCHEMA,
        "schema_version": VERSION,
        "normalize": directions.normalize,
        "ignore": directions.ignore,
        "seed": -1 if directions.seed is None else directions.seed,
        "kind": directions.kind,
        "explained": list(directions.explained),
        "sha256": directions.sha256,
    }
    write_attrs(file, attrs)
    for i, axis in enumerate(directions.axes):
        group = file.create_group(f"axes/{i}")
        for name, tensor in axis.items():
            write_tensor(group, name, tensor)
    for name, places in directions.points.items():
        file[f"points/{name}"] = places


def _read(file: h5py.File) -> Directions:
    attrs = read_attrs(file)
    axes, points = file["axes"], file.get("points", {})
    return Directions(
        axes=tuple(read_tensors(axes[str(i)]) for i in range(len(axes))),
        normalize=attrs["normalize"],
        ignore=attrs["ignore"],
        seed=None if attrs["seed"] < 0 else attrs["seed"],
        kind=attrs["kind"],
        points={name: places[()] for name, places in points.items()},
        explained=tuple(attrs["explained"]),
    )


def _read_original(file: h5py.File, path: str | Path, model: nn.Module | None) -> Directions:
    if model is None:
        raise ValueError(f"{path} is of the original tool and names no tensors. Pass the model that it belongs to.")
    model = modules.unwrap(model)
    modules.check(model)
    axes = []
    for group in _ORIGINAL[: 1 + (_ORIGINAL[1] in file)]:
        numbered = [torch.as_tensor(file[group][str(i)][()]) for i in range(len(file[group]))]
        named = _named(numbered, model, f"{group} of {path}")
        axes.append(like(read(model, named, f"{group} of {path}"), modules.state(model)))
    return Directions(tuple(axes), normalize="none", ignore="none", kind="loss-landscape")


def _named(numbered: list[Tensor], model: nn.Module, what: str) -> Mapping[str, Tensor]:
    """Tensors in an order under their names: as parameters, else as entries of the state dict."""
    parameters = dict(model.named_parameters())
    states = {name: t for name, t in model.state_dict().items() if isinstance(t, Tensor)}
    continuous = {name: t for name, t in states.items() if modules.is_continuous(t)}

    def fits(kind: Mapping[str, Tensor]) -> bool:
        return all(d.shape == t.shape for d, t in zip(numbered, kind.values(), strict=True))

    kinds = [kind for kind in (parameters, states, continuous) if len(kind) == len(numbered)]
    if not kinds:
        raise ValueError(
            f"{what} must hold a tensor for each of the model's {len(parameters)} parameters, or of the "
            f"{len(states)} entries of its state dict. Got {len(numbered)}."
        )
    return dict(zip(next(filter(fits, kinds), kinds[0]), numbered, strict=True))
