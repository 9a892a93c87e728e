"""How a conflict lies in an HDF5 file."""

from __future__ import annotations

import json

import h5py
import numpy as np

from landscape.hdf5 import read_attrs, write_labelled, write_scale
from landscape.results import Array, Conflict


def write(group: h5py.Group, conflict: Conflict) -> None:
    """Into a group, without its attributes and its other recordings."""
    group.attrs["terms"] = json.dumps(list(conflict.terms))
    write_scale(group, "step", conflict.step, "training step or batch", "1")
    names = np.array(conflict.layers, dtype=h5py.string_dtype())
    write_scale(group, "layer", names, "module that owns the parameters", "1")
    for name, values in _arrays(conflict).items():
        write_labelled(group, name, values, ("step", "layer")[: values.ndim])


def _arrays(conflict: Conflict) -> dict[str, Array]:
    arrays = {
        "cosine": conflict.cosine,
        "consistent": conflict.consistent,
        "layers/cosine": conflict.layer_cosine,
        "layers/consistent": conflict.layer_consistent,
    }
    for prefix, norm, inconsistent in (
        ("", conflict.norm, conflict.inconsistent),
        ("layers/", conflict.layer_norm, conflict.layer_inconsistent),
    ):
        for term in conflict.terms:
            arrays[f"{prefix}norm/{term}"] = norm[term]
            arrays[f"{prefix}inconsistent/{term}"] = inconsistent[term]
    return arrays


def read(file: h5py.File) -> Conflict:
    """With its attributes and its other recordings."""
    attrs = read_attrs(file)
    conflict = _read_group(file)
    conflict.groups = {name: _read_group(file[name]) for name in attrs.pop("groups")}
    del attrs["terms"]
    conflict.attrs = attrs
    return conflict


def _read_group(group: h5py.Group) -> Conflict:
    a, b = json.loads(group.attrs["terms"])
    terms = (a, b)

    def of_terms(name: str) -> dict[str, Array]:
        return {term: group[f"{name}/{term}"][()] for term in terms}

    return Conflict(
        terms=terms,
        step=group["step"][()],
        layers=tuple(group["layer"].asstr()[()]),
        cosine=group["cosine"][()],
        norm=of_terms("norm"),
        consistent=group["consistent"][()],
        inconsistent=of_terms("inconsistent"),
        layer_cosine=group["layers/cosine"][()],
        layer_norm=of_terms("layers/norm"),
        layer_consistent=group["layers/consistent"][()],
        layer_inconsistent=of_terms("layers/inconsistent"),
    )
