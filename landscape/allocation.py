"""A surface in which nothing is measured yet but the origin: every array at its full size, and its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from landscape import grid as grids
from landscape.averages import Moments, as_pairs
from landscape.directions import Directions
from landscape.grid import Grid, Grid2D, Path
from landscape.parts import Part
from landscape.plan import Plan
from landscape.provenance import stamp
from landscape.results import PENDING, Array, Sampled, Surface


def allocate(
    device: torch.device,
    directions: Directions,
    grid: Grid,
    plan: Plan,
    origin: Mapping[str, Moments],
    measured: Mapping[str, Any],
    *,
    sampled: bool = False,
) -> Surface:
    """An empty surface.

    Args:
        device: What is computed on, for the provenance.
        directions: What the coordinates are multiples of.
        grid: Gives the axes.
        plan: How cells are computed.
        origin: Moments of each term at the unperturbed weights.
        measured: Attributes that say what is measured; those of `identity.of` and the digests of the data among them.
        sampled: Whether cells are estimated from samples of the examples.
    """
    dims, sizes = grids.shape(grid, len(directions))
    in_parts = not Part.parse(measured["data_shard"]).whole

    def empty() -> dict[str, Array]:
        return {name: np.full(sizes, np.nan) for name in origin}

    return Surface(
        x=grid.xs.copy(),
        y=grid.ys.copy() if isinstance(grid, Grid2D) else None,
        dims=dims,
        means=empty(),
        sems=empty(),
        status=np.full(sizes, PENDING, np.uint8),
        origin=as_pairs(origin),
        attrs={
            **stamp(device),
            "seed": -1 if directions.seed is None else directions.seed,
            "kind": directions.kind,
            "explained": list(directions.explained),
            "n_examples": _examples(origin),
            "plan": plan.as_attr(),
            **measured,
            **(_for_merging(origin) if in_parts else {}),
        },
        directions=directions,
        path=grid.coordinates if isinstance(grid, Path) else None,
        sums={"squares": empty(), "cross": empty()} if in_parts else {},
        sampled=Sampled(np.zeros(sizes, np.int64), empty(), empty(), empty()) if sampled else None,
    )


def _examples(origin: Mapping[str, Moments]) -> int | dict[str, int]:
    """The number of examples; by term where they differ."""
    counts = {name: moments.n for name, moments in origin.items()}
    return next(iter(counts.values())) if len(set(counts.values())) == 1 else counts


def _for_merging(origin: Mapping[str, Moments]) -> dict[str, Any]:
    return {
        "counts": {name: [m.n, m.clusters, m.sizes] for name, m in origin.items()},
        "origin_sums": {name: [m.squares, m.cross] for name, m in origin.items()},
    }
