"""A term along paths between two networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plot._axis import coordinate_label, is_wide
from landscape.plot._canvas import Given, canvas
from landscape.plot._caption import exactness, mean_label, surfaces_said
from landscape.plot._edge import mark_edge
from landscape.plot._names import short, visible
from landscape.plot._style import BAND_ALPHA, MISSING_COLOR, WIDTH, Look, looks, tidy, width
from landscape.plot._surfaces import check_term, measured
from landscape.results import Array, Surface

_MARKERS = 12
"""About how many a line has, to tell it from others."""
_ROUNDING = 1e-9
"""How far from 0 and 1 a point of a grid may be for one of the networks."""


class _Barrier(NamedTuple):
    """Where a path is highest above the chord of its ends; whether all of its points are known."""

    at: float
    chord: float
    top: float
    whole: bool

    @property
    def height(self) -> float:
        return self.top - self.chord


def connectivity(surfaces: Surface | Mapping[str, Surface], *, term: str, ax: Given = None) -> Figure:
    """Mean of a term along each path from one network to another, with the 95 % interval of its means.

    A path is one that was measured as such (a curve of `landscape.connectivity.bezier`) or a straight line (of
    `landscape.directions.interpolation`), of which 0 to 1 is between the networks. The arrow is the barrier: the most
    that a path rises above the straight line between the values at its two ends (Entezari et al. 2022,
    arXiv 2110.06296), over the points that were measured; it is said in the legend too. A path that nowhere rises above
    that line has none. None is known of one with an end missing, of a line without points at 0 and 1, and of one along
    directions that are known to lead to no other network. A point that is pending or not finite is left open
    and marked by a cross at the upper edge. The vertical axis is logarithmic where the means span a factor of 30 or
    more.

    Args:
        surfaces: One path, or 1 to 6 by name.
        term: Which term.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: There are none or more than 6, or one is not a single path or lacks the term.
    """
    named = {"": surfaces} if isinstance(surfaces, Surface) else dict(surfaces)
    of_name = looks(named)
    for name, surface in named.items():
        if surface.dims != ("x",):
            raise ValueError(f"expected single paths or lines. Got dims {surface.dims} for {name!r}.")
        check_term(name, surface, term)
    on = canvas(ax, size=(width(WIDTH), max(2.5, 0.55 * width(WIDTH))))
    (panel,) = on.axes
    barriers = {name: _barrier(surface, measured(surface, term)) for name, surface in named.items()}
    for name, surface in named.items():
        _draw(panel, name, surface, term, of_name[name], barriers[name])
    if is_wide(np.concatenate([measured(surface, term) for surface in named.values()])):
        panel.set_yscale("log")
    for name, barrier in barriers.items():
        _mark_barrier(panel, barrier, of_name[name])
    on.label_x(_position(list(named.values())))
    on.label_y(mean_label(term, named.values()))
    tidy(panel)
    on.legend()
    said = surfaces_said(term, {name: [one] for name, one in named.items()})
    heights = "; ".join(": ".join(filter(None, (name, _said(barrier)))) for name, barrier in barriers.items())
    note = "Band: 95 % interval of each mean. Barrier: height above the straight line between the values at both ends."
    return on.finish(f"{said} Along the paths: {heights}.", " ".join(filter(None, (note, exactness(named.values())))))


def _position(surfaces: Sequence[Surface]) -> str:
    """Name of the horizontal axis."""
    if any(surface.path is not None for surface in surfaces):
        return "position along the path"
    linked = all(map(_leads_to_a_network, surfaces))
    return "position between the networks" if linked else coordinate_label("x", surfaces[0])


def _barrier(surface: Surface, values: Array) -> _Barrier | str:
    """The highest point above the chord; where it is not known, why."""
    x = surface.x
    if surface.path is None:
        if not _leads_to_a_network(surface):
            return "the line is no interpolation of two networks"
        ends = [int(np.argmin(np.abs(x - end))) for end in (0.0, 1.0)]
        if not np.allclose(x[ends], (0.0, 1.0), rtol=0, atol=_ROUNDING):
            return "0 and 1 are not on the grid"
        between = slice(min(ends), max(ends) + 1)
        x, values = x[between], values[between]
    if len(x) < 2 or not np.isfinite(values[[0, -1]]).all():
        return "an end is missing"
    chord = values[0] + (values[-1] - values[0]) * (x - x[0]) / (x[-1] - x[0])
    top = int(np.nanargmax(values - chord))
    return _Barrier(float(x[top]), float(chord[top]), float(values[top]), bool(np.isfinite(values).all()))


def _leads_to_a_network(surface: Surface) -> bool:
    """Whether the network at 1 is another one, as far as it is known how the direction was made."""
    return surface.directions is None or surface.directions.kind == "interpolation"


def _said(barrier: _Barrier | str) -> str:
    if isinstance(barrier, str):
        return f"barrier not known ({barrier})"
    if barrier.height <= 0:
        return "no barrier" if barrier.whole else "no barrier seen"
    return f"barrier {'' if barrier.whole else 'of at least '}{barrier.height:.3g}"


def _draw(ax: Axes, name: str, surface: Surface, term: str, look: Look, barrier: _Barrier | str) -> None:
    values, half = measured(surface, term), surface.half_width(term)
    label = visible(": ".join(filter(None, (short(name), _said(barrier)))))
    (line,) = ax.plot(surface.x, values, color=look.color, linestyle=look.linestyle, linewidth=1.6, label=label)
    line.set(
        marker=look.marker,
        markersize=3.5,
        markevery=1 if np.isnan(values).any() else max(1, len(surface.x) // _MARKERS),
    )
    ax.fill_between(surface.x, values - half, values + half, color=look.color, alpha=BAND_ALPHA, linewidth=0)
    said = ": ".join(filter(None, (short(name), "pending or not finite")))
    mark_edge(ax, surface.x[np.isnan(values)], look.color, label=said)


def _mark_barrier(ax: Axes, barrier: _Barrier | str, look: Look) -> None:
    if isinstance(barrier, str) or barrier.height <= 0:
        return
    arrow = {"arrowstyle": "<->", "color": look.color, "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (barrier.at, barrier.top), (barrier.at, barrier.chord), arrowprops=arrow)
    ax.plot(barrier.at, barrier.chord, marker="_", color=MISSING_COLOR, markersize=9)
