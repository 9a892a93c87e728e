"""What is sampled: the cells of a grid, the examples in their order, and how exact each term has to be."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.sampling.order import nested_order
from landscape.sampling.samples import Positions

BESIDE = -1
"""The cell number of an origin that is not on the grid."""

LADDER = (3, 5, 7, 9)
"""Anchors along an axis, from coarse to fine."""

PILOT_CELLS, PILOT_EXAMPLES = 12, 64
"""How many ordinary cells show what the predictors leave, and on how many examples."""

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Goal:
    """How small a standard error has to be: each term needs the larger of the two.

    Args:
        rel_error: As a share of the mean's magnitude.
        abs_error: In units of the term; one number, or ``{term: number}``.

    Raises:
        ValueError: Neither is given, or one is not a positive finite number.
    """

    rel_error: float | None = None
    abs_error: float | Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        floors = [*self.abs_error.values()] if isinstance(self.abs_error, Mapping) else [self.abs_error]
        given = [value for value in (self.rel_error, *floors) if value is not None]
        if not given or not all(0 < value < math.inf for value in given):
            raise ValueError(
                f"expected a positive rel_error, abs_error or both. Got {self.rel_error}, {self.abs_error}."
            )

    def of(self, term: str, mean: float) -> float:
        """The wanted standard error of a term whose mean this is."""
        floor = self.abs_error.get(term, 0.0) if isinstance(self.abs_error, Mapping) else self.abs_error or 0.0
        return max((self.rel_error or 0.0) * abs(mean), floor)


class Request(NamedTuple):
    """Examples to evaluate at a cell: their losses are given back in this order.

    Attributes:
        cell: Number of the cell, counted along the rows of the grid; -1 is an origin that is not on the grid.
        examples: Numbers of the examples, ``[k]``.
        positions: Their places in the random order.
    """

    cell: int
    examples: NDArray[np.int64]
    positions: Positions


class Setup:
    """The fixed part of a sampler.

    Args:
        axes: Coordinates along each axis of the grid: ``(ys, xs)`` or ``(xs,)``.
        population: N, the number of examples.
        terms: Names.
        goal: Wanted of each term.
        labels: ``[N]``, to stratify the order by.
        seed: Of the order.
        anchors: Along each axis; None chooses; 0 is none.

    Raises:
        ValueError: An axis is empty or not increasing, there is no term, or more anchors are asked for than fit.
    """

    def __init__(
        self,
        axes: Sequence[ArrayLike],
        population: int,
        terms: Sequence[str],
        goal: Goal,
        *,
        labels: ArrayLike | None = None,
        seed: int = 0,
        anchors: int | None = None,
    ) -> None:
        self.axes = tuple(np.asarray(axis, np.float64) for axis in axes)
        if not self.axes or any(axis.ndim != 1 or not len(axis) or (np.diff(axis) <= 0).any() for axis in self.axes):
            raise ValueError("expected increasing coordinates along each axis of the grid.")
        if not terms:
            raise ValueError("expected at least one term. Got none.")
        fitting = min(map(len, self.axes))
        if anchors is not None and anchors != 0 and not 2 <= anchors <= fitting:
            raise ValueError(
                f"anchors along an axis must be 0, or from 2 to {fitting}, as the grid has. Got {anchors}."
            )
        self.population, self.terms, self.goal, self.anchors = population, tuple(terms), goal, anchors
        self.order = nested_order(population, seed, labels)
        codes = None if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
        self.labels = None if codes is None else codes[self.order]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the grid."""
        return tuple(map(len, self.axes))

    @property
    def cells(self) -> int:
        """How many the grid has."""
        return math.prod(self.shape)

    @cached_property
    def origin(self) -> int:
        """Number of the cell whose coordinates are all 0."""
        found = [np.flatnonzero(axis == 0) for axis in self.axes]
        return BESIDE if any(not f.size for f in found) else self.number(tuple(int(f[0]) for f in found))

    def number(self, index: tuple[int, ...]) -> int:
        """Of the cell with this index."""
        return int(np.ravel_multi_index(index, self.shape))

    def point(self, cell: int) -> tuple[float, ...]:
        """The coordinates of a cell, in the order of the axes."""
        return tuple(float(axis[i]) for axis, i in zip(self.axes, np.unravel_index(cell, self.shape), strict=True))

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """Numbers of anchors along an axis that may be tried, from coarse to fine; at most half of the grid's lines."""
        if self.anchors is not None:
            return (self.anchors,) if self.anchors else ()
        return tuple(k for k in LADDER if 2 * k <= min(self.shape) + 1)

    def lines(self, level: int) -> tuple[NDArray[np.int64], ...]:
        """Indices of the anchors along each axis: evenly spread, with both ends and, if on the grid, the origin."""
        found = []
        for axis in self.axes:
            lines = np.round(np.linspace(0, len(axis) - 1, level)).astype(np.int64)
            zero = np.flatnonzero(axis == 0)
            if level > 2 and zero.size and 0 < zero[0] < len(axis) - 1:
                lines[1 + np.abs(lines[1:-1] - zero[0]).argmin()] = zero[0]
            found.append(lines)
        return tuple(found)

    def grid_of(self, level: int) -> NDArray[np.int64]:
        """Numbers of the anchor cells, one axis of the array for each axis of the grid."""
        return np.ravel_multi_index(np.meshgrid(*self.lines(level), indexing="ij"), self.shape)

    @cached_property
    def pilots(self) -> list[int]:
        """A few ordinary cells, spread by the golden ratio, that are an anchor of no level."""
        taken = {self.origin}.union(*(self.grid_of(level).ravel().tolist() for level in self.levels))
        free = [cell for cell in range(self.cells) if cell not in taken]
        count = min(PILOT_CELLS, len(free))
        picks = {int((0.5 + i * _GOLDEN) % 1 * len(free)) for i in range(count)}
        return [free[i] for i in sorted(picks)]

    def refined(self, goal: Goal, axes: Sequence[ArrayLike]) -> Setup:
        """The same examples in the same order, with another goal and on another grid.

        Raises:
            ValueError: As the class; or the number of axes is another.
        """
        if len(axes) != len(self.axes):
            raise ValueError(f"expected {len(self.axes)} axes, as before. Got {len(axes)}.")
        found = Setup(axes, self.population, self.terms, goal, anchors=self.anchors)
        found.order, found.labels = self.order, self.labels
        return found

    def counterpart(self, other: Setup, cell: int) -> int | None:
        """The number that a cell of ours, or the origin, has on another grid; None where it is not there."""
        point = (0.0,) * len(self.axes) if cell == BESIDE else self.point(cell)
        if not any(point):
            return other.origin
        index = [np.flatnonzero(axis == value) for axis, value in zip(other.axes, point, strict=True)]
        return other.number(tuple(int(i[0]) for i in index)) if all(i.size for i in index) else None

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, as arrays."""
        absolute = self.goal.abs_error
        words = {
            "terms": self.terms,
            "rel_error": self.goal.rel_error,
            "abs_error": dict(absolute) if isinstance(absolute, Mapping) else absolute,
            "anchors": self.anchors,
            "axes": len(self.axes),
        }
        of_axes = {f"axis{i}": axis for i, axis in enumerate(self.axes)}
        labels = {} if self.labels is None else {"labels": self.labels}
        return {"setup": np.array(json.dumps(words)), "order": self.order, **of_axes, **labels}

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[Any]]) -> Setup:
        """From what `state` returned; the order is the stored one, whatever a later NumPy would draw."""
        words = json.loads(str(state["setup"]))
        axes = [state[f"axis{i}"] for i in range(words["axes"])]
        goal = Goal(words["rel_error"], words["abs_error"])
        self = cls(axes, len(state["order"]), words["terms"], goal, anchors=words["anchors"])
        self.order = np.asarray(state["order"])
        self.labels = np.asarray(state["labels"]) if "labels" in state else None
        return self
