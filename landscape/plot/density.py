"""How the eigenvalues of a curvature are distributed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator

from landscape.hessian import Density
from landscape.plot._axis import count
from landscape.plot._canvas import Given, canvas
from landscape.plot._names import short, visible
from landscape.plot._style import BAND_ALPHA, MISSING_COLOR, WIDTH, Look, looks, tidy, width

_FINE = 300.0
"""The axis is logarithmic where it reaches so many times as far as the finest density is broadened."""
_TICK = 0.55
"""Inches that a number on a logarithmic axis takes."""
_UNSEEN = 0.1
"""Where the vertical axis ends: so many times the height of a single eigenvalue."""


def density(found: Density | Mapping[str, Density], *, ax: Given = None) -> Figure:
    """Spectral densities with their 95 % bands over the probes, on a logarithmic vertical axis.

    The axis ends a little below the height that one eigenvalue of all has, broadened as the density is: what lies lower
    are tails of the broadening. The legend says how wide that is; peaks narrower than it cannot be seen. The horizontal
    axis is linear, unless the densities differ much in their scale: then it is logarithmic on both sides of zero.

    Args:
        found: What `landscape.hessian.density` returned, or 1 to 6 of them by name.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: There are none, or more than 6.
    """
    named = {"": found} if isinstance(found, Density) else dict(found)
    of_name = looks(named)
    on = canvas(ax, size=(width(WIDTH), max(2.3, 0.5 * width(WIDTH))))
    (panel,) = on.axes
    panel.set_yscale("log", nonpositive="clip")
    for name, one in named.items():
        _draw(panel, name, one, of_name[name])
    panel.axvline(0.0, color=MISSING_COLOR, linewidth=0.8, zorder=0.5)
    _scale(panel, list(named.values()), on.width(panel))
    on.label_x("eigenvalue")
    on.label_y("density")
    tidy(panel)
    on.legend()
    said = "; ".join(
        f"{f'{name}: ' if name else ''}{count(one.size, 'eigenvalue')}, {count(len(one.nodes), 'probe')}, broadened by "
        f"{one.width:.3g}"
        for name, one in named.items()
    )
    return on.finish(f"Spectral density of the {_matrix(named)}; {said}.", "Band: 95 % interval over the probes.")


def _matrix(named: Mapping[str, Density]) -> str:
    kinds = {(str(one.attrs.get("curvature", "curvature")), str(one.attrs.get("term", ""))) for one in named.values()}
    if len(kinds) > 1:
        return "curvature"
    ((kind, term),) = kinds
    return f"{kind} of {term}" if term else kind


def _draw(ax: Axes, name: str, one: Density, look: Look) -> None:
    label = ": ".join(filter(None, (short(name), f"broadened by {one.width:.2g}")))
    ax.plot(one.x, one.density, color=look.color, linestyle=look.linestyle, linewidth=1.2, label=visible(label))
    ax.fill_between(one.x, *one.band, color=look.color, alpha=BAND_ALPHA, linewidth=0)


def _scale(ax: Axes, every: Sequence[Density], inches: float) -> None:
    floor = min(_UNSEEN / (one.size * one.width * np.sqrt(2 * np.pi)) for one in every)
    top = max(float(np.max(one.band[1])) for one in every)
    ax.set_ylim(floor, max(2 * top, 10 * floor))
    threshold = min(one.width for one in every)
    ends = min(float(one.x[0]) for one in every), max(float(one.x[-1]) for one in every)
    if max(map(abs, ends)) > _FINE * threshold:
        ax.set_xscale("symlog", linthresh=threshold)
        locator = ax.xaxis.get_major_locator()
        assert isinstance(locator, SymmetricalLogLocator)
        locator.set_params(numticks=max(3, int(inches / _TICK)))
    ax.set_xlim(*ends)
