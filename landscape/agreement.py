"""How far a faster or less precise way to measure is off the plain one, at a few points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from landscape import grid as grids
from landscape.averages import Moments
from landscape.grid import Grid
from landscape.walker import Walker

CHECKED = 512
"""How many examples, at least, a comparison is made on."""

TOLERANCE = 1e-5
"""Largest relative error of a faster path; a count may also differ by one example."""


class Agreement(NamedTuple):
    """Of one way to measure with another.

    Attributes:
        errors: ``{"origin" | "corners": {term: relative error of the mean}}``; of several corners the largest.
        holds: Whether they differ by rounding alone.
    """

    errors: dict[str, dict[str, float]]
    holds: bool


def corners(grid: Grid, n_directions: int) -> list[tuple[float, ...]]:
    """The outermost points of a grid, four at most."""
    cells = {index: point for unit in grids.units(grid, n_directions) for index, point in unit}
    _, sizes = grids.shape(grid, n_directions)
    return [cells[index] for index in dict.fromkeys(product(*((0, size - 1) for size in sizes)))]


def compare(plain: Walker, other: Walker, points: Sequence[tuple[float, ...]]) -> Agreement:
    """Measure the origin and other points in both ways."""
    origin = (0.0,) * len(points[0])
    pairs = [(plain.at(point), other.at(point)) for point in (origin, *points)]
    errors = [{name: _error(a[name], b[name]) for name in a} for a, b in pairs]
    holds = all(_alike(a[name], b[name]) for a, b in pairs for name in a)
    at_corners = {name: max(of[name] for of in errors[1:]) for name in errors[0]}
    return Agreement({"origin": errors[0], "corners": at_corners}, holds)


def _error(plain: Moments, other: Moments) -> float:
    if not math.isfinite(plain.mean):
        return math.inf if math.isfinite(other.mean) else 0.0
    difference = abs(other.mean - plain.mean)
    return difference / abs(plain.mean) if plain.mean else math.inf if difference else 0.0


def _alike(plain: Moments, other: Moments) -> bool:
    if _error(plain, other) <= TOLERANCE:
        return plain.n == other.n
    counts = [moments.mean * moments.n for moments in (plain, other)]
    whole = all(abs(count - round(count)) < 1e-6 for count in counts if math.isfinite(count))
    return plain.n == other.n and whole and abs(counts[0] - counts[1]) < 1.5
