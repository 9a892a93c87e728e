"""Expected sharpness: how far random noise raises the loss, on average."""

from __future__ import annotations

import numpy as np

from landscape.results import Array, Surface
from landscape.sharpness import centres
from landscape.sharpness.lines import invariance, lines
from landscape.sharpness.measure import Definition, Measure


def rises(surface: Surface, term: str, size: float) -> Array:
    """How far steps of ``size`` along each direction raise the term, ``[n]``: (L(w + e) + L(w - e)) / 2 - L(w).

    Both signs together are free of the slope at ``w``.

    Args:
        surface: As for `basin_widths`.
        term: Name of the term.
        size: In units of the direction, above 0; a coordinate of the grid.

    Raises:
        ValueError: ``size`` is not positive, or no point of the grid on both sides of the origin.
        KeyError: The surface has no such term.
    """
    if not size > 0:
        raise ValueError(f"size must be above 0. Got {size}.")
    found = []
    for x, values in lines(surface, term):
        ends = [values[np.isclose(x, at, rtol=1e-9, atol=0)] for at in (-size, size)]
        if not all(end.size for end in ends):
            raise ValueError(
                f"the grid must have points at -{size:g} and {size:g}. Got none there: {x[0]:g} to {x[-1]:g}."
            )
        found.append(float(ends[0][0] + ends[1][0]) / 2 - surface.origin[term][0])
    return np.array(found)


def expected(surface: Surface, term: str, size: float) -> Measure:
    """The mean of `rises` over the directions.

    Raises:
        ValueError, KeyError: As `rises`; or the term is not finite there.
    """
    found = rises(surface, term, size)
    if not np.isfinite(found).all():
        raise ValueError(f"{term!r} must be finite at -{size:g} and {size:g}. Got a point that is not.")
    return centres.mean(defined(surface, size), found)


def defined(surface: Surface, size: float) -> Definition:
    """What `expected` gives for such a surface."""
    return Definition(
        key=f"noise-{size:g}",
        name=f"expected sharpness at {size:g}",
        text=f"rise of the loss under Gaussian noise as long as {size:g} {surface.unit}, of both signs: mean over the "
        "draws",
        source="Neyshabur et al. 2017, section 2.4; noise: Li et al. 2018, section 4",
        flatter="small",
        invariant=invariance(surface),
    )
