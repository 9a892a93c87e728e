"""A cell after the first phase: sampled in rounds until its error is small enough, whatever other cells do."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from landscape.results import Array
from landscape.sampling.allocation import certainty
from landscape.sampling.estimate import Estimate, Frame, estimate, exact, widened
from landscape.sampling.first_phase import FirstPhase
from landscape.sampling.samples import Positions, Samples
from landscape.sampling.setup import Setup

LEAST = 48
"""Fewer examples than these are not drawn: their variance says too little."""

RESERVE = 0.05
"""Of the wanted error, what is set aside in every estimate from a sample for what no drawn example shows: a variance
far below the one that is wanted has been seen on too few examples to be believed."""

_MARGIN = 1.15
"""How many more examples than planned are asked for, so that the first look is mostly the last one."""

_NEARLY = 0.8
"""A cell that needs more than this share of all examples gets all of them."""

ANCHORS, ORIGIN, ALL = "anchors", "origin", "all"
"""What a cell's estimate rests on: predictors from anchors; the origin's losses as the only one; every example."""

BASES = (ANCHORS, ORIGIN, ALL)


class Stage(NamedTuple):
    """Where a cell is: what its estimate rests on, and how many examples are drawn for it; 0: not planned yet."""

    basis: str = ANCHORS
    drawn: int = 0
    looks: int = 0


class SecondPhase:
    """Says which examples of a cell to evaluate next, and estimates its terms once they are enough.

    Args:
        setup: What is sampled.
        samples: What has been evaluated so far.
        first_phase: Past its end before any cell is asked for.
        keep: Whether the losses of finished cells are kept.
    """

    def __init__(self, setup: Setup, samples: Samples, first_phase: FirstPhase, keep: bool) -> None:
        self.setup, self.samples, self.first_phase, self.keep = setup, samples, first_phase, keep
        self.stages: dict[int, Stage] = {}
        self.results: dict[int, list[Estimate]] = {}
        self._planned = 0
        self._frames: tuple[int, list[Frame]] | None = None

    def missing(self, cell: int) -> Positions | None:
        """What a cell needs next; None once it has its estimate."""
        while cell not in self.results:
            stage = self.stages.get(cell)
            if stage is None:
                stage = self.stages[cell] = self._first_stage(cell)
            missing = self.samples.missing(cell, self._positions(cell, stage))
            if len(missing):
                return missing
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

    def _first_stage(self, cell: int) -> Stage:
        level, first = self.first_phase.step.level, self.first_phase.step.first
        if cell == self.setup.origin:
            return Stage(ALL)
        if not level:
            return Stage(ORIGIN, min(LEAST, self.setup.population))
        if cell in self.setup.grid_of(level):
            return Stage(ALL) if first == self.setup.population else Stage(ORIGIN, first)
        self._base(cell, ANCHORS)
        if not self._planned:
            return Stage(ORIGIN, min(LEAST, self.setup.population))
        return self._limited(cell, Stage(ANCHORS, self._planned))

    def _limited(self, cell: int, stage: Stage) -> Stage:
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

    def _positions(self, cell: int, stage: Stage) -> Positions:
        if stage.basis == ALL:
            return np.arange(self.setup.population)
        certain = self._base(cell, stage.basis)[0].certain
        drawn = np.flatnonzero(~certain)[: stage.drawn]
        return np.concatenate([np.flatnonzero(certain), drawn])

    def _look(self, cell: int, stage: Stage) -> None:
        """Estimate each term of a cell, and end it or plan its next round."""
        if stage.basis == ALL:
            self._finish(cell, self._exact(cell))
            return
        frames = self._base(cell, stage.basis)
        pool = np.flatnonzero(~frames[0].certain)
        sampled = pool[: stage.drawn]  # no more, whatever else is there: examples that were chosen are no random draw
        certain = self.samples.get(cell, np.flatnonzero(frames[0].certain))
        drawn = self.samples.get(cell, sampled)
        found, following = [], 0.0
        for t, (frame, term) in enumerate(zip(frames, self.setup.terms, strict=True)):
            values = np.concatenate([certain[t], drawn[t]])
            if np.isnan(values).any():
                found.append(exact(values))  # so is the mean of all
                continue
            if not np.isfinite(values).all():
                self.stages[cell] = Stage(ALL)  # whether it is an infinity or NaN is for the others to say
                return
            now = estimate(frame._replace(sampled=sampled), certain[t], drawn[t])
            goal = self.setup.goal.of(term, now.mean)
            found.append(widened(now, RESERVE * goal))
            following = max(following, _following(now, math.sqrt(1 - RESERVE**2) * goal, frame, len(sampled)))
        if not following:
            self._finish(cell, found)
        elif math.isinf(following):
            self.stages[cell] = self._limited(cell, Stage(ORIGIN, certain.shape[1] + len(sampled), stage.looks + 1))
        else:
            self.stages[cell] = self._limited(cell, Stage(stage.basis, math.ceil(following), stage.looks + 1))

    def _exact(self, cell: int) -> list[Estimate]:
        everything = np.arange(self.setup.population)
        losses, origins = self.samples.get(cell, everything), self.first_phase.origin(self.setup.population)
        return [exact(values, origin) for values, origin in zip(losses, origins, strict=True)]

    def _finish(self, cell: int, found: list[Estimate]) -> None:
        self.results[cell] = found
        level = self.first_phase.step.level
        shared = cell == self.setup.origin or (level and cell in self.setup.grid_of(level)) or cell in self.setup.pilots
        if not (self.keep or shared):
            self.samples.drop(cell)


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
