"""How a conflict lies in an HDF5 file: the inner products, which are read back, and what follows from them for others.

Version 1 held two terms, and for each layer their cosine and norms instead of the inner products.
"""

from __future__ import annotations

import json

import h5py
import numpy as np

from landscape.conflict.result import Conflict
from landscape.conflict.whole import Along, Whole
from landscape.hdf5 import read_attrs, write_labelled, write_scale
from landscape.results import Array

AXES = ("step", "layer", "term", "other")
"""Of the inner products. A term cannot be named as one of the first two, beside which its norm lies."""

Labelled = dict[str, tuple[Array, tuple[str, ...]]]
"""Arrays and the names of their axes, by path in the group."""


def write(group: h5py.Group, conflict: Conflict) -> None:
    """Into a group, without its attributes and its other recordings."""
    group.attrs["terms"], group.attrs["by"] = json.dumps(list(conflict.terms)), conflict.by
    write_scale(group, "step", conflict.step, "training step or batch", "1")
    _write_names(group, "layer", conflict.layers, f"{conflict.by} of the network")
    _write_names(group, "term", conflict.terms, "term of the objective")
    _write_names(group, "other", conflict.terms, "term that it is compared with")
    if conflict.whole is not None:
        write_scale(group, "half", np.arange(2), "even or odd batches", "1")
        write_scale(group, "other_half", np.arange(2), "even or odd batches", "1")
    if conflict.along is not None:
        _write_names(group, "vector", conflict.along.names, "vector that the gradients are compared with")
    for name, (values, dims) in (_own(conflict) | _derived(conflict)).items():
        write_labelled(group, name, values, dims)


def _write_names(group: h5py.Group, name: str, values: tuple[str, ...], long_name: str) -> None:
    write_scale(group, name, np.array(values, dtype=h5py.string_dtype()), long_name, "1")


def _own(conflict: Conflict) -> Labelled:
    """What is read back."""
    arrays: Labelled = {"gram": (conflict.gram, AXES)}
    if conflict.sizes is not None:
        arrays["sizes"] = conflict.sizes, ("step", "term")
    if conflict.spread is not None:
        arrays["spread"] = conflict.spread, ("step", "term")
    if conflict.whole is not None:
        whole = conflict.whole
        arrays |= {
            "whole/halves": (whole.halves, ("half", "other_half", "layer", "term", "other")),
            "whole/shares": (whole.shares, ("half", "term")),
            "whole/spread": (whole.spread, ("layer", "term")),
            "whole/counts": (whole.counts, ("term",)),
            "whole/batches": (whole.batches, ("term",)),
        }
    if conflict.along is not None:
        arrays |= {
            "along/products": (conflict.along.products, ("step", "layer", "term", "vector")),
            "along/whole": (conflict.along.whole, ("layer", "term", "vector")),
            "along/squared": (conflict.along.squared, ("layer", "vector")),
        }
    return arrays


def _derived(conflict: Conflict) -> Labelled:
    """What other programs read."""
    step, layers = ("step",), ("step", "layer")
    arrays: Labelled = {f"norm/{term}": (values, step) for term, values in conflict.norm.items()}
    arrays |= {f"layers/norm/{term}": (values, layers) for term, values in conflict.layer_norm.items()}
    if len(conflict.terms) == 2:
        arrays |= {
            "cosine": (conflict.cosine, step),
            "consistent": (conflict.consistent, step),
            "layers/cosine": (conflict.layer_cosine, layers),
            "layers/consistent": (conflict.layer_consistent, layers),
        }
        arrays |= {f"inconsistent/{term}": (values, step) for term, values in conflict.inconsistent.items()}
        left = conflict.layer_inconsistent
        arrays |= {f"layers/inconsistent/{term}": (values, layers) for term, values in left.items()}
    else:
        arrays["cosines"] = conflict.cosines, ("step", "term", "other")
    if conflict.spread is not None:
        arrays |= {f"signal_to_noise/{term}": (values, step) for term, values in conflict.signal_to_noise.items()}
    if conflict.whole is not None:
        whole = conflict.whole
        arrays |= {
            "whole/cosines": (whole.cosines, ("term", "other")),
            "whole/split_half_cosines": (whole.split_half_cosines, ("term", "other")),
            "whole/norm": (np.array(list(whole.norm.values())), ("term",)),
            "whole/variance": (np.array(list(whole.variance.values())), ("term",)),
            "whole/signal_to_noise": (np.array(list(whole.signal_to_noise.values())), ("term",)),
        }
    return arrays


def read(file: h5py.File) -> Conflict:
    """With its attributes and its other recordings."""
    attrs = read_attrs(file)
    conflict = _read_group(file)
    conflict.groups = {name: _read_group(file[name]) for name in attrs.pop("groups")}
    for name in ("terms", "by"):
        attrs.pop(name, None)
    conflict.attrs = attrs
    return conflict


def _read_group(group: h5py.Group) -> Conflict:
    terms, step = tuple(json.loads(group.attrs["terms"])), group["step"][()]
    layers = tuple(group["layer"].asstr()[()])
    if "gram" not in group:
        return Conflict(terms, step, layers, _gram_of_version_1(group, terms))
    return Conflict(
        terms,
        step,
        layers,
        group["gram"][()],
        sizes=group["sizes"][()] if "sizes" in group else None,
        whole=_read_whole(group, terms, layers) if "whole" in group else None,
        along=_read_along(group) if "along" in group else None,
        by=group.attrs["by"],
        spread=group["spread"][()] if "spread" in group else None,
    )


def _read_whole(group: h5py.Group, terms: tuple[str, ...], layers: tuple[str, ...]) -> Whole:
    names = ("halves", "shares", "spread", "counts", "batches")
    return Whole(terms, layers, *(group[f"whole/{name}"][()] for name in names))


def _read_along(group: h5py.Group) -> Along:
    products, whole, squared = (group[f"along/{name}"][()] for name in ("products", "whole", "squared"))
    return Along(tuple(group["vector"].asstr()[()]), products, whole, squared)


def _gram_of_version_1(group: h5py.Group, terms: tuple[str, ...]) -> Array:
    a, b = (group[f"layers/norm/{term}"][()] for term in terms)
    product = np.nan_to_num(group["layers/cosine"][()]) * a * b  # a zero gradient has no cosine
    return np.stack([np.stack([a * a, product], -1), np.stack([product, b * b], -1)], -2)


def faults(file: h5py.File, conflict: Conflict) -> list[str]:
    """Which arrays of a file are not those that its inner products tell, a sentence each."""
    wrong = _faults(file, conflict)
    for name, part in conflict.groups.items():
        wrong += [f"{name}: {fault}" for fault in _faults(file[name], part)]
    return wrong


def _faults(group: h5py.Group, conflict: Conflict) -> list[str]:
    wrong = []
    for name, (values, _) in _derived(conflict).items():
        if name not in group:
            wrong.append(f"{name} must be there. Got a file without it.")
            continue
        found = group[name][()]
        scale = np.nanmax(np.abs(values), initial=0.0)
        if found.shape != values.shape:
            wrong.append(f"{name} must be of shape {list(values.shape)}. Got {list(found.shape)}.")
        # The root of a difference of squares is right to 1e-8, in version 1 and on other machines.
        elif not np.allclose(found, values, rtol=1e-7, atol=1e-7 * scale, equal_nan=True):
            wrong.append(f"{name} must be what gram tells. Got other values.")
    return wrong
