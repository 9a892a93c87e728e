"""How exact each cell of a plane is, and how many examples that took."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from landscape.plot._axis import coordinate_label, round_levels
from landscape.plot._canvas import Canvas, Given, canvas
from landscape.plot._caption import exactness, surfaces_said
from landscape.plot._cells import WITHIN, Hatch, edges, hatch, key
from landscape.plot._kept import keep
from landscape.plot._style import width
from landscape.plot._surfaces import measured, plane_y, planes, relative_error
from landscape.plot._text import height, wrapped
from landscape.plot.contour import legend, mark_missing
from landscape.results import PENDING, Array, Surface

_PANEL = 3.6
_COLORS = ("cividis", "viridis")
_TICKS = 4
_UNDEFINED = Hatch("#ffffff", "#7a7a7a", "-----")
_UNKNOWN = WITHIN


def error(surfaces: Surface | Mapping[str, Surface], *, term: str, ax: Given = None) -> Figure:
    """Relative standard error of every cell, in one scale; beside it, of a sampled plane, the examples evaluated.

    Of a sampled plane the error is that of the mean over all its examples, and 0 where all were evaluated; of another
    one, that over the examples. A cell has none where its mean is 0, or where its standard error is not known.

    Args:
        surfaces: One plane, or 1 to 6 by name.
        term: Which term.
        ax: Where to draw, axes for each panel, surface after surface; a new figure if None.

    Raises:
        ValueError: As `contour`.
    """
    named = planes(surfaces, term)
    errors = {name: 100 * relative_error(surface, term) for name, surface in named.items()}
    columns = 1 + any(surface.sampled is not None for surface in named.values())
    inches = width(_PANEL * columns + 0.2)
    panel = min(_PANEL, (inches - 0.2) / columns)
    # Under a panel: numbers and a name of its axis and of its colour bar.
    size = (inches, (panel + height(3) + height(4, "small") + 0.25) * len(named))
    on = canvas(ax, len(named) * columns, size=size, columns=columns)
    top = max((float(np.nanmax(of)) for of in errors.values() if np.isfinite(of).any()), default=1.0)
    for i, (name, surface) in enumerate(named.items()):
        row = on.axes[i * columns : (i + 1) * columns]
        kind = "over the examples" if surface.sampled is None else "of sampling"
        label = f"standard error {kind}, % of {term}"
        _draw(on, row[0], surface, errors[name], Normalize(0, top or 1.0), _COLORS[0], label)
        for cells, look in zip(_without(surface, term), (_UNDEFINED, _UNKNOWN), strict=True):
            hatch(row[0], edges(surface.x), edges(plane_y(surface)), cells, look)
        mark_missing(row[0], surface, measured(surface, term))
        if surface.sampled is not None:
            counts = np.where(surface.status == PENDING, np.nan, surface.sampled.n_examples.astype(float))
            low, high = max(1.0, float(np.nanmin(counts))), float(np.nanmax(counts))
            _draw(on, row[1], surface, counts, LogNorm(low, max(high, 1.01 * low)), _COLORS[1], "examples evaluated")
            mark_missing(row[1], surface, counts)
        elif columns == 2:
            row[1].axis("off")
    on.titles([title for name in named for title in (name, "")[:columns]])
    on.spread_ticks()
    undefined, unknown = (
        any(cells.any() for cells in of) for of in zip(*(_without(s, term) for s in named.values()), strict=True)
    )
    keys = [key(_UNDEFINED, "undefined: the mean is 0")] * undefined + [key(_UNKNOWN, "error not known")] * unknown
    legend(on, named, term, more=keys)
    said = surfaces_said(term, {name: [one] for name, one in named.items()})
    return on.finish(f"Standard error of {said}", exactness(named.values()))


def _few(ticks: Array) -> Array:
    """At most `_TICKS` of them, evenly spaced: the numbers of more would touch."""
    return ticks[:: max(1, -(-len(ticks) // _TICKS))]


def _without(surface: Surface, term: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Finite cells without a relative error: those whose mean is 0, and those whose standard error is not known."""
    values = measured(surface, term)
    empty = np.isfinite(values) & np.isnan(relative_error(surface, term))
    return empty & (values == 0), empty & (values != 0)


def _draw(on: Canvas, ax: Axes, surface: Surface, values: Array, norm: Normalize, colors: str, label: str) -> None:
    mesh = ax.pcolormesh(edges(surface.x), edges(plane_y(surface)), values, norm=norm, cmap=colors, rasterized=True)
    keep(ax, surface.x, plane_y(surface), values)
    ax.set_box_aspect(1)
    bar = on.figure.colorbar(mesh, ax=ax, location="bottom", shrink=0.9)
    bar.set_label(wrapped(label, on.width(ax), "small"), fontsize="small", parse_math=False)
    bar.ax.tick_params(labelsize="small")
    if isinstance(norm, LogNorm):
        ticks = _few(round_levels(float(norm.vmin or 1), float(norm.vmax or 1), log=True))
        bar.set_ticks(ticks.tolist(), labels=[f"{tick:g}" for tick in ticks])
        bar.ax.xaxis.set_minor_locator(NullLocator())
    else:
        bar.ax.locator_params(axis="x", nbins=_TICKS)
    ax.set_xlabel(coordinate_label("x", surface))
    ax.set_ylabel(coordinate_label("y", surface))
