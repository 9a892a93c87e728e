"""Where a surface is sampled: one or two axes through the weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from landscape.results import Array

Axis = tuple[float, float, int]
"""``(first, last, points)``, both ends included, in units of the direction."""


def coordinates(axis: Axis, name: str) -> Array:
    """Evenly spaced coordinates ``[points]`` with an exact 0 on symmetric axes.

    Raises:
        ValueError: The axis is empty, reversed or not finite, or is symmetric with an even number of points.
    """
    if len(axis) != 3:
        raise ValueError(f"{name} must be (first, last, points), such as (-1, 1, 51). Got {axis!r}.")
    first, last, points = axis
    if not (math.isfinite(first) and math.isfinite(last) and first < last):
        raise ValueError(f"{name} must run from a smaller to a larger finite coordinate. Got {first} to {last}.")
    if int(points) != points or points < 2:
        raise ValueError(f"{name} must have a whole number of points, at least 2. Got {points}.")
    if first != -last:
        spread = np.linspace(first, last, int(points))
        inner = spread[1:-1]
        inner[np.abs(inner) < 1e-15 * max(-first, last) * points] = (
            0.0  # rounding: the origin is on the grid, or off it
        )
        return spread
    if points % 2 == 0:
        raise ValueError(f"points must be odd so that 0 is on the grid. Got {points} for {name}. Use {points + 1}.")
    half = np.linspace(0.0, last, int(points) // 2 + 1)
    return np.concatenate([-half[:0:-1], half])


@dataclass(frozen=True)
class Grid1D:
    """Points along each direction: ``Grid1D(x=(-1, 1, 51))``.

    Raises:
        ValueError: The axis is not a valid ``(first, last, points)``; see `coordinates`.
    """

    x: Axis

    def __post_init__(self) -> None:
        coordinates(self.x, "x")

    @property
    def xs(self) -> Array:
        """Coordinates ``[nx]``."""
        return coordinates(self.x, "x")

    @property
    def ys(self) -> None:
        """A line has no second axis."""
        return None


@dataclass(frozen=True)
class Grid2D:
    """Points in the plane of two directions: ``Grid2D(x=(-1, 1, 51), y=(-0.5, 0.5, 25))``.

    Raises:
        ValueError: An axis is not a valid ``(first, last, points)``; see `coordinates`.
    """

    x: Axis
    y: Axis

    def __post_init__(self) -> None:
        coordinates(self.x, "x")
        coordinates(self.y, "y")

    @property
    def xs(self) -> Array:
        """Coordinates ``[nx]``."""
        return coordinates(self.x, "x")

    @property
    def ys(self) -> Array:
        """Coordinates ``[ny]``."""
        return coordinates(self.y, "y")


Grid = Grid1D | Grid2D


def shape(grid: Grid, n_directions: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and sizes of the axes of a surface on ``grid``.

    Raises:
        ValueError: A plane was asked for with another number of directions than two.
    """
    if isinstance(grid, Grid2D):
        if n_directions != 2:
            raise ValueError(f"Grid2D needs two directions. Got {n_directions}. Use directions.random(model, n=2).")
        return ("y", "x"), (len(grid.ys), len(grid.xs))
    if n_directions == 1:
        return ("x",), (len(grid.xs),)
    return ("direction", "x"), (n_directions, len(grid.xs))


def rows(grid: Grid, n_directions: int) -> Iterator[list[tuple[tuple[int, ...], tuple[float, ...]]]]:
    """The cells, a row at a time: each cell's index in the arrays and its coordinate along every direction.

    A single line is as many rows as it has points, so that an interruption loses one point at most.
    """
    xs = grid.xs
    if isinstance(grid, Grid2D):
        for j, y in enumerate(grid.ys):
            yield [((j, i), (float(x), float(y))) for i, x in enumerate(xs)]
    elif n_directions == 1:
        for i, x in enumerate(xs):
            yield [((i,), (float(x),))]
    else:
        for k in range(n_directions):
            along = np.eye(n_directions)[k]
            yield [((k, i), tuple(float(x) * along)) for i, x in enumerate(xs)]
