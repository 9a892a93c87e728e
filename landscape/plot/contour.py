"""A term over planes through the weights, side by side in one colour scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from landscape.plot._axis import coordinate_label, in_log, round_levels
from landscape.plot._canvas import Canvas, Given, canvas
from landscape.plot._caption import exactness, mean_label, surfaces_said
from landscape.plot._cells import Hatch, edges, hatch, key
from landscape.plot._kept import keep
from landscape.plot._marks import RIM, mark_lowest, mark_origin, mark_points, once, scale_bar
from landscape.plot._style import width
from landscape.plot._surfaces import measured, plane_y, planes
from landscape.plot._text import height, wide, wrapped
from landscape.results import PENDING, Array, Surface

_COLORS = "viridis"
_PANEL, _LARGEST = 2.7, 3.4
"""Width of a panel, and the most of it that a style can make of it, in inches."""
_COLUMNS = {1: 1, 2: 2, 4: 2}
"""How many of so many panels stand side by side; of others three."""
_BAR = 0.1
"""Thickness of the colour bar in inches."""
_SMALLEST = 1e-280
"""The largest value on a logarithmic scale is at least this: matplotlib's bars of colours take less for zero."""
_PENDING = Hatch("#f4f4f4", "#9a9a9a", "////")
_NOT_FINITE = Hatch("#ffffff", "#7a7a7a", "xxxxx")
_NOT_POSITIVE = Hatch("#ffffff", "#7a7a7a", "-----")


def contour(
    surfaces: Surface | Mapping[str, Surface], *, term: str, log: bool | None = None, ax: Given = None
) -> Figure:
    """Every cell in its colour, with contour lines, under one colour scale and one set of levels.

    Cells are drawn as measured, not interpolated. A cross marks the unperturbed weights, a diamond the lowest cell, and
    rings what else the directions know: the three networks of a plane, the path of a training run. A bar in the corner
    is so many units long. Pending cells are striped and cells that are not finite cross-hatched, as are with lines
    those that a logarithmic scale cannot show.

    Args:
        surfaces: One plane, or 1 to 6 by name.
        term: Which term.
        log: Whether the scale is logarithmic; if None, where all values are positive and span a factor of 30 or more.
        ax: Where to draw, axes for each surface; a new figure if None.

    Raises:
        ValueError: The number of surfaces is not 1 to 6, one is not a plane or lacks the term, no value is finite, the
            values are too far apart or too small for the scale, or there are not as many axes.
    """
    named = planes(surfaces, term)
    every = np.concatenate([measured(surface, term).ravel() for surface in named.values()])
    log = in_log(log, every)
    norm, levels = _scale(every, log=log)
    alike = len({(tuple(s.x), tuple(plane_y(s)), s.unit) for s in named.values()}) == 1
    columns = _COLUMNS.get(len(named), 3)
    size = _size(len(named), columns, alike)
    on = canvas(ax, len(named), size=size, columns=columns, share_x=alike, share_y=alike)
    keys = []
    for panel, surface in zip(on.axes, named.values(), strict=True):
        panel.set_box_aspect(1)
        whole = measured(surface, term)
        values = np.where(whole > 0, whole, np.nan) if log else whole
        _draw(panel, surface, values, norm, levels)
        mark_missing(panel, surface, whole)
        hatch(panel, edges(surface.x), edges(plane_y(surface)), np.isnan(values) & ~np.isnan(whole), _NOT_POSITIVE)
        inches = on.width(panel)
        keys += [*mark_origin(panel, surface, inches), *mark_lowest(panel, surface, values, inches)]
        keys += mark_points(panel, surface, inches)
        if panel is on.axes[0] or not alike:
            scale_bar(panel, surface, inches)
    on.titles(list(named))
    _name_axes(on, list(named.values()), alike)
    scale = " (log scale)" if log else ""
    _color_bar(on, norm, levels, mean_label(term, named.values()) + scale)
    legend(on, named, term, log=log, more=once(keys))
    return on.finish(surfaces_said(term, {name: [one] for name, one in named.items()}), exactness(named.values()))


