"""A term over planes through the weights, side by side in one colour scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from landscape.plot._axis import coordinate_label, is_wide, round_levels
from landscape.plot._canvas import Canvas, Given, canvas
from landscape.plot._caption import exactness, mean_label, surfaces_said
from landscape.plot._surfaces import measured, plane_y, planes, value_range
from landscape.results import PENDING, Array, Surface

_COLORS = "viridis"
_PANEL = 2.7
_COLUMNS = 3
# White lines need a dark rim where the surface is bright.
_RIM: list[AbstractPathEffect] = [withStroke(linewidth=1.6, foreground="#00000070")]
# Colours of face and hatch, and the hatch itself.
_PENDING = ("#f4f4f4", "#9a9a9a", "////")
_NOT_FINITE = ("#ffffff", "#7a7a7a", "xxxxx")


def contour(surfaces: Surface | Mapping[str, Surface], *, term: str, ax: Given = None) -> Figure:
    """Every cell in its colour, with contour lines, under one colour scale and one set of levels.

    Cells are drawn as measured, not interpolated. A cross marks the unperturbed weights, and rings what else the
    directions know: the three networks of a plane, the path of a training run. Pending cells are striped and cells that
    are not finite cross-hatched. The scale is logarithmic where all values are positive and span a factor of
    30 or more.

    Args:
        surfaces: One plane, or 1 to 6 by name.
        term: Which term.
        ax: Where to draw, axes for each surface; a new figure if None.

    Raises:
        ValueError: The number of surfaces is not 1 to 6, one is not a plane or lacks the term, no value is finite, or
            there are not as many axes.
    """
    named = planes(surfaces, term)
    low, high = value_range(named, term)
    log = is_wide((low, high))
    norm = LogNorm(low, high) if log else Normalize(low, high)
    levels = round_levels(low, high, log=log)
    columns = min(len(named), _COLUMNS)
    size = (_PANEL * columns + 1.0, _PANEL * -(-len(named) // columns) + 0.2)
    on = canvas(ax, len(named), size=size, columns=columns)
    for panel, (name, surface) in zip(on.axes, named.items(), strict=True):
        panel.set_box_aspect(1)
        _draw(panel, surface, measured(surface, term), norm, levels)
        panel.set_title(name, fontsize="medium")
    scale = "\n(log scale)" if log else ""
    _color_bar(on.figure, on.axes, norm, levels, mean_label(term, named.values()) + scale)
    legend(on, named, term)
    return on.finish(surfaces_said(term, {name: [one] for name, one in named.items()}), exactness(named.values()))


def _draw(ax: Axes, surface: Surface, values: Array, norm: Normalize, levels: Array) -> None:
    x, y = surface.x, plane_y(surface)
    ax.pcolormesh(x, y, values, norm=norm, cmap=_COLORS, shading="nearest", rasterized=True)
    mark_missing(ax, surface, values)
    crossed = levels[(levels > np.nanmin(values, initial=np.inf)) & (levels < np.nanmax(values, initial=-np.inf))]
    if crossed.size:
        lines = ax.contour(x, y, values, levels=crossed, colors="white", linewidths=0.8)
        lines.set_path_effects(_RIM)
    if x.min() <= 0 <= x.max() and y.min() <= 0 <= y.max():
        ax.plot(0, 0, marker="+", color="black", markersize=8, markeredgewidth=2.8)
        ax.plot(0, 0, marker="+", color="white", markersize=6, markeredgewidth=1.2)
    _mark_points(ax, surface)
    ax.set_xlabel(coordinate_label("x", surface))
    ax.set_ylabel(coordinate_label("y", surface))


def mark_missing(ax: Axes, surface: Surface, values: Array) -> None:
    """Stripes where a cell is pending, a cross-hatch where it is not finite."""
    x, y, pending = surface.x, plane_y(surface), surface.status == PENDING
    _mark_cells(ax, x, y, pending, _PENDING)
    _mark_cells(ax, x, y, np.isnan(values) & ~pending, _NOT_FINITE)


def _mark_points(ax: Axes, surface: Surface) -> None:
    """Places of note; what lies outside of the plane as it was measured is cut off."""
    if surface.directions is None:
        return
    shown = ax.axis()
    for name, points in surface.directions.points.items():
        ax.plot(*points.T, "-o", color="black", markersize=4.5, linewidth=2.4, markerfacecolor="white")
        ax.plot(*points.T, "-", color="white", linewidth=1.0)
        if len(points) == 1:
            ax.annotate(
                name,
                (float(points[0, 0]), float(points[0, 1])),
                xytext=(5, 5),
                textcoords="offset points",
                color="white",
                path_effects=_RIM,
                annotation_clip=True,
            )
    ax.axis(shown)


def _mark_cells(ax: Axes, x: Array, y: Array, cells: NDArray[np.bool_], look: tuple[str, str, str]) -> None:
    left, bottom = _edges(x), _edges(y)
    boxes = [
        Rectangle((left[j], bottom[i]), left[j + 1] - left[j], bottom[i + 1] - bottom[i]) for i, j in np.argwhere(cells)
    ]
    face, edge, hatch = look
    collection = PatchCollection(boxes, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0)
    ax.add_collection(collection, autolim=False)


def _edges(centres: Array) -> Array:
    """Borders ``[n + 1]`` halfway between neighbours, as ``pcolormesh`` sets them."""
    middle = (centres[:-1] + centres[1:]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def _color_bar(figure: Figure, axes: list[Axes], norm: Normalize, levels: Array, label: str) -> None:
    bar = figure.colorbar(ScalarMappable(norm, _COLORS), ax=axes, label=label, aspect=28)
    bar.set_ticks(levels.tolist(), labels=[f"{level:g}" for level in levels])
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.hlines(levels, 0, 1, transform=bar.ax.get_yaxis_transform(), colors="white", linewidths=0.8)


def legend(on: Canvas, named: Mapping[str, Surface], term: str) -> None:
    """What the hatches of `mark_missing` mean, where there are some."""
    pending = any((surface.status == PENDING).any() for surface in named.values())
    broken = any((np.isnan(measured(surface, term)) & (surface.status != PENDING)).any() for surface in named.values())
    shown = [("pending", _PENDING)] * pending + [("not finite", _NOT_FINITE)] * broken
    handles = [
        Patch(facecolor=face, edgecolor=edge, hatch=hatch, linewidth=0, label=label)
        for label, (face, edge, hatch) in shown
    ]
    if handles:
        on.legend(handles, loc="outside lower center", ncols=2)
