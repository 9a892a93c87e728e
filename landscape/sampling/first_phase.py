"""The first phase: which anchors, and for how many examples they must be known."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from landscape.results import Array
from landscape.sampling.allocation import second_phase, two_phase
from landscape.sampling.estimate import Estimate, Frame, Origin, estimate, skew
from landscape.sampling.order import spread
from landscape.sampling.predictors import Anchors
from landscape.sampling.samples import Positions, Samples
from landscape.sampling.setup import PILOT_EXAMPLES, Setup

_START = 256
"""Examples of the first phase that the choice of the anchors rests on."""

_NEARLY = 0.7
"""A sample of more than this share of the examples is made one of all."""

_COCHRAN = 25
"""n > 25 G^2, with G the skewness, for a normal interval that misses at most one per cent more often than it says
(Cochran, 2.15)."""


class Step(NamedTuple):
    """Where the first phase is.

    Attributes:
        name: ``"origin"``, ``"pilot"``, ``"anchors"`` or ``"done"``.
        level: Anchors along an axis that are being tried, or are chosen; 0: none.
        first: n1.
        costs: Expected number of evaluations, by the levels tried so far, the first without anchors.
    """

    name: str = "origin"
    level: int = 0
    first: int = 0
    costs: tuple[float, ...] = ()


class FirstPhase:
    """Asks for the origin, pilot samples and anchors, and chooses by the variances that it finds.

    The origin is evaluated for all examples. Levels of anchors are tried from coarse to fine on a small sample, while
    the expected cost falls; then n1 is allocated, and again with what the anchors show, until it is enough.
    """

    def __init__(self, setup: Setup, samples: Samples, step: Step = Step()) -> None:  # noqa: B008
        self.setup, self.samples, self.step = setup, samples, step
        self._anchors = lru_cache(maxsize=2)(self._make_anchors)
        self._ratios: list[float] | None = None
        self._piloted: dict[tuple[int, int, int], list[Estimate | None]] = {}

    @property
    def done(self) -> bool:
        """Whether cells can be estimated."""
        return self.step.name == "done"

    def wanted(self) -> list[tuple[int, Positions]]:
        """What the present step needs: cells, and the positions to evaluate there."""
        name, level, first, _ = self.step
        anchors = self.setup.grid_of(level).ravel().tolist() if level else []
        if name == "origin":
            return [(self.setup.origin, np.arange(self.setup.population))]
        if name == "pilot":
            few = np.arange(min(PILOT_EXAMPLES, first))
            return [(cell, np.arange(first)) for cell in anchors] + [(cell, few) for cell in self.setup.pilots]
        return [(cell, np.arange(first)) for cell in anchors] if name == "anchors" else []

    def missing(self) -> list[tuple[int, Positions]]:
        """What of it has not been evaluated; steps on where there is nothing."""
        while not self.done:
            found = [(cell, self.samples.missing(cell, positions)) for cell, positions in self.wanted()]
            found = [(cell, positions) for cell, positions in found if len(positions)]
            if found:
                return found
            self._advance()
        return []

    def _advance(self) -> None:
        name, level, first, costs = self.step
        if name == "origin":
            start = min(self.setup.population, max(_START, 2 * PILOT_EXAMPLES))
            self._refuse_origin()
            self.step = Step("pilot", 0, start) if self.setup.levels else Step("done")
        elif name == "pilot":
            cost, planned = self._plan(level, first)
            levels, costs = (0, *self.setup.levels), (*costs, cost)
            at = len(costs) - 1
            if at + 1 < len(levels) and (at == 0 or self.setup.anchors is not None or cost < costs[-2] or at == 1):
                self.step = Step("pilot", levels[at + 1], first, costs)
                return
            best = levels[int(np.argmin(costs))] if self.setup.anchors is None else self.setup.anchors
            if best == 0:
                self.step = Step("done", 0, 0, costs)
                return
            if best != level:
                planned = self._plan(best, first)[1]
            self.step = Step("anchors", best, max(first, planned), costs)
        else:
            enough = max(self._plan(level, first)[1], self._for_tails(level, first))
            grown = first if enough <= 1.2 * first else self._rounded(max(enough, first))
            self.step = self.step._replace(name="done") if grown == first else self.step._replace(first=grown)

    def _refuse_origin(self) -> None:
        for term, values in zip(self.setup.terms, self.origin(self.setup.population), strict=True):
            if not np.isfinite(values).all():
                raise ValueError(f"term {term!r} must be finite at the origin, for each example. Got {values.mean()}.")

    def origin(self, first: int) -> Array:
        """``[terms, first]``: the losses at the origin."""
        return self.samples.get(self.setup.origin, np.arange(first))

    def anchors(self, level: int, first: int) -> list[Anchors]:
        """Of each term."""
        return self._anchors(level, first)

    def _make_anchors(self, level: int, first: int) -> list[Anchors]:
        grid, positions = self.setup.grid_of(level), np.arange(first)
        lines = tuple(axis[i] for axis, i in zip(self.setup.axes, self.setup.lines(level), strict=True))
        values = np.stack([self.samples.get(cell, positions) for cell in grid.ravel().tolist()], axis=1)
        return [Anchors(lines, of_term.reshape(*grid.shape, first)) for of_term in values]

    def frames(self, cell: int, level: int, first: int) -> list[Frame]:
        """Of each term, for a cell of which no example is certain but those without a finite predictor."""
        setup, origins = self.setup, self.origin(self.setup.population)
        nobody, nothing = np.zeros(first, bool), np.empty(0, np.int64)
        known = [Origin(values[:first], float(values.mean())) for values in origins]
        labels = None if setup.labels is None else setup.labels[:first]
        if not level:
            return [
                Frame(
                    setup.population,
                    start.values[:, None],
                    nobody,
                    nothing,
                    None,
                    start,
                    labels,
                    is_binary(start.values),
                )
                for start in known
            ]
        found = []
        for anchors, start in zip(self.anchors(level, first), known, strict=True):
            columns, size = anchors.at(setup.point(cell))
            unknown = ~np.isfinite(size)
            columns = np.where(unknown[:, None], 0.0, columns)
            found.append(Frame(setup.population, columns, unknown, nothing, size, start, labels, anchors.binary))
        return found

    def ratios(self) -> list[float]:
        """For each term, the variance of residuals over the mean square of their expected sizes, at the pilots."""
        if self._ratios is None:
            _, level, first, _ = self.step
            found = [[1.0] for _ in self.setup.terms]
            for cell in self.setup.pilots:
                frames = self.frames(cell, level, first)
                for into, frame, got in zip(found, frames, self._pilot(cell, level, first), strict=True):
                    square = float(np.square(frame.size[~frame.certain]).mean()) if frame.size is not None else 0.0
                    if got is not None and square > 0 and got.residual > 0:
                        into.append(got.residual / square)
            self._ratios = [float(np.median(of[1:] or of)) for of in found]
        return self._ratios

    def _pilot(self, cell: int, level: int, first: int) -> list[Estimate | None]:
        """What the first examples of a pilot cell show of each term; None where losses are not finite."""
        key = (cell, level, first)
        if key not in self._piloted:
            self._piloted[key] = self._estimated(cell, self.frames(cell, level, first))
        return self._piloted[key]

    def _estimated(self, cell: int, frames: list[Frame]) -> list[Estimate | None]:
        few = np.arange(min(PILOT_EXAMPLES, len(frames[0].certain)))
        losses = self.samples.get(cell, few)
        found: list[Estimate | None] = []
        for frame, values in zip(frames, losses, strict=True):
            drawn = few[~frame.certain[few]]
            nobody = frame._replace(certain=np.zeros(len(frame.certain), bool), sampled=drawn)
            usable = len(drawn) >= len(few) / 2 and np.isfinite(values[drawn]).all()
            found.append(estimate(nobody, np.empty(0), values[drawn]) if usable else None)
        return found

    def _plan(self, level: int, first: int) -> tuple[float, int]:
        """The expected number of evaluations with the anchors of a level, and the n1 that it takes."""
        setup, n = self.setup, self.setup.population
        anchors = len(self.setup.grid_of(level).ravel()) if level else 0
        needs: list[list[tuple[float, float, float]]] = []
        plain: list[float] = []
        for cell in setup.pilots:
            without = self._pilot(cell, 0, n)
            with_anchors = self._pilot(cell, level, first) if level else without
            if any(got is None for got in (*without, *with_anchors)):
                plain.append(n)
                needs.append([])
                continue
            goals = [setup.goal.of(t, got.mean) ** 2 for t, got in zip(setup.terms, without, strict=True) if got]
            plain.append(max(_plain(got.residual, goal, n) for got, goal in zip(without, goals, strict=True) if got))
            if level:
                pairs = zip(with_anchors, goals, strict=True)
                needs.append([(max(g.total, g.residual), g.residual, goal) for g, goal in pairs if g])
        cells = setup.cells
        if not plain:
            return cells * float(n), n
        if not level:
            return cells * float(np.mean(plain)), 0
        sizes = {first, n} if first < _NEARLY * n else {n}
        if first < n:
            for total, residual, goal in [need for of_cell in needs for need in of_cell]:
                n1, _ = two_phase(total, residual, goal, n, first_cost=anchors, second_cost=cells)
                sizes.add(self._rounded(max(first, n1)))
        costs = {}
        for n1 in sorted(sizes):
            each = []
            for of_cell, alone in zip(needs, plain, strict=True):
                m = max((second_phase(t, r, goal, n, n1) for t, r, goal in of_cell), default=math.inf)
                each.append(min(max(m, PILOT_EXAMPLES / 2) if m <= n1 else math.inf, alone))
            costs[n1] = anchors * n1 + (cells - anchors) * float(np.mean(each))
        best = min(costs, key=lambda n1: (costs[n1], n1))
        return costs[best], best

    def _rounded(self, n: float) -> int:
        return self.setup.population if n > _NEARLY * self.setup.population else math.ceil(n)

    def _for_tails(self, level: int, first: int) -> int:
        """How many examples the skewness of the losses at the anchors asks for, as far as it can be seen."""
        n = self.setup.population
        if first >= n:
            return n
        worst = 0.0
        origins, everywhere = self.origin(first), self.origin(n)
        for t in range(len(self.setup.terms)):
            worst = max(worst, abs(skew(everywhere[t])))
            start, free = origins[t], spread(origins[t])
            for cell in self.setup.grid_of(level).ravel().tolist():
                values = self.samples.get(cell, np.arange(first))[t]
                if not np.isfinite(values).all():
                    continue
                if free > 0:
                    values = values - np.cov(start, values)[0, 1] / free * start
                worst = max(worst, abs(skew(values)))
        return n if _COCHRAN * worst**2 > first * 4 else math.ceil(_COCHRAN * worst**2)


def is_binary(values: Array) -> bool:
    """Whether each is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def _plain(variance: float, goal: float, population: int) -> float:
    return population * variance / (variance + population * goal) if variance + goal > 0 else 1.0
