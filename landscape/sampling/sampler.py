"""What drives the sampling of a grid: requests out, losses in, estimates and a state to be stored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.results import Array
from landscape.sampling.estimate import Estimate
from landscape.sampling.first_phase import FirstPhase, Step
from landscape.sampling.samples import Positions, Samples
from landscape.sampling.second_phase import BASES, SecondPhase, Stage
from landscape.sampling.setup import BESIDE, Goal, Request, Setup


class Sampler:
    """Says which examples to evaluate at which cells until each term's mean is known well enough, at little cost.

    Example:
        >>> sampler = Sampler((ys, xs), n, ["ce"], Goal(rel_error=0.01))
        >>> for request in sampler.requests():
        ...     sampler.give(request, {"ce": losses(request.cell, request.examples)})
        >>> sampler.mean("ce"), sampler.sem("ce")

    It is deterministic: what it asks for depends on the seed and on the losses that it was given alone. Its `state` can
    be stored at any moment, and goes on as if there had been no break. Its first phase (the origin for all examples,
    then anchor cells) is shared; after it (`first_phase_done`) every cell depends on that and on its own losses only,
    so that shards can each take a part of the cells, from the same state.

    No example is evaluated twice at a cell: a sampler never costs more than evaluating everything, but for an origin
    that is not on the grid.

    Args:
        axes: Coordinates along each axis of the grid: ``(ys, xs)`` of a plane, ``(xs,)`` of a line.
        population: N, the number of examples.
        terms: Names of the terms; each must reach its error.
        goal: The error that is wanted.
        labels: ``[N]``; the random order is then stratified by them.
        seed: Of the random order.
        anchors: How many along each axis; None chooses them by the variances; 0 is none.
        keep: Whether the losses of finished cells are kept, to refine them later.

    Raises:
        ValueError: See `Setup` and `Goal`.
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
        keep: bool = True,
    ) -> None:
        self._begin(Setup(axes, population, terms, goal, labels=labels, seed=seed, anchors=anchors), keep)

    def _begin(self, setup: Setup, keep: bool, samples: Samples | None = None, step: Step = Step()) -> None:  # noqa: B008
        self.setup, self.keep = setup, keep
        self.samples = Samples(len(setup.terms), setup.population) if samples is None else samples
        self.first_phase = FirstPhase(setup, self.samples, step)
        self.second_phase = SecondPhase(setup, self.samples, self.first_phase, keep)

    @property
    def first_phase_done(self) -> bool:
        """Whether the origin and the anchors are known, so that the other cells are independent of each other."""
        return self.first_phase.done

    @property
    def done(self) -> bool:
        """Whether every cell has its estimate."""
        return len(self.second_phase.results) == self.setup.cells

    @property
    def finished(self) -> list[int]:
        """The cells that have their estimate, in the order in which they got it."""
        return list(self.second_phase.results)

    @property
    def evaluated(self) -> int:
        """How many examples were evaluated, over all cells."""
        return self.samples.evaluated

    def requests(self, cells: Iterable[int] | None = None) -> Iterator[Request]:
        """What to evaluate next, until nothing is left; each is to be answered by `give`.

        A request may be put off: others follow, as long as some that do not depend on it are left.

        Args:
            cells: Only these after the first phase; all by default.
        """
        while not self.first_phase.done:
            before = self.evaluated
            for cell, positions in self.first_phase.missing():
                yield self._request(cell, positions)
            if not self.first_phase.done and self.evaluated == before:
                return
        mine = list(range(self.setup.cells)) if cells is None else list(cells)
        while True:
            before, left = self.evaluated, []
            for cell in mine:
                while (missing := self.second_phase.missing(cell)) is not None:
                    had = self.evaluated
                    yield self._request(cell, missing)
                    if self.evaluated == had:
                        left.append(cell)
                        break
            mine = left
            if not left or self.evaluated == before:
                return

    def give(self, request: Request, losses: Mapping[str, ArrayLike]) -> None:
        """Take the losses of a request's examples, of every term; they are kept in float32.

        Raises:
            ValueError: A term is missing, or has not one value for each example.
        """
        rows = []
        for term in self.setup.terms:
            values = np.asarray(losses[term], np.float64) if term in losses else np.empty(0)
            if values.shape != request.positions.shape:
                raise ValueError(
                    f"expected {len(request.positions)} values of term {term!r}, one for each example. "
                    f"Got {values.shape if term in losses else 'none'}."
                )
            rows.append(values)
        missing = self.samples.missing(request.cell, request.positions)
        if len(missing) != len(request.positions):
            raise ValueError(
                f"cell {request.cell} has been given {len(request.positions) - len(missing)} of these before."
            )
        self.samples.put(request.cell, request.positions, np.stack(rows))

    def _request(self, cell: int, positions: Positions) -> Request:
        return Request(cell, self.setup.order[positions], positions)

    def estimate(self, cell: int) -> dict[str, Estimate]:
        """Of a finished cell, by term.

        Raises:
            KeyError: The cell is not finished.
        """
        return dict(zip(self.setup.terms, self.second_phase.results[cell], strict=True))

    def mean(self, term: str) -> Array:
        """Estimated means in the shape of the grid; NaN where a cell is not finished."""
        return self._of(term, "mean")

    def sem(self, term: str) -> Array:
        """Standard errors of `mean`, as an estimate of the mean over the N examples: 0 where all were evaluated."""
        return self._of(term, "sem")

    def half(self, term: str) -> Array:
        """Half the widths of the 95 % intervals around `mean`, in which the looks at the data are allowed for."""
        return self._of(term, "half")

    def total_sem(self, term: str) -> Array:
        """Standard errors with the N examples themselves as a sample: ``s / sqrt(N)`` where all were evaluated."""
        return np.hypot(self._of(term, "sem"), self._of(term, "deviation") / math.sqrt(self.setup.population))

    def sem_diff(self, term: str) -> Array:
        """The same for the difference from the origin, with which a cell shares its examples."""
        return np.hypot(self._of(term, "sem"), self._of(term, "deviation_diff") / math.sqrt(self.setup.population))

    def examples(self) -> NDArray[np.int64]:
        """How many examples of each cell were evaluated."""
        return np.array([self.samples.count(cell) for cell in range(self.setup.cells)]).reshape(self.setup.shape)

    def _of(self, term: str, name: str) -> Array:
        t = self.setup.terms.index(term)
        found = np.full(self.setup.cells, np.nan)
        for cell, estimates in self.second_phase.results.items():
            found[cell] = getattr(estimates[t], name)
        return found.reshape(self.setup.shape)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, as arrays by name, to be stored and `restored`."""
        step = self.first_phase.step
        words = {"step": [step.name, step.level, step.first, step.costs], "keep": self.keep}
        estimates = [[tuple(map(float, found)) for found in of_cell] for of_cell in self.second_phase.results.values()]
        return {
            **self.setup.state(),
            **self.samples.state(),
            "sampler": np.array(json.dumps(words)),
            "stage_cells": np.array(list(self.second_phase.stages), np.int64),
            "stages": np.array(
                [[BASES.index(s.basis), s.drawn, s.looks] for s in self.second_phase.stages.values()], np.int64
            ).reshape(-1, 3),
            "result_cells": np.array(list(self.second_phase.results), np.int64),
            "results": np.array(estimates).reshape(-1, len(self.setup.terms), len(Estimate._fields)),
        }

    @classmethod
    def restored(cls, state: Mapping[str, NDArray[Any]]) -> Sampler:
        """A sampler that goes on where the one of a `state` was."""
        self = cls.__new__(cls)
        setup = Setup.restored(state)
        words = json.loads(str(state["sampler"]))
        name, level, first, costs = words["step"]
        samples = Samples.restored(len(setup.terms), setup.population, state)
        self._begin(setup, words["keep"], samples, Step(name, level, first, tuple(costs)))
        for cell, (basis, drawn, looks) in zip(state["stage_cells"].tolist(), state["stages"].tolist(), strict=True):
            self.second_phase.stages[cell] = Stage(BASES[basis], drawn, looks)
        for cell, of_cell in zip(state["result_cells"].tolist(), state["results"].tolist(), strict=True):
            self.second_phase.results[cell] = [Estimate(*values)._replace(heavy=bool(values[5])) for values in of_cell]
        return self

    def refined(self, goal: Goal, axes: Sequence[ArrayLike] | None = None) -> Sampler:
        """A sampler with another goal, or on a denser or wider grid, that begins with every loss of this one.

        It estimates each cell anew, and asks for what it has not.

        Args:
            goal: The error that is wanted now.
            axes: Coordinates along each axis; the same as before by default.

        Raises:
            ValueError: The losses of finished cells were not kept; or as `Setup`.
        """
        if not self.keep:
            raise ValueError("expected a sampler that has kept its losses, to be refined. Got one that has not.")
        setup = self.setup.refined(goal, self.setup.axes if axes is None else axes)
        numbers = {cell: self.setup.counterpart(setup, cell) for cell in (BESIDE, *range(self.setup.cells))}
        found = Sampler.__new__(Sampler)
        found._begin(setup, True, self.samples.renumbered({a: b for a, b in numbers.items() if b is not None}))
        return found

    def absorb(self, other: Sampler) -> None:
        """Take the cells that another sampler has finished, from the same state after the first phase.

        Raises:
            ValueError: It is of another setup or first phase.
        """
        same = self.first_phase.step == other.first_phase.step and self.first_phase_done
        if not same or not np.array_equal(self.setup.order, other.setup.order):
            raise ValueError("expected a sampler of the same examples and first phase, both past it. Got another.")
        for cell in other.second_phase.results.keys() - self.second_phase.results.keys():
            self.second_phase.results[cell], self.second_phase.stages[cell] = (
                other.second_phase.results[cell],
                other.second_phase.stages[cell],
            )
            self.samples.take(cell, other.samples)
