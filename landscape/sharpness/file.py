"""How the flatness numbers of a minimum lie in an HDF5 file: a group for each, definition and value as attributes."""

from __future__ import annotations

from dataclasses import asdict

import h5py
import numpy as np

from landscape.hdf5 import read_attrs, write_attrs, write_labelled, write_scale
from landscape.sharpness.flatness import Flatness
from landscape.sharpness.measure import Definition, Measure

_OWN = ("value", "low", "high", "center", "censored", "note", "at_least")
"""Of a measure, beside its definition and its samples."""

_ATTRIBUTES = ("created_at", "command", "versions", "seed", "checkpoint_sha256", "split", "term", "settings")


def write(file: h5py.File, flatness: Flatness) -> None:
    """Into a file, without its attributes."""
    write_attrs(file, {"keys": list(flatness.keys())})
    for measure in flatness:
        group = file.create_group(f"measures/{measure.key}")
        write_attrs(group, asdict(measure.what) | {name: getattr(measure, name) for name in _OWN})
        write_scale(group, "sample", np.arange(measure.n), "random direction, draw or probe", "1")
        write_labelled(group, "samples", measure.samples, ("sample",))


def read(file: h5py.File) -> Flatness:
    """With its attributes."""
    attrs = read_attrs(file)
    return Flatness(tuple(_measure(file["measures"][key]) for key in attrs.pop("keys")), attrs)


def _measure(group: h5py.Group) -> Measure:
    attrs = read_attrs(group)
    own = {name: attrs.pop(name) for name in _OWN}
    return Measure(Definition(**attrs), samples=group["samples"][()], **own)


def faults(flatness: Flatness) -> list[str]:
    """What is wrong with flatness numbers, a sentence each; nothing where they are whole.

    That their provenance is there; that each lies in its interval, is the centre of its samples, and counts those that
    are inf.
    """
    wrong = [f"attribute {name} is missing." for name in _ATTRIBUTES if name not in flatness.attrs]
    for measure in flatness:
        if measure.low > measure.value or measure.value > measure.high:
            wrong.append(f"{measure.key} must lie in its interval. Got {measure}.")
        if (infinite := int(np.isinf(measure.samples).sum())) != measure.censored:
            wrong.append(
                f"censored of {measure.key} must count the infinite samples. Got {measure.censored}, not {infinite}."
            )
        centre = np.mean(measure.samples) if measure.center == "mean" else np.median(measure.samples)
        if np.isfinite(centre) and not np.isclose(centre, measure.value, rtol=1e-9):
            wrong.append(f"{measure.key} must be the {measure.center} of its samples, {centre}. Got {measure.value}.")
    return wrong
