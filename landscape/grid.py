"""Where a surface is sampled: one or two axes through the weights, or a path, and in which order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from landscape.results import Array

Cell = tuple[tuple[int, ...], tuple[float, ...]]
"""A cell's index in the arrays, and its coordinate along every direction."""

_COARSE = 0.05
"""Share of a plane's cells that the coarsest picture may take, as long as it has 5 x 5."""


@dataclass(frozen=True)
class LogAxis:
    """Coordinates that grow by a constant factor on both sides of an exact 0, to see many scales at once.

    Args:
        smallest: Magnitude of the coordinates next to 0, in units of the direction.
        largest: Magnitude of the first and last coordinate.
        points: How many on each side, at least 2.
        both_sides: Whether negative coordinates are taken too.

    Raises:
        ValueError: The magnitudes are not finite, positive and increasing, or there are too few points.
    """

    smallest: float
    largest: float
    points: int
    both_sides: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.smallest < self.largest < math.inf:
            raise ValueError(
                f"a LogAxis must run from a small to a larger magnitude above 0. Got {self.smallest} to {self.largest}."
            )
        if int(self.points) != self.points or self.points < 2:
            raise ValueError(f"a LogAxis must have a whole number of points, at least 2 a side. Got {self.points}.")

    @property
    def coordinates(self) -> Array:
        """``[2 points + 1]``, or ``[points + 1]`` on one side."""
        side = np.geomspace(self.smallest, self.largest, int(self.points))
        return np.concatenate([-side[::-1] if self.both_sides else [], [0.0], side])


Axis = tuple[float, float, int] | LogAxis
"""``(first, last, points)``, evenly spaced with both ends included, in units of the direction; or a `LogAxis`."""


def coordinates(axis: Axis, name: str) -> Array:
    """Coordinates of an axis, evenly spaced with an exact 0 on symmetric axes, or those of a `LogAxis`.

    Raises:
        ValueError: The axis is empty, reversed or not finite, or is symmetric with an even number of points.
    """
    if isinstance(axis, LogAxis):
        return axis.coordinates
    if len(axis) != 3:
        raise ValueError(f"{name} must be (first, last, points), such as (-1, 1, 51). Got {axis!r}.")
    first, last, points = axis
    if not (math.isfinite(first) and math.isfinite(last) and first < last):
        raise ValueError(f"{name} must run from a smaller to a larger finite coordinate. Got {first} to {last}.")
    if int(points) != points or points < 2:
        raise ValueError(f"{name} must have a whole number of points, at least 2. Got {points}.")
    if first == -last and points % 2 == 0:
        raise ValueError(f"points must be odd so that 0 is on the grid. Got {points} for {name}. Use {points + 1}.")
    spread = _even(first, last, int(points))
    inner = spread[1:-1]
    inner[np.abs(inner) < 1e-15 * max(-first, last) * points] = 0.0  # rounding: the origin is on the grid, or off it
    return spread


def _even(first: float, last: float, points: int) -> Array:
    """Correctly rounded, so that coordinates of two grids that are equal on paper are equal to the last bit."""
    start, step = Fraction(first), (Fraction(last) - Fraction(first)) / (points - 1)
    return np.array([float(start + i * step) for i in range(points)])


@dataclass(frozen=True)
class Grid1D:
    """Points along each direction: ``Grid1D(x=(-1, 1, 51))``.

    Raises:
        ValueError: The axis is not a valid ``(first, last, points)``; see `coordinates`.
    """

    x: Axis

    def __post_init__(self) -> None:
        coordinates(self.x, "x")

    @cached_property
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

    @cached_property
    def xs(self) -> Array:
        """Coordinates ``[nx]``."""
        return coordinates(self.x, "x")

    @cached_property
    def ys(self) -> Array:
        """Coordinates ``[ny]``."""
        return coordinates(self.y, "y")


@dataclass(frozen=True, eq=False)
class Path:
    """Points in the space of several directions, one after the other: a curve between two networks, a training run.

    Args:
        x: What the points are plotted against, ``[k]``, increasing: the curve's parameter, the epoch.
        points: Coordinates along each of ``n`` directions, ``[k, n]``.

    Raises:
        ValueError: The shapes do not fit, ``x`` does not increase, or a number is not finite.
    """

    x: ArrayLike
    points: ArrayLike

    def __post_init__(self) -> None:
        x, points = np.array(self.x, np.float64), np.array(self.points, np.float64)
        if x.ndim != 1 or len(x) < 2 or points.ndim != 2 or len(points) != len(x):
            raise ValueError(
                f"a Path needs x [k] and points [k, n], k at least 2. Got {list(x.shape)} and {list(points.shape)}."
            )
        if not (np.isfinite(x).all() and np.isfinite(points).all() and (np.diff(x) > 0).all()):
            raise ValueError("a Path needs finite points and an x that increases. Got others.")
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "points", points)

    @property
    def xs(self) -> Array:
        """What the points are plotted against, ``[k]``."""
        return np.asarray(self.x)

    @property
    def ys(self) -> None:
        """A path has no second axis."""
        return None

    @property
    def coordinates(self) -> Array:
        """The points, ``[k, n]``."""
        return np.asarray(self.points)


