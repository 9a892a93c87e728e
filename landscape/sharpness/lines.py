"""Flatness numbers from measured surfaces: how wide the basin is, and how curved at the origin.

Both are along filter-normalised random directions (Li et al., NeurIPS 2018), so that they compare networks whose
weights differ in scale; a single direction says little, so several are measured and their spread is part of the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from landscape import directions
from landscape.grid import Grid1D
from landscape.problem import Problem
from landscape.provenance import digest_model
from landscape.results import Array, Surface
from landscape.surface import evaluate

_RADIUS = 0.25
_ENOUGH = 5


class Measure(NamedTuple):
    """A flatness number: its mean over directions and the 95 % t-interval of that mean.

    With fewer than five directions there is no interval (NaN): it would say nothing. Where the line of a direction
    ended before the rise was reached, it counts as ``censored``, and the value is a lower bound.
    """

    name: str
    value: float
    low: float
    high: float
    definition: str
    censored: int
    n: int

    def __str__(self) -> str:
        interval = f" ({self.low:.3g} to {self.high:.3g})" if np.isfinite(self.low) else ""
        bound = f"; at least: {self.censored} of the lines ended before" if self.censored else ""
        return f"{self.name}: {self.value:.3g}{interval}, {self.n} directions{bound}"


class Widths(NamedTuple):
    """Basin width along each direction ``[n]``, and whether the grid ended before the rise was reached."""

    width: Array
    censored: np.ndarray


def basin_widths(surface: Surface, term: str, rise: float) -> Widths:
    """How far along each direction the loss stays within ``rise`` of the loss at the origin.

    The first crossing on either side, linear between the points of the grid. Where a side ends without a crossing
    (the last point of the grid, or a cell that is not finite, which counts as above), the end is taken: the width is
    then a lower bound, and ``censored`` says so.

    Args:
        surface: A line, a bundle of lines, or a plane (its two axes through the origin are the directions).
        term: A term to be low, such as a loss.
        rise: In the units of the term, above 0.

    Returns:
        Widths in units of the direction (filter norms).

    Raises:
        ValueError: ``rise`` is not positive, or the surface has no point at the origin or is not complete.
        KeyError: The surface has no such term.
    """
    if not rise > 0:
        raise ValueError(f"rise must be above 0. Got {rise}.")
    along = lines(surface, term)
    level = surface.origin[term][0] + rise
    found = [(_reach(x, values, level), _reach(-x[::-1], values[::-1], level)) for x, values in along]
    width = [right[0] + left[0] for right, left in found]
    return Widths(np.array(width), np.array([right[1] or left[1] for right, left in found]))


def curvatures(surface: Surface, term: str, radius: float = _RADIUS) -> Array:
    """Second derivative of the term at the origin along each direction ``[n]``.

    From a least-squares parabola through the points within ``radius`` of the origin, or through the origin and its
    two neighbours where the grid is coarser than that.

    Args:
        surface: As for `basin_widths`.
        term: Name of the term.
        radius: In units of the direction.

    Raises:
        ValueError: The origin has no neighbour on one side, or a point of the fit is not finite.
        KeyError: The surface has no such term.
    """
    found = []
    for x, values in lines(surface, term):
        zero = _zero(x, "the line")
        if zero in (0, len(x) - 1):
            raise ValueError(f"the line must go on to both sides of the origin. Got {x[0]:g} to {x[-1]:g}.")
        near = np.abs(x) <= max(radius, x[zero] - x[zero - 1], x[zero + 1] - x[zero])
        if not np.isfinite(values[near]).all():
            raise ValueError(f"{term!r} must be finite within {radius} of the origin. Got a point that is not.")
        found.append(2 * np.polynomial.Polynomial.fit(x[near], values[near], 2).convert().coef[2])
    return np.array(found)


def summary(
    problem: Problem,
    surface: Surface | None = None,
    *,
    term: str | None = None,
    rises: Sequence[float] = (0.1, 1.0),
    n_directions: int = 10,
    seed: int = 0,
) -> list[Measure]:
    """Flatness numbers of a problem's minimum, each with the 95 % interval of its mean over directions.

    Args:
        problem: What is measured where no surface is given.
        surface: A measured surface of the problem; by default ``n_directions`` random filter-normalised lines of 41
            points from -1 to 1 are evaluated.
        term: Which term; the first by default.
        rises: Of the basin widths.
        n_directions: Of the lines that are evaluated here.
        seed: Of their directions.

    Raises:
        ValueError: The surface is of other weights than the problem's; see `basin_widths` and `curvatures` too.
    """
    if surface is None:
        drawn = directions.random(problem.model, n=n_directions, seed=seed)
        surface = evaluate(problem, drawn, Grid1D(x=(-1, 1, 41)), label="flatness")
    elif surface.attrs.get("checkpoint_sha256") != digest_model(problem.model):
        raise ValueError("surface must be of the problem's weights. Got one of others: measure it again.")
    term = surface.terms[0] if term is None else term
    table = []
    for rise in rises:
        widths = basin_widths(surface, term, rise)
        meaning = f"width of the basin in which {term} stays within {rise:g} of the origin, in units of the direction"
        table.append(_over_directions(f"width at +{rise:g}", widths.width, meaning, int(widths.censored.sum())))
    meaning = f"second derivative of {term} at the origin, from a parabola through the points within {_RADIUS:g} of it"
    table.append(_over_directions("curvature", curvatures(surface, term), meaning))
    return table


def lines(surface: Surface, term: str) -> list[tuple[Array, Array]]:
    """``(coordinates, values)`` of every line through the origin that a surface holds.

    Raises:
        ValueError: A cell is pending, or no point of the grid lies at the origin.
    """
    if not surface.complete:
        raise ValueError("surface must be complete. Got pending cells: evaluate it again to resume.")
    if surface.path is not None:
        raise ValueError("surface must be of straight lines. Got a path. Draw its curves instead.")
    values = surface.values(term)
    zero = [_zero(surface.x, "x")]
    if surface.y is not None:
        zero.append(_zero(surface.y, "y"))
        return [(surface.x, values[zero[1]]), (surface.y, values[:, zero[0]])]
    return [(surface.x, row) for row in np.atleast_2d(values)]


def _zero(axis: Array, name: str) -> int:
    at = np.flatnonzero(axis == 0)
    if not at.size:
        raise ValueError(f"{name} must have a point at the origin. Got {axis[0]:g} to {axis[-1]:g} without 0.")
    return int(at[0])


def _reach(x: Array, values: Array, level: float) -> tuple[float, bool]:
    """How far to the right of the origin ``values`` stays below ``level``, and whether the grid ended first."""
    start = _zero(x, "the line")
    for i in range(start + 1, len(x)):
        if not np.isfinite(values[i]):
            return float(x[i - 1]), True
        if values[i] >= level:
            step = (level - values[i - 1]) / (values[i] - values[i - 1])
            return float(x[i - 1] + step * (x[i] - x[i - 1])), False
    return float(x[-1]), True


def _over_directions(name: str, values: Array, definition: str, censored: int = 0) -> Measure:
    n, mean = len(values), float(values.mean())
    half = special.stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n) if n >= _ENOUGH else np.nan
    return Measure(name, mean, float(mean - half), float(mean + half), definition, censored, n)