def _size(n: int, columns: int, alike: bool) -> tuple[float, float]:
    """Of a figure of ``n`` panels, in inches."""
    inches = width(_PANEL * columns + 0.6)
    panel = min((inches - 0.6) / columns, _LARGEST) + height(1 if alike else 3) + 0.2
    below = height(2) + _BAR + height(1) + height(2, "small") + 0.4  # numbers and names of axis and bar, and the keys
    return inches, -(-n // columns) * panel + below


def _name_axes(on: Canvas, surfaces: Sequence[Surface], alike: bool) -> None:
    """The outer ones of an own figure whose panels are alike, else each."""
    on.spread_ticks()
    if alike:
        on.label_x(coordinate_label("x", surfaces[0]))
    for i, (panel, surface) in enumerate(zip(on.axes, surfaces, strict=True)):
        if not alike:
            panel.set_xlabel(coordinate_label("x", surface))
        if not (alike and on.own) or i % on.columns == 0:
            panel.set_ylabel(coordinate_label("y", surface))


def _scale(values: Array, *, log: bool) -> tuple[Normalize, Array]:
    """The colours of all values that can be shown, and round levels between them."""
    known = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not known.size:
        return LogNorm(1.0, 10.0), np.empty(0)
    low, high = float(known.min()), float(known.max())
    if log and high < _SMALLEST:
        raise ValueError(
            f"values on a logarithmic scale must reach {_SMALLEST:g}. Got {low:.3g} to {high:.3g}. "
            "Multiply the term by a constant, or draw it with log=False."
        )
    return (LogNorm if log else Normalize)(low, high), round_levels(low, high, log=log)


def _draw(ax: Axes, surface: Surface, values: Array, norm: Normalize, levels: Array) -> None:
    x, y = surface.x, plane_y(surface)
    ax.pcolormesh(edges(x), edges(y), values, norm=norm, cmap=_COLORS, rasterized=True)
    keep(ax, x, y, values)
    crossed = levels[(levels > np.nanmin(values, initial=np.inf)) & (levels < np.nanmax(values, initial=-np.inf))]
    if crossed.size and min(values.shape) > 1:
        lines = ax.contour(x, y, values, levels=crossed, colors="white", linewidths=0.8)
        lines.set_path_effects(RIM)


def mark_missing(ax: Axes, surface: Surface, values: Array) -> None:
    """Stripes where a cell is pending, a cross-hatch where it is not finite."""
    x, y, pending = edges(surface.x), edges(plane_y(surface)), surface.status == PENDING
    hatch(ax, x, y, pending, _PENDING)
    hatch(ax, x, y, np.isnan(values) & ~pending, _NOT_FINITE)


def _color_bar(on: Canvas, norm: Normalize, levels: Array, label: str) -> None:
    """Under all panels, where its label has the room of a whole line."""
    length = 0.8 * sum(on.width(ax) for ax in on.axes[: on.columns])
    share = 1.1 * _BAR / sum(min(on.width(ax), on.height(ax), _LARGEST) for ax in on.axes[:: on.columns])
    of: dict[str, Any] = {"location": "bottom", "aspect": length / _BAR, "fraction": share, "shrink": 0.8}
    bar = on.figure.colorbar(ScalarMappable(norm, _COLORS), ax=on.axes, **of)
    label = wrapped(label, length / 0.8)
    on.grow(label.count("\n"))
    bar.set_label(label, parse_math=False)
    bar.set_ticks(levels.tolist(), labels=_apart(levels, np.asarray(norm(levels)) * length))
    bar.ax.tick_params(labelsize="small")
    bar.ax.xaxis.set_minor_locator(NullLocator())
    bar.ax.vlines(levels, 0, 1, transform=bar.ax.get_xaxis_transform(), colors="white", linewidths=0.8)


def _apart(levels: Array, at: Array) -> list[str]:
    """Numbers at places in inches, empty where they would touch the one before."""
    names, end = [], -np.inf
    for level, place in zip(levels, at, strict=True):
        name = f"{level:g}"
        half = wide(name, "small") / 2
        names.append(name if place - half > end else "")
        end = place + half + height(size="small") / 4 if names[-1] else end
    return names


def legend(on: Canvas, named: Mapping[str, Surface], term: str, *, log: bool = False, more: Sequence[Any] = ()) -> None:
    """What the hatches of `mark_missing` mean, where there are some, after other marks."""
    values = {name: measured(surface, term) for name, surface in named.items()}
    pending = any((surface.status == PENDING).any() for surface in named.values())
    broken = any((np.isnan(values[name]) & (surface.status != PENDING)).any() for name, surface in named.items())
    hidden = log and any((of <= 0).any() for of in values.values())
    keys = [*more] + [key(_PENDING, "pending")] * pending + [key(_NOT_FINITE, "not finite")] * broken
    keys += [key(_NOT_POSITIVE, "zero or negative")] * hidden
    if keys:
        on.legend(keys, loc="outside lower center")
