"""How much of a plane lies low."""

from __future__ import annotations

import math

import numpy as np

from landscape.results import Array, Surface
from landscape.sharpness.lines import at_zero, invariance
from landscape.sharpness.measure import Definition, Measure

_QUANTILE = 1.96


def low_loss(surface: Surface, term: str, rise: float) -> Measure:
    """The area of a plane in which the loss is at most ``rise`` above that of the minimum.

    Of the function that is linear on triangles, exactly; a cell of the grid has two diagonals, which are both taken, at
    half weight. A point that is not finite counts as above. Where the set touches the border of the grid it may go on
    beyond, and the area is a lower bound.

    A surface that was estimated from samples of the examples gives an interval: the areas with all points higher and
    lower by 1.96 standard errors of their difference from the origin. It is of this plane; others differ by more.

    Raises:
        ValueError: ``rise`` is not positive, or the surface is no complete plane with a point at the origin.
        KeyError: The surface has no such term.
    """
    if not rise > 0:
        raise ValueError(f"rise must be above 0. Got {rise}.")
    if surface.y is None or not surface.complete:
        raise ValueError(f"surface must be a complete plane, for an area. Got {surface!r}.")
    for name, axis in (("x", surface.x), ("y", surface.y)):
        at_zero(axis, name)
    above = surface.values(term) - surface.origin[term][0] - rise
    cells = np.outer(np.diff(surface.y), np.diff(surface.x))
    value, low, high = float((cells * _share(above)).sum()), math.nan, math.nan
    if surface.sampled is not None:
        error = _QUANTILE * surface.sampled.sem_diff[term]
        low, high = (float((cells * _share(above + shift)).sum()) for shift in (error, -error))
    edges = (above[0], above[-1], above[:, 0], above[:, -1])
    touches = any(bool((edge <= 0).any()) for edge in edges)
    note = f"{value / cells.sum():.0%} of the plane" + (", up to its border" if touches else "")
    return Measure(_defined(surface, rise), value, low, high, np.array([value]), note=note, at_least=touches)


def _defined(surface: Surface, rise: float) -> Definition:
    return Definition(
        key=f"area-{rise:g}",
        name=f"area of the low-loss set at +{rise:g}",
        text=f"area of the plane in which the loss is at most {rise:g} above that of the minimum, in squared "
        f"{surface.unit}",
        source="plane: Li et al. 2018, section 4",
        flatter="large",
        invariant=invariance(surface),
    )


def _share(above: Array) -> Array:
    """Which share of each cell ``[ny - 1, nx - 1]`` of a grid ``[ny, nx]`` is not above 0."""
    a, b, c, d = above[:-1, :-1], above[:-1, 1:], above[1:, :-1], above[1:, 1:]
    triangles = ((a, b, c), (d, b, c), (b, a, d), (c, a, d))  # cut along b c, then along a d
    return np.mean([_of_triangle(np.stack(corners)) for corners in triangles], axis=0)


def _of_triangle(corners: Array) -> Array:
    """Which share of a triangle a linear function with these corners ``[3, ...]`` is not above 0."""
    low, middle, high = np.sort(np.where(np.isfinite(corners), corners, math.inf), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        tip = low / (low - middle) * (low / (low - high))  # cut off at the low corner
        rest = 1 - high / (high - middle) * (high / (high - low))  # all but what is cut off at the high one
    tip, rest = (np.where(np.isnan(part), 0.0, part) for part in (tip, rest))
    return np.select([low > 0, high <= 0, middle > 0], [0.0, 1.0, tip], rest)
