"""One plane less another, cell by cell, with what lies within their errors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from landscape.plot._axis import coordinate_label, count, is_wide, round_levels
from landscape.plot._canvas import Canvas, Given, canvas
from landscape.plot._caption import exactness, surfaces_said
from landscape.plot._cells import WITHIN, edges, hatch, key
from landscape.plot._kept import keep
from landscape.plot._names import short, visible
from landscape.plot._style import width
from landscape.plot._surfaces import measured, plane_y, planes
from landscape.plot._text import wrapped
from landscape.plot.contour import legend, mark_missing
from landscape.results import DONE, NOT_FINITE, PENDING, Array, Surface

_COLORS = "RdBu_r"
_NULL = np.zeros(1)
_TICKS = 15
"""The most that a colour bar has room for."""
_Line = tuple[Literal["solid", "dashed"], float]
_ABOVE: _Line = ("solid", 0.8)
_BELOW: _Line = ("dashed", 0.8)
_ZERO: _Line = ("solid", 2.0)
_DECADES = 1e4
"""The most that a logarithmic scale of both signs spans on each side."""


def difference(a: Surface, b: Surface, *, term: str, names: tuple[str, str] = ("A", "B"), ax: Given = None) -> Figure:
    """The first plane less the second: red where the first is higher, blue where it is lower, white at zero.

    So that a greyscale print shows the sign too, contour lines are solid above zero and dashed below; the thick line is
    zero. Dotted grey cells are those whose difference lies within its 95 % error, that of both surfaces in quadrature,
    or has no known error. Two surfaces of one data set see the same examples, whose errors largely cancel in the
    difference: this error is therefore conservative, and a dotted cell does not show that the two are equal. Cells that
    are missing in either are marked as by `contour`. The scale is logarithmic on both sides of zero, and linear around
    it, where the differences beyond their errors span a factor of 30 or more.

    Args:
        a: A plane.
        b: Another one on the same grid.
        term: Which term.
        names: What the two are called.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: One is not a plane or lacks the term, the names are equal, the grids differ (it is said in what), or
            no cell is finite in both.
    """
    if names[0] == names[1]:
        raise ValueError(f"names must be two different ones. Got {names[0]!r} twice.")
    planes({names[0]: a, names[1]: b}, term)  # which refuses what is none
    _check_grids(a, b, names)
    both = _less(a, b, term)
    values = measured(both, term)
    if not np.isfinite(values).any():
        raise ValueError(
            f"expected a cell in which {term!r} of both is finite. Got none. Finish the measurements first."
        )
    within = ~(np.abs(values) > both.half_width(term)) & np.isfinite(values)
    norm, levels = _scale(values, within)
    on = canvas(ax, size=(width(4.9), 0.82 * min(width(4.9), 5.2) + 0.4))
    (panel,) = on.axes
    _draw(panel, both, values, within, norm, levels)
    label = wrapped(f"{term}: {short(names[0])} minus {short(names[1])}", 0.75 * on.figure.get_figheight())
    _color_bar(on.figure, panel, norm, levels, label)
    _legend(on, both, term, names, within)
    of = surfaces_said(term, {names[0]: [a], names[1]: [b]})
    share = 100 * within.sum() / np.isfinite(values).sum()
    note = f"Dotted: {share:.0f} % of the cells, whose difference lies within its error (95 %)." if within.any() else ""
    return on.finish(f"{names[0]} minus {names[1]}: {of}", " ".join(filter(None, (note, exactness((a, b))))))


def _check_grids(a: Surface, b: Surface, names: tuple[str, str]) -> None:
    """Refuse planes whose cells are not at the same places.

    Raises:
        ValueError: An axis or its unit differs.
    """
    for axis, one, other in (("x", a.x, b.x), ("y", plane_y(a), plane_y(b))):
        if not np.array_equal(one, other):
            raise ValueError(
                f"expected two planes on one grid. Got {axis} {_axis_said(one)} for {names[0]!r} and "
                f"{_axis_said(other)} for {names[1]!r}. Measure both on the same grid."
            )
    if a.unit != b.unit:
        raise ValueError(
            f"expected two planes in one unit. Got {a.unit} for {names[0]!r} and {b.unit} for {names[1]!r}. "
            "Measure both along directions that are normalised alike."
        )


def _axis_said(axis: Array) -> str:
    return f"from {axis[0]:g} to {axis[-1]:g} in {count(len(axis), 'point')}"


def _less(a: Surface, b: Surface, term: str) -> Surface:
    """The difference as a surface; ``half_width`` is that of both in quadrature."""
    values = measured(a, term) - measured(b, term)
    half = np.hypot(a.half_width(term), b.half_width(term))
    pending = (a.status == PENDING) | (b.status == PENDING)
    status = np.where(pending, PENDING, np.where(np.isfinite(values), DONE, NOT_FINITE)).astype(np.uint8)
    return replace(a, means={term: values}, sems={term: half / 1.96}, status=status, sampled=None)


def _scale(values: Array, within: NDArray[np.bool_]) -> tuple[Normalize, Array]:
    """Colours with zero in the middle, and the levels of the contour lines, without zero."""
    top = float(np.nanmax(np.abs(values))) or 1.0
    beyond = np.abs(values[np.isfinite(values) & ~within & (values != 0)])
    if not is_wide(beyond):
        levels = round_levels(-top, top, log=False)
        return Normalize(-top, top), levels[levels != 0]
    least = max(float(beyond.min()), top / _DECADES)
    levels = round_levels(least, top, log=True)
    return SymLogNorm(least, vmin=-top, vmax=top, base=10), np.concatenate([-levels[::-1], levels])


def _draw(ax: Axes, both: Surface, values: Array, within: NDArray[np.bool_], norm: Normalize, levels: Array) -> None:
    x, y = both.x, plane_y(both)
    columns, rows = edges(x), edges(y)
    ax.set_box_aspect(1)
    ax.pcolormesh(columns, rows, values, norm=norm, cmap=_COLORS, rasterized=True)
    keep(ax, x, y, values)
    hatch(ax, columns, rows, within, WITHIN)
    if np.isnan(values).any():
        mark_missing(ax, both, values)
    for chosen, (style, thick) in ((levels[levels > 0], _ABOVE), (levels[levels < 0], _BELOW), (_NULL, _ZERO)):
        crossed = chosen[(chosen > np.nanmin(values)) & (chosen < np.nanmax(values))]
        if crossed.size and min(values.shape) > 1:
            ax.contour(x, y, values, levels=crossed, colors="black", linestyles=style, linewidths=thick)
    ax.set_xlabel(coordinate_label("x", both))
    ax.set_ylabel(coordinate_label("y", both))


def _color_bar(figure: Figure, ax: Axes, norm: Normalize, levels: Array, label: str) -> None:
    ticks = np.sort(np.append(levels, 0.0))
    bar = figure.colorbar(ScalarMappable(norm, _COLORS), ax=ax, aspect=24)
    bar.set_label(label, parse_math=False)
    named = ticks if len(ticks) <= _TICKS else ticks[_is_round(ticks)]
    bar.set_ticks(named.tolist(), labels=[f"{tick:+g}" if tick else "0" for tick in named])
    bar.ax.yaxis.set_minor_locator(NullLocator())
    for tick in ticks:
        style, thick = _ZERO if tick == 0 else _ABOVE if tick > 0 else _BELOW
        bar.ax.axhline(tick, color="black", linestyle=style, linewidth=thick)


def _is_round(ticks: Array) -> NDArray[np.bool_]:
    """Which are zero or, up to their sign, powers of ten."""
    powers = np.log10(np.abs(np.where(ticks == 0, 1.0, ticks)))
    return np.isclose(powers, np.round(powers))


def _legend(on: Canvas, both: Surface, term: str, names: tuple[str, str], within: NDArray[np.bool_]) -> None:
    values = measured(both, term)
    lines = [(f"{short(names[0])} higher", _ABOVE)] * bool((values > 0).any())
    lines += [(f"{short(names[1])} higher", _BELOW)] * bool((values < 0).any())
    handles: list[Any] = [
        Line2D([], [], color="black", linestyle=style, linewidth=thick, label=visible(label))
        for label, (style, thick) in lines
    ]
    handles += [key(WITHIN, "within the error")] * bool(within.any())
    legend(replace(on, own=False), {"": both}, term, more=handles)  # into the axes, for its entries
    drawn = on.axes[0].get_legend()
    assert drawn is not None
    drawn.remove()
    on.legend(drawn.legend_handles)