Grid = Grid1D | Grid2D | Path


def shape(grid: Grid, n_directions: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and sizes of the axes of a surface on ``grid``.

    Raises:
        ValueError: The grid is for another number of directions.
    """
    if isinstance(grid, Grid2D):
        if n_directions != 2:
            raise ValueError(f"Grid2D needs two directions. Got {n_directions}. Use directions.random(model, n=2).")
        return ("y", "x"), (len(grid.ys), len(grid.xs))
    if isinstance(grid, Path):
        if n_directions != grid.coordinates.shape[1]:
            raise ValueError(f"the Path has {grid.coordinates.shape[1]} coordinates. Got {n_directions} directions.")
        return ("x",), (len(grid.xs),)
    if n_directions == 1:
        return ("x",), (len(grid.xs),)
    return ("direction", "x"), (n_directions, len(grid.xs))


def units(grid: Grid, n_directions: int, *, coarse_to_fine: bool = False) -> list[list[Cell]]:
    """The cells in the order of their evaluation, in the units of `order`."""
    dims, sizes = shape(grid, n_directions)
    return [
        [(index, _point(grid, n_directions, index)) for index in unit] for unit in order(dims, sizes, coarse_to_fine)
    ]


def order(dims: tuple[str, ...], sizes: tuple[int, ...], coarse_to_fine: bool) -> list[list[tuple[int, ...]]]:
    """Indices of the cells in the order of their evaluation, in units of which a shard owns every n-th.

    A unit is a row of a plane or one line of a bundle; of a single line or path it is a cell.

    Args:
        dims: Names of the axes.
        sizes: Of the axes.
        coarse_to_fine: Whether a coarse picture of the whole comes first (of a plane: from about 5 % of the cells) and
            each further level halves the spacing; a unit is then the part of a row that belongs to one level.
    """
    if len(sizes) == 1:
        rows: list[list[tuple[int, ...]]] = [[(i,)] for i in range(sizes[0])]
    else:
        rows = [[(j, i) for i in range(sizes[1])] for j in range(sizes[0])]
    if not coarse_to_fine:
        return rows
    levels = [_levels(size) for size in sizes]
    if dims[0] == "direction":
        levels[0] = np.zeros_like(levels[0])  # every line of a bundle from the start
    found = []
    for level in range(max(int(of_axis.max()) for of_axis in levels) + 1):
        for row in rows:
            now = [index for index in row if max(of[i] for of, i in zip(levels, index, strict=True)) == level]
            found += [now] if now else []
    return found


def _point(grid: Grid, n_directions: int, index: tuple[int, ...]) -> tuple[float, ...]:
    if isinstance(grid, Path):
        return tuple(map(float, grid.coordinates[index[0]]))
    x = float(grid.xs[index[-1]])
    if isinstance(grid, Grid2D):
        return (x, float(grid.ys[index[0]]))
    if n_directions == 1:
        return (x,)
    return tuple(x if k == index[0] else 0.0 for k in range(n_directions))


def _levels(size: int) -> np.ndarray:
    """At which refinement each index of an axis comes in: 0 for the coarsest, which holds the ends and the middle."""
    index = np.arange(size)
    ends = (index == 0) | (index == size - 1)

    def taken(stride: int) -> np.ndarray:
        return ends | ((index - size // 2) % stride == 0)

    stride = 1
    while taken(stride).sum() > max(5, math.sqrt(_COARSE) * size):
        stride *= 2
    level, levels = 0, np.full(size, -1)
    while stride:
        levels[taken(stride) & (levels < 0)] = level
        level, stride = level + 1, stride // 2
    return levels


def finest(done: np.ndarray) -> tuple[np.ndarray, ...]:
    """The indices along each axis of the finest regular part of a grid in which every cell is done.

    Args:
        done: Which cells are, in the shape of the grid.
    """
    levels = [_levels(size) for size in done.shape]
    for level in range(max(int(of_axis.max()) for of_axis in levels), -1, -1):
        kept = tuple(np.flatnonzero(of_axis <= level) for of_axis in levels)
        if done[np.ix_(*kept)].all():
            return kept
    return tuple(np.arange(0) for _ in levels)
