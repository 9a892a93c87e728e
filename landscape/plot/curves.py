"""A term along lines through the weights, method by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.plot import _bands
from landscape.plot._axis import coordinate_label, count, in_log
from landscape.plot._canvas import Given, canvas
from landscape.plot._caption import exactness, mean_label, surfaces_said
from landscape.plot._names import visible
from landscape.plot._style import BAND_ALPHA, MISSING_COLOR, WIDTH, Look, looks, tidy, width
from landscape.plot._surfaces import check_term, measured
from landscape.plot._text import wrapped
from landscape.results import Array, Surface

_LOW, _HIGH = 0.1, 0.9
_MARKERS = 8
"""Markers of a line in an inch."""
Lines = Surface | Mapping[str, Surface | Sequence[Surface]]


@dataclass(frozen=True)
class _Curve:
    """The mean of a method's curves with its band, each ``[nx]``, and how it looks."""

    name: str
    label: str
    look: Look
    hollow: bool
    x: Array
    mean: Array
    low: Array
    high: Array
    banded: bool


def curves(
    lines: Lines,
    *,
    term: str,
    test: Lines | None = None,
    error: str | None = None,
    log: bool | None = None,
    ax: Given = None,
) -> Figure:
    """Mean of a term along lines, with the band that holds the middle 80 % of the curves.

    A curve is one direction of one seed; the legend counts both. Where every method has a single
    curve, the band is the 95 % interval of its means. Where a curve has no finite value the mean is left
    open and a cross at the upper edge says so: a mean of the others would look flatter than the surface is; so it is
    where a mean is zero or negative and the scale logarithmic.

    Args:
        lines: One line or bundle of lines, or those of each method: one surface, or one for each seed.
        term: Which term.
        test: The same on other data, in the looks of the same methods with hollow markers and an outlined band.
        error: A second term, such as the error rate, in a second panel.
        log: Whether the scale of ``term`` is logarithmic; if None, where its means span a factor of 30 or more.
        ax: Where to draw, axes for each panel; a new figure if None.

    Returns:
        The figure of ``ax``.

    Raises:
        ValueError: A surface is a plane or lacks a term, the surfaces of a method differ in their grid, ``test`` has a
            method that ``lines`` has not, there are no methods or more than 6, or not as many axes as panels.
    """
    terms = [term] if error is None else [term, error]
    sets = [_methods(of, terms) for of in (lines, test) if of is not None]
    unknown = [name for name in sets[-1] if name not in sets[0]]
    if unknown:
        raise ValueError(f"test must have methods of lines: {', '.join(sets[0])}. Got {unknown[0]!r}. Name them alike.")
    every = [surface for of in sets for seeds in of.values() for surface in seeds]
    single = all(len(seeds) == len(np.atleast_2d(seeds[0].status)) == 1 for of in sets for seeds in of.values())
    look = looks(sets[0])
    wide = width(WIDTH)
    on = canvas(ax, len(terms), size=(wide, (1.2 + 0.44 * wide) * len(terms)), share_x=True)
    for panel, shown in zip(on.axes, terms, strict=True):
        drawn = [
            _curve(name, seeds, shown, look[name], hollow, single)
            for hollow, of in zip((False, True), sets, strict=False)
            for name, seeds in of.items()
        ]
        means = np.concatenate([one.mean for one in drawn])
        _draw(panel, drawn, on.width(panel), in_log(log if shown == term else None, means))
        panel.set_ylabel(wrapped(mean_label(shown, every), on.height(panel)), parse_math=False)
    on.spread_ticks()
    on.label_x(coordinate_label("x", every[0]))
    band = "95 % interval" if single else "10-90 % of curves"
    on.legend(_handles(on.axes, tested=len(sets) > 1), title=f"line: mean; band: {band}")
    said = surfaces_said(" and ".join(terms), sets[0])
    if test is not None:
        said += f" Hollow: {mean_label('test', (surface for seeds in sets[1].values() for surface in seeds))}."
    return on.finish(said, exactness(every))


def _methods(lines: Lines, terms: Sequence[str]) -> dict[str, list[Surface]]:
    named = {"": lines} if isinstance(lines, Surface) else lines
    return {name: _seeds(name, value, terms) for name, value in named.items()}


