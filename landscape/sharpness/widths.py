"""How wide the basin is: how far along each direction the loss stays low.

Along filter-normalised random directions (Li et al., "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018),
so that networks whose weights differ in scale can be compared. A single direction says little, so several are measured,
and their spread is part of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from landscape.results import Array, Surface
from landscape.sharpness import centres
from landscape.sharpness.lines import at_zero, invariance, lines
from landscape.sharpness.measure import Definition, Measure

_COARSE = 0.02
"""Share of a width that two interpolations may differ by without a word."""


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
    return _widths(surface, term, rise, _linear)


def width(surface: Surface, term: str, rise: float) -> Measure:
    """The median over the directions of `basin_widths`, crossings taken from parabolas.

    A parabola runs through the two points of the grid before a crossing and the one after it: it crosses once between
    them, and is exact for a quadratic bowl, where a straight line always falls short. Where both differ by more than
    2 % of the width (medians over the directions), the grid is coarse for this basin, and the note says so.

    Raises:
        ValueError, KeyError: As `basin_widths`.
    """
    found, straight = _widths(surface, term, rise, _parabolic), _widths(surface, term, rise, _linear)
    typical = float(np.median(found.width))  # 0 where the loss is not finite all around
    apart = float(np.median(np.abs(found.width - straight.width))) / typical if typical else 0.0
    note = f"a coarse grid: straight lines give {apart:.0%} else" if apart > _COARSE else ""
    return centres.median(defined(surface, rise), found.width, found.censored, note)


def defined(surface: Surface, rise: float) -> Definition:
    """What `width` gives for such a surface."""
    return Definition(
        key=f"width-{rise:g}",
        name=f"basin width at +{rise:g}",
        text=f"how far along a random direction, both sides added, the loss stays within {rise:g} of the loss at the "
        f"minimum, in {surface.unit}: median over the directions",
        source="directions: Li et al. 2018, section 4",
        flatter="large",
        invariant=invariance(surface),
    )


Crossing = Callable[[Array, Array, int, float], float]
"""``crossing(x, values, i, level)``: where the values reach the level, between the points i - 1 and i."""


def _widths(surface: Surface, term: str, rise: float, crossing: Crossing) -> Widths:
    if not rise > 0:
        raise ValueError(f"rise must be above 0. Got {rise}.")
    along = lines(surface, term)
    level = surface.origin[term][0] + rise
    found = [
        (_reach(x, values, level, crossing), _reach(-x[::-1], values[::-1], level, crossing)) for x, values in along
    ]
    total = [right[0] + left[0] for right, left in found]
    return Widths(np.array(total), np.array([right[1] or left[1] for right, left in found]))


def _reach(x: Array, values: Array, level: float, crossing: Crossing) -> tuple[float, bool]:
    """How far to the right of the origin ``values`` stays below ``level``, and whether the grid ended first."""
    start = at_zero(x, "the line")
    for i in range(start + 1, len(x)):
        if not np.isfinite(values[i]):
            return float(x[i - 1]), True
        if values[i] >= level:
            return crossing(x, values, i, level), False
    return float(x[-1]), True


def _linear(x: Array, values: Array, i: int, level: float) -> float:
    step = (level - values[i - 1]) / (values[i] - values[i - 1])
    return float(x[i - 1] + step * (x[i] - x[i - 1]))


def _parabolic(x: Array, values: Array, i: int, level: float) -> float:
    """Below the level at i - 1 and above it at i, a parabola through both crosses once between them."""
    if i < 2 or not np.isfinite(values[i - 2]):
        return _linear(x, values, i, level)
    a, b, c = x[i - 2 : i + 1]
    first = (values[i] - values[i - 1]) / (c - b)
    bend = (first - (values[i - 1] - values[i - 2]) / (b - a)) / (c - a)
    # level = values[i - 1] + slope t + bend t^2, with t = 0 at b and t = c - b at c
    slope, gap = first - bend * (c - b), level - values[i - 1]
    root = np.sqrt(max(slope * slope + 4 * bend * gap, 0.0))
    t = 2 * gap / (slope + root) if slope + root > 0 else c - b
    return float(b + min(max(t, 0.0), c - b))
