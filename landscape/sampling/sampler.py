"""The cells after the first phase: each is sampled until its error is small enough, independently of the others."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.results import Array
from landscape.sampling.allocation import certainty
from landscape.sampling.estimate import Estimate, Frame, estimate, exact, widened
from landscape.sampling.first_phase import FirstPhase, Step
from landscape.sampling.samples import Positions, Samples
from landscape.sampling.setup import Goal, Request, Setup

LEAST = 48
"""Fewer examples than these are not drawn: their variance says too little."""

RESERVE = 0.25
"""Of the wanted error, what is set aside in every estimate from a sample for what no drawn example shows: a variance
far below the one that is wanted has been seen on too few examples to be believed."""

_MARGIN = 1.15
"""How many more examples than planned are asked for, so that the first look is mostly the last one."""

_NEARLY = 0.8
"""A cell that needs more than this share of all examples gets all of them."""

ANCHORS, ORIGIN, ALL = "anchors", "origin", "all"
"""What a cell's estimate rests on: predictors from anchors; the origin's losses as the only one; every example."""

BASES = (ANCHORS, ORIGIN, ALL)


class _Stage(NamedTuple):
    """Where a cell is: what its estimate rests on, and how many examples are drawn for it; 0: not planned yet."""

    basis: str = ANCHORS
    drawn: int = 0
    looks: int = 0


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
        self._stages: dict[int, _Stage] = {}
        self._results: dict[int, list[Estimate]] = {}
        self._planned = 0
        self._frames: tuple[int, list[Frame]] | None = None

    @property
    def first_phase_done(self) -> bool:
        """Whether the origin and the anchors are known, so that the other cells are independent of each other."""
        return self.first_phase.done

    @property
    def done(self) -> bool:
        """Whether every cell has its estimate."""
        return len(self._results) == self.setup.cells

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
                while (found := self._next(cell)) is not None:
                    had = self.evaluated
                    yield found
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

    def _next(self, cell: int) -> Request | None:
        """What a cell needs next; None once it has its estimate."""
        while cell not in self._results:
            stage = self._stages.get(cell)
            if stage is None:
                stage = self._stages[cell] = self._first_stage(cell)
            missing = self.samples.missing(cell, self._positions(cell, stage))
            if len(missing):
                return self._request(cell, missing)
            self._look(cell, stage)
        return None

    def _base(self, cell: int, basis: str) -> list[Frame]:
        """The frames of a cell, with those examples marked that are evaluated for certain."""
        if basis == ORIGIN:
            return self.first_phase.frames(cell, 0, self.setup.population)
        if self._frames is None or self._frames[0] != cell:
            _, level, first, _ = self.first_phase.step
            frames = self.first_phase.frames(cell, level, first)
            certain = np.logical_or.reduce([frame.certain for frame in frames])
            chosen, planned = self._certain([frame._replace(certain=certain) for frame in frames])
            self._planned = planned
            self._frames = (cell, [frame._replace(certain=chosen) for frame in frames])
        return self._frames[1]

    def _certain(self, frames: list[Frame]) -> tuple[NDArray[np.bool_], int]:
        """Which examples to evaluate for certain, and how many others to draw; 0: the first phase is too small."""
        certain = frames[0].certain.copy()
        n1, n = len(certain), self.setup.population
        pool = np.flatnonzero(~certain)
        if len(pool) < n1 / 2:
            return certain, 0
        chosen, planned = certain.copy(), LEAST
        for frame, ratio, term in zip(frames, self.first_phase.ratios(), self.setup.terms, strict=True):
            predicted = frame.columns[pool, 0]
            left = self.setup.goal.of(term, float(predicted.mean())) ** 2
            if n1 < n and frame.origin is not None:
                left -= (1 / n1 - 1 / n) * _unexplained(predicted, frame.origin.values[pool])
            if left <= 0:
                return certain, 0
            assert frame.size is not None
            size = math.sqrt(ratio) * frame.size[pool]
            descending = np.argsort(-size, kind="stable")
            count, drawn = certainty(size[descending], left * n1**2, LEAST, _MARGIN)
            chosen[pool[descending[:count]]] = True
            planned = max(planned, drawn)
        return chosen, planned

    def _first_stage(self, cell: int) -> _Stage:
        level, first = self.first_phase.step.level, self.first_phase.step.first
        if cell == self.setup.origin:
            return _Stage(ALL)
        if not level:
            return _Stage(ORIGIN, min(LEAST, self.setup.population))
        if cell in self.setup.grid_of(level):
            return _Stage(ALL) if first == self.setup.population else _Stage(ORIGIN, first)
        self._base(cell, ANCHORS)
        if not self._planned:
            return _Stage(ORIGIN, min(LEAST, self.setup.population))
        return self._limited(cell, _Stage(ANCHORS, self._planned))

    def _limited(self, cell: int, stage: _Stage) -> _Stage:
        """The stage, or the next broader basis where it asks for more than its own can give."""
        n = self.setup.population
        if stage.basis == ANCHORS:
            certain = self._base(cell, ANCHORS)[0].certain
            total = int(certain.sum()) + stage.drawn
            if total <= _NEARLY * len(certain):
                return stage
            if len(certain) == n:
                return stage._replace(basis=ALL)
            stage = stage._replace(basis=ORIGIN, drawn=total)
        return stage._replace(basis=ALL) if stage.drawn > _NEARLY * n else stage

    def _positions(self, cell: int, stage: _Stage) -> Positions:
        if stage.basis == ALL:
            return np.arange(self.setup.population)
        certain = self._base(cell, stage.basis)[0].certain
        drawn = np.flatnonzero(~certain)[: stage.drawn]
        return np.concatenate([np.flatnonzero(certain), drawn])

    def _look(self, cell: int, stage: _Stage) -> None:
        """Estimate each term of a cell, and end it or plan its next round."""
        if stage.basis == ALL:
            self._finish(cell, self._exact(cell))
            return
        frames = self._base(cell, stage.basis)
        pool = np.flatnonzero(~frames[0].certain)
        sampled = pool[: self.samples.leading(cell, pool)]
        certain = self.samples.get(cell, np.flatnonzero(frames[0].certain))
        drawn = self.samples.get(cell, sampled)
        found, following = [], 0.0
        for t, (frame, term) in enumerate(zip(frames, self.setup.terms, strict=True)):
            values = np.concatenate([certain[t], drawn[t]])
            if np.isnan(values).any():
                found.append(exact(values))  # so is the mean of all
                continue
            if not np.isfinite(values).all():
                self._stages[cell] = _Stage(ALL)  # whether it is an infinity or NaN is for the others to say
                return
            now = estimate(frame._replace(sampled=sampled), certain[t], drawn[t])
            goal = self.setup.goal.of(term, now.mean)
            found.append(widened(now, RESERVE * goal))
            following = max(following, _following(now, math.sqrt(1 - RESERVE**2) * goal, frame, len(sampled)))
        if not following:
            self._finish(cell, found)
        elif math.isinf(following):
            self._stages[cell] = self._limited(cell, _Stage(ORIGIN, certain.shape[1] + len(sampled), stage.looks + 1))
        else:
            self._stages[cell] = self._limited(cell, _Stage(stage.basis, math.ceil(following), stage.looks + 1))

    def _exact(self, cell: int) -> list[Estimate]:
        everything = np.arange(self.setup.population)
        losses, origins = self.samples.get(cell, everything), self.first_phase.origin(self.setup.population)
        return [exact(values, origin) for values, origin in zip(losses, origins, strict=True)]

    def _finish(self, cell: int, found: list[Estimate]) -> None:
        self._results[cell] = found
        level = self.first_phase.step.level
        shared = cell == self.setup.origin or (level and cell in self.setup.grid_of(level)) or cell in self.setup.pilots
        if not (self.keep or shared):
            self.samples.drop(cell)

    def estimate(self, cell: int) -> dict[str, Estimate]:
        """Of a finished cell, by term.

        Raises:
            KeyError: The cell is not finished.
        """
        return dict(zip(self.setup.terms, self._results[cell], strict=True))

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
        for cell, estimates in self._results.items():
            found[cell] = getattr(estimates[t], name)
        return found.reshape(self.setup.shape)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, as arrays by name, to be stored and `restored`."""
        step = self.first_phase.step
        words = {"step": [step.name, step.level, step.first, step.costs], "keep": self.keep}
        estimates = [[tuple(map(float, found)) for found in of_cell] for of_cell in self._results.values()]
        return {
            **self.setup.state(),
            **self.samples.state(),
            "sampler": np.array(json.dumps(words)),
            "stage_cells": np.array(list(self._stages), np.int64),
            "stages": np.array(
                [[BASES.index(s.basis), s.drawn, s.looks] for s in self._stages.values()], np.int64
            ).reshape(-1, 3),
            "result_cells": np.array(list(self._results), np.int64),
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
            self._stages[cell] = _Stage(BASES[basis], drawn, looks)
        for cell, of_cell in zip(state["result_cells"].tolist(), state["results"].tolist(), strict=True):
            self._results[cell] = [Estimate(*values)._replace(heavy=bool(values[5])) for values in of_cell]
        return self

    def absorb(self, other: Sampler) -> None:
        """Take the cells that another sampler has finished, from the same state after the first phase.

        Raises:
            ValueError: It is of another setup or first phase.
        """
        same = self.first_phase.step == other.first_phase.step and self.first_phase_done
        if not same or not np.array_equal(self.setup.order, other.setup.order):
            raise ValueError("expected a sampler of the same examples and first phase, both past it. Got another.")
        for cell in other._results.keys() - self._results.keys():
            self._results[cell], self._stages[cell] = other._results[cell], other._stages[cell]
            self.samples.take(cell, other.samples)


def _following(found: Estimate, goal: float, frame: Frame, drawn: int) -> float:
    """How many examples to draw in the next round; 0: none, the error is small enough; inf: more than there are."""
    if found.sem <= goal and not found.heavy:
        return 0.0
    n1 = len(frame.certain)
    pool = n1 - int(frame.certain.sum())
    left = (goal**2 - found.first) * (n1 / pool) ** 2
    if found.first > goal**2:
        return math.inf
    planned = 1 / (left / found.residual + 1 / pool) if found.residual > 0 else 0.0
    return max(1.5 * drawn, min(_MARGIN * planned, 4.0 * drawn), 2.0 * drawn if found.heavy else 0.0)


def _unexplained(values: Array, by: Array) -> float:
    """The variance of values that a regression on others leaves."""
    both = np.cov(values, by)
    return float(both[0, 0] - (both[0, 1] ** 2 / both[1, 1] if both[1, 1] > 0 else 0.0))
