"""What the numbers of one minimum are taken from, each made when it is first needed."""

from __future__ import annotations

from functools import cached_property

from landscape import directions
from landscape.derivatives import Derivatives
from landscape.grid import Grid1D
from landscape.problem import Problem
from landscape.results import Surface
from landscape.sharpness.settings import Settings
from landscape.surface import evaluate


class Source:
    """A minimum, and how it is measured.

    Args:
        problem: Model, objective and data.
        term: Which of the objective's terms.
        settings: At what.
        seed: Of all that is drawn.
        n_directions: Of the lines that are evaluated.
        surface: One that was measured already, whose lines are taken instead.
    """

    def __init__(
        self, problem: Problem, term: str, settings: Settings, seed: int, n_directions: int, surface: Surface | None
    ) -> None:
        self.problem, self.term, self.settings, self.seed = problem, term, settings, seed
        self._n_directions, self.surface = n_directions, surface

    @cached_property
    def lines(self) -> Surface:
        """The surface that was given, or random filter-normalised lines of 41 points from -1 to 1."""
        if self.surface is not None:
            return self.surface
        drawn = directions.random(self.problem.model, n=self._n_directions, seed=self.seed)
        return evaluate(self.problem, drawn, Grid1D(x=(-1, 1, 41)), label="flatness: lines")

    @cached_property
    def derivatives(self) -> Derivatives:
        """Of the term over all the examples.

        Raises:
            ValueError: There are none: see `Derivatives`.
        """
        return Derivatives(self.problem, self.term)
