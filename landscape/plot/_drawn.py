"""What can be read from axes, in words: the ends of lines and maps, rows with names, cells of tables."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.container import ErrorbarContainer, StemContainer
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from landscape.plot._kept import kept
from landscape.results import Array

_NAME = 40
"""Letters of a name, which may be anything."""


def map_said(ax: Axes, meshes: list[QuadMesh]) -> str:
    """The lowest and the highest cell, and where they are; of other figures, amid its borders."""
    cells = kept(ax)
    if cells is not None:
        values, centres = cells.values, np.stack(np.meshgrid(cells.x, cells.y), axis=-1)
    elif meshes:
        values = np.ma.filled(np.ma.asarray(meshes[0].get_array(), np.float64), np.nan)
        corners = np.asarray(meshes[0].get_coordinates())
        centres = (corners[:-1, :-1] + corners[1:, :-1] + corners[:-1, 1:] + corners[1:, 1:]) / 4
        values = values.reshape(centres.shape[:2])
    else:
        values = np.ma.filled(np.ma.asarray(ax.images[0].get_array(), np.float64), np.nan)
        centres = np.stack(np.meshgrid(*(np.arange(float(n)) for n in values.shape[::-1])), axis=-1)
    finite = np.isfinite(values)
    if not finite.any():
        return "no cell has a value."
    ends = []
    for word, at in (("lowest", np.nanargmin), ("highest", np.nanargmax)):
        cell = np.unravel_index(at(np.where(finite, values, np.nan)), values.shape)
        ends.append(
            f"{word} {values[cell]:.3g} at ({_at(ax.xaxis, centres[cell][0])}, {_at(ax.yaxis, centres[cell][1])})"
        )
    missing = int((~finite).sum())
    return f"{', '.join(ends)}{f'; {missing} of {finite.size} cells without a value' if missing else ''}."


def named_lines(ax: Axes, *, alone: bool) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Lines with a name, and their points; where there is none and ``alone``, the longest without one."""
    found: list[tuple[str, Array, Array]] = []
    for held in ax.containers:
        if isinstance(held, (ErrorbarContainer, StemContainer)):
            line = held.lines[0] if isinstance(held, ErrorbarContainer) else held.markerline
            found.append((str(held.get_label()), *_points(line)))
    for line in ax.lines:
        if line.get_transform() == ax.transData:
            found.append((str(line.get_label()), *_points(line)))
    for drawn in ax.collections:
        if isinstance(drawn, LineCollection) and not str(drawn.get_label()).startswith("_"):
            found.append((str(drawn.get_label()), *np.concatenate(drawn.get_segments()).T))
    named = [(label, x, y) for label, x, y in found if not label.startswith("_") and label]
    if not named and alone and found:
        named = [("", *max(found, key=lambda of: len(of[1]))[1:])]
    for label, x, y in named:
        yield short(label), (x, y)


def _points(line: Line2D) -> tuple[Array, Array]:
    return np.asarray(line.get_xdata(orig=False), np.float64), np.asarray(line.get_ydata(orig=False), np.float64)


def line_said(name: str, x: Array, y: Array) -> str:
    """A line's first and last value, its lowest and highest and where they are; of a path, its ends."""
    of = f"{name}: " if name else ""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if not x.size:
        return f"{of}no values."
    if x.size == 1:
        return f"{of}{y[0]:.3g} at {x[0]:.3g}."
    if (np.diff(x) < 0).any():  # a path through a plane
        return f"{of}from ({x[0]:.3g}, {y[0]:.3g}) to ({x[-1]:.3g}, {y[-1]:.3g})."
    low, high = int(np.argmin(y)), int(np.argmax(y))
    ends = f"lowest {y[low]:.3g} at {x[low]:.3g}, highest {y[high]:.3g} at {x[high]:.3g}"
    return f"{of}{y[0]:.3g} at {x[0]:.3g}, {y[-1]:.3g} at {x[-1]:.3g}; {ends}."


def rows_said(ax: Axes) -> Iterator[str]:
    """Charts whose rows have names: of each named series the ends, else the value of each row."""
    labels = tick_names(ax.yaxis)
    named = [] if not labels else list(named_lines(ax, alone=False))
    for name, (x, y) in named:
        known = np.isfinite(x)
        if known.any():
            low, high = (int(at(np.where(known, x, np.nan))) for at in (np.nanargmin, np.nanargmax))
            ends = f"lowest {x[low]:.3g} in {_nearest(labels, y[low])}, highest {x[high]:.3g}"
            yield f"{name}: {ends} in {_nearest(labels, y[high])}."
    if named:
        return
    points = [(*_points(line), line) for line in ax.lines if line.get_transform() == ax.transData]
    values = {_nearest(labels, y[0]): float(x[0]) for x, y, _ in points if x.size == 1 and np.isfinite(x[0])}
    if values:
        yield ", ".join(f"{name} {value:.3g}" for name, value in values.items()) + "."


def cells_said(ax: Axes) -> Iterator[str]:
    columns, rows = tick_names(ax.xaxis), tick_names(ax.yaxis)
    for text in ax.texts:
        x, y = text.get_position()
        yield f"{_nearest(rows, y)}, {_nearest(columns, x)}: {' '.join(text.get_text().split())}."


def tick_names(axis: Axis) -> dict[float, str]:
    """Names of an axis' ticks by their places, where it has names and not numbers."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return {}
    places = axis.get_ticklocs()
    names = [" ".join(name.split()) for name in axis.get_major_formatter().format_ticks(list(places))]
    named = {float(at): name for at, name in zip(places, names, strict=True) if name}
    return named if not all(map(_is_number, named.values())) else {}


def _is_number(text: str) -> bool:
    try:
        float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return False
    return True


def _nearest(labels: dict[float, str], at: float) -> str:
    """The name of a row or column, some of which may have none."""
    place = min(labels, key=lambda place: abs(place - float(at)))
    return short(labels[place]) if abs(place - float(at)) <= 0.5 else f"row {round(float(at)) + 1}"


def _at(axis: Axis, place: float) -> str:
    low, high = axis.get_view_interval()
    return (
        _nearest(tick_names(axis), place)
        if tick_names(axis)
        else f"{0 if abs(place) < 1e-9 * abs(high - low) else place:.3g}"
    )


def short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _NAME else f"{name[: _NAME - 1].rstrip()}…"
