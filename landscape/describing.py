"""What a file of this package holds, in words and numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape import store
from landscape.conflict.result import Conflict
from landscape.conflict.whole import Whole
from landscape.directions import Directions, files
from landscape.results import Sampled, Surface
from landscape.sharpness.flatness import Flatness
from landscape.sharpness.measure import Measure


def describe(path: str | Path) -> dict[str, Any]:
    """What a file of this package holds, ready for JSON: its schema, attributes, axes and how much of it is done.

    Raises:
        FileNotFoundError, ValueError: As `landscape.load`.
    """
    if store.is_directions(path):
        return _describe_directions(files.load(path))
    found = store.load(path)
    body: dict[str, Any]
    if isinstance(found, Surface):
        body = {
            "schema": store.SURFACE,
            "dims": dict(zip(found.dims, found.status.shape, strict=True)),
            "x": [float(found.x[0]), float(found.x[-1])],
            "y": None if found.y is None else [float(found.y[0]), float(found.y[-1])],
            "origin": {name: {"mean": mean, "sem": sem} for name, (mean, sem) in found.origin.items()},
            "cells": {name: int((found.status == i).sum()) for i, name in enumerate(("pending", "done", "not finite"))},
            **(
                {}
                if found.sampled is None
                else {"samples": _describe_samples(found, found.sampled, store.load_samples(path))}
            ),
        }
    elif isinstance(found, Flatness):
        body = {"schema": store.FLATNESS, "measures": {m.key: describe_measure(m) for m in found}}
    else:
        body = {
            "schema": store.CONFLICT,
            "terms": list(found.terms),
            "records": {"steps": len(found.step)} | {name: len(g.step) for name, g in found.groups.items()},
            "by": found.by,
            "layers": list(found.layers),
            "fraction_negative": found.fraction_negative,
            **({} if found.whole is None else _describe_measured(found, found.whole)),
        }
    return body | {"attributes": found.attrs}


def describe_measure(measure: Measure) -> dict[str, Any]:
    """A flatness number and its definition as plain data, without its samples."""
    return asdict(measure.what) | {
        "value": measure.value,
        "low": measure.low,
        "high": measure.high,
        "center": measure.center,
        "n": measure.n,
        "censored": measure.censored,
        "at_least": measure.at_least,
        "note": measure.note,
    }


def _describe_samples(surface: Surface, sampled: Sampled, samples: dict[str, NDArray[Any]]) -> dict[str, Any]:
    counts = sampled.n_examples
    errors = {name: float(np.nanmax(sem, initial=0.0)) for name, sem in sampled.sampling_sem.items()}
    return {
        "examples a cell": {"least": int(counts.min()), "median": float(np.median(counts)), "most": int(counts.max())},
        "cells with all examples": int((counts == surface.attrs["population"]).sum()),
        "largest sampling error": errors,
        "kept bytes": sum(array.nbytes for array in samples.values()),
    }


def _describe_measured(conflict: Conflict, whole: Whole) -> dict[str, Any]:
    return {
        "means": {name: interval._asdict() for name, interval in conflict.intervals().items()},
        "all examples": _describe_whole(whole),
    }


def _describe_whole(whole: Whole) -> dict[str, Any]:
    return {
        "counts": dict(zip(whole.terms, whole.counts.tolist(), strict=True)),
        "cosines": whole.cosines.tolist(),
        "split_half_cosines": whole.split_half_cosines.tolist(),
        "norm": whole.norm,
        "variance": whole.variance,
        "signal_to_noise": whole.signal_to_noise,
    }


def _describe_directions(found: Directions) -> dict[str, Any]:
    return {
        "schema": files.SCHEMA,
        "kind": found.kind,
        "directions": len(found),
        "tensors": {name: list(tensor.shape) for name, tensor in found.axes[0].items()},
        "points": {name: points.tolist() for name, points in found.points.items()},
        "explained": list(found.explained),
        "attributes": {"normalize": found.normalize, "ignore": found.ignore, "seed": found.seed},
    }