def _seeds(name: str, value: Surface | Sequence[Surface], terms: Sequence[str]) -> list[Surface]:
    seeds = [value] if isinstance(value, Surface) else list(value)
    if not seeds:
        raise ValueError(f"expected at least one surface of {name!r}. Got none. Leave the method out.")
    for surface in seeds:
        if surface.dims not in (("x",), ("direction", "x")):
            raise ValueError(f"expected lines or bundles of lines. Got {surface.dims} for {name!r}. Draw its contour.")
        for term in terms:
            check_term(name, surface, term)
        if surface.status.shape != seeds[0].status.shape or not np.array_equal(surface.x, seeds[0].x):
            raise ValueError(f"expected one grid for all surfaces of {name!r}. Got several. Measure them on one grid.")
    return seeds


def _curve(name: str, seeds: Sequence[Surface], term: str, look: Look, hollow: bool, single: bool) -> _Curve:
    rows = np.concatenate([np.atleast_2d(measured(surface, term)) for surface in seeds])
    mean, low, high = _bands.band(rows, _LOW, _HIGH)
    counted = f"{count(len(rows) // len(seeds), 'direction')}, {count(len(seeds), 'seed')}"
    if single:
        half = np.ravel(seeds[0].half_width(term))
        low, high = mean - half, mean + half
    label = (f"{name}: {counted}" if name else counted) + (", test" if hollow else "")
    return _Curve(name, label, look, hollow, seeds[0].x, mean, low, high, single or len(rows) > 1)


def _draw(ax: Axes, drawn: Sequence[_Curve], inches: float, log: bool) -> None:
    if log:
        ax.set_yscale("log", nonpositive="mask")
    for one in drawn:
        mean = np.where(one.mean > 0, one.mean, np.nan) if log else one.mean
        # A point with gaps on both sides would vanish from a line alone; else many markers would hide the lines.
        every = 1 if np.isnan(mean).any() else max(1, round(len(one.x) / (_MARKERS * inches)))
        ax.plot(one.x, mean, label=visible(one.label), zorder=2.2, markevery=every, **_line(one))
        if one.banded:
            _fill(ax, one, log)
        gaps = one.x[np.isnan(mean)]
        if gaps.size:
            _mark_gaps(ax, one, gaps, log)
    ax.axvline(0.0, color=MISSING_COLOR, linewidth=0.8, zorder=0.5)
    tidy(ax)


def _line(one: _Curve) -> dict[str, Any]:
    face = "white" if one.hollow else one.look.color
    line = {"color": one.look.color, "linestyle": one.look.linestyle, "linewidth": 1.0 if one.hollow else 1.6}
    return line | {"marker": one.look.marker, "markersize": 3.5, "markerfacecolor": face, "markeredgewidth": 0.8}


def _fill(ax: Axes, one: _Curve, log: bool) -> None:
    """A band; on a log scale down to its lowest positive value where it goes to zero and below."""
    low = one.low
    if log and (one.high > 0).any():
        known = np.concatenate([one.low, one.mean, one.high])
        low = np.maximum(low, known[known > 0].min())
    look: dict[str, Any] = {"color": one.look.color, "alpha": BAND_ALPHA, "linewidth": 0}
    if one.hollow:
        look = {"facecolor": "none", "edgecolor": one.look.color, "alpha": 0.6, "linewidth": 0.5, "linestyle": ":"}
    ax.fill_between(one.x, low, one.high, **look)


def _mark_gaps(ax: Axes, one: _Curve, gaps: Array, log: bool) -> None:
    why = "pending, not finite, zero or negative" if log else "pending or not finite"
    ax.plot(
        gaps,
        np.full(gaps.shape, 0.985),
        transform=ax.get_xaxis_transform(),
        color=one.look.color,
        linestyle="none",
        marker="x",
        markersize=5,
        label=visible(f"{one.name}: {why}" if one.name else why),
    )


def _handles(axes: Sequence[Axes], *, tested: bool) -> list[Line2D]:
    """A line for each method, once for both kinds of data; what kinds there are; and the gaps."""
    lines = {str(line.get_label()): line for ax in axes for line in ax.get_lines()}
    handles = [line for label, line in lines.items() if not label.startswith("_") and not label.endswith(", test")]
    kinds = [("filled: training", "black"), ("hollow: test", "white")] if tested else []
    return handles + [
        Line2D([], [], color="black", linewidth=1, marker="o", markersize=3.5, markerfacecolor=face, label=label)
        for label, face in kinds
    ]
