"""How curved the loss is along each direction."""

from __future__ import annotations

import numpy as np

from landscape.results import Array, Surface
from landscape.sharpness import centres
from landscape.sharpness.lines import at_zero, invariance, lines
from landscape.sharpness.measure import Definition, Measure

_RADIUS = 0.25


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
        zero = at_zero(x, "the line")
        if zero in (0, len(x) - 1):
            raise ValueError(f"the line must go on to both sides of the origin. Got {x[0]:g} to {x[-1]:g}.")
        near = np.abs(x) <= max(radius, x[zero] - x[zero - 1], x[zero + 1] - x[zero])
        if not np.isfinite(values[near]).all():
            raise ValueError(f"{term!r} must be finite within {radius} of the origin. Got a point that is not.")
        fitted = np.polynomial.Polynomial.fit(x[near], values[near], 2).convert()
        found.append(float(fitted.deriv(2)(0.0)))  # by its coefficients, a term that is 0 all around would have none
    return np.array(found)


def curvature(surface: Surface, term: str) -> Measure:
    """The mean of `curvatures` over the directions.

    Raises:
        ValueError, KeyError: As `curvatures`.
    """
    return centres.mean(defined(surface), curvatures(surface, term))


def defined(surface: Surface) -> Definition:
    """What `curvature` gives for such a surface."""
    return Definition(
        key="curvature",
        name="curvature along directions",
        text="second derivative of the loss at the minimum along a random direction, from a parabola through the "
        f"points within {_RADIUS:g} of it, per squared unit of {surface.unit}: mean over the directions",
        source="directions: Li et al. 2018, section 4",
        flatter="small",
        invariant=invariance(surface),
    )
