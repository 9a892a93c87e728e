"""Whether a file is of the measurement that is asked for; what differs is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from landscape.directions import Directions
from landscape.grid import Grid, Grid2D, Path
from landscape.parts import Part
from landscape.problem import Problem
from landscape.provenance import digest_model
from landscape.results import Surface

SAME_FOR_PARTS = (
    "checkpoint_sha256",
    "directions_sha256",
    "data_sha256",
    "normalize",
    "ignore",
    "bn_mode",
    "bn_sample_sha256",
    "precision",
    "split",
)
"""Attributes that are the same for every part of a surface."""

AXES = ("x", "y", "path")
"""Where the coordinates of a surface are."""


def of(
    problem: Problem, directions: Directions, *, bn_mode: str, precision: str, shard: Part, data_shard: Part
) -> dict[str, Any]:
    """What must be the same for a file to be of the same measurement, the data aside."""
    given = str(next(problem.model.parameters()).dtype).removeprefix("torch.")
    return {
        "checkpoint_sha256": digest_model(problem.model),
        "directions_sha256": directions.sha256,
        "normalize": directions.normalize,
        "ignore": directions.ignore,
        "bn_mode": bn_mode,
        "precision": given if precision == "as given" else precision,
        "split": problem.split,
        "shard": str(shard),
        "data_shard": str(data_shard),
    }


def refuse_another(found: Surface, identity: dict[str, Any], grid: Grid | None, name: str) -> None:
    """Refuse a file of other weights, directions, data or options, or on another grid.

    Raises:
        ValueError: What differs, by name.
    """
    differing = [key for key, value in identity.items() if found.attrs.get(key) != value]
    if grid is not None:
        differing += [axis for axis in AXES if not _equal(getattr(found, axis), _of(grid, axis))]
    if differing:
        raise ValueError(
            f"{name} must be of this measurement. Got a file that differs in {', '.join(differing)}. Write to another "
            "file; to measure the same on a wider or denser grid, give the file as reuse."
        )


def _of(grid: Grid, axis: str) -> Any:
    if axis == "path":
        return grid.coordinates if isinstance(grid, Path) else None
    return grid.xs if axis == "x" else grid.ys if isinstance(grid, Grid2D) else None


def same_axis(a: Surface, b: Surface, axis: str) -> bool:
    """Whether two surfaces have the same coordinates along an axis, one of `AXES`."""
    return _equal(getattr(a, axis), getattr(b, axis))


def _equal(a: Any, b: Any) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))


def same_values(a: dict[str, tuple[float, float]], b: dict[str, tuple[float, float]]) -> bool:
    """Whether two ``{term: (mean, standard error)}`` agree to the last bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def refuse_another_origin(found: Surface, origin: dict[str, tuple[float, float]], name: str) -> None:
    """Refuse a file whose values at the unperturbed weights are others.

    Raises:
        ValueError: With both.
    """
    if not same_values(found.origin, origin):
        raise ValueError(
            f"{name} must be of this measurement: at the unperturbed weights it has {found.origin}. "
            f"Got {origin}. The objective or the machine has changed: write to another file."
        )


def refuse_another_objective(found: Surface, probe: dict[str, float], name: str) -> None:
    """Refuse a file whose objective gave something else on the first batch.

    Raises:
        ValueError: With both.
    """
    if found.attrs["probe"] != probe:
        raise ValueError(
            f"{name} must be of this measurement: over the first batch it has {found.attrs['probe']}. Got {probe}. The "
            "objective or the machine has changed: write to another file."
        )


def first_not_finite(model: torch.nn.Module) -> str:
    """A hint at the first weight that is not finite; nothing where all are."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not torch.isfinite(tensor).all():
            return f" The weights in {name!r} are not finite."
    return ""
