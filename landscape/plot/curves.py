"""A term along lines through the weights, method by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plot import _bands
from landscape.plot._axis import coordinate_label, count, is_wide
from landscape.plot._canvas import Given, canvas
from landscape.plot._caption import exactness, mean_label, surfaces_said
from landscape.plot._style import BAND_ALPHA, MISSING_COLOR, WIDTH, Look, looks, tidy
from landscape.plot._surfaces import check_term, measured
from landscape.results import Array, Surface

_LOW, _HIGH = 0.1, 0.9


def curves(lines: Surface | Mapping[str, Surface | Sequence[Surface]], *, term: str, ax: Given = None) -> Figure:
    """Mean of a term along lines, with the band that holds the middle 80 % of the curves.

    A curve is one direction of one seed; the legend counts both. Where every method has a single
    curve, the band is the 95 % interval of its means. Where a curve has no finite value the mean is left
    open and a cross at the upper edge says so: a mean of the others would look flatter than the surface is. The y axis
    is logarithmic where the means span a factor of 30 or more.

    Args:
        lines: One line or bundle of lines, or those of each method: one surface, or one for each seed.
        term: Which term.
        ax: Where to draw; a new figure if None.

    Returns:
        The figure of ``ax``.

    Raises:
        ValueError: A surface is a plane or lacks the term, the surfaces of a method differ in their grid, or there
            are no methods or more than 6.
    """
    methods = {name: _seeds(name, value, term) for name, value in _named(lines).items()}
    on = canvas(ax, size=(WIDTH, 4.0))
    (panel,) = on.axes
    single = all(sum(len(np.atleast_2d(s.status)) for s in seeds) == 1 for seeds in methods.values())
    means = [_draw(panel, name, methods[name], term, look, single) for name, look in looks(methods).items()]
    if is_wide(np.concatenate(means)):
        panel.set_yscale("log")
    _mark_gaps(panel, methods, means)
    _label(panel, methods, term, "95 % interval" if single else "10-90 % of curves")
    every = [surface for seeds in methods.values() for surface in seeds]
    return on.finish(surfaces_said(term, methods), exactness(every))


def _named(lines: Surface | Mapping[str, Surface | Sequence[Surface]]) -> Mapping[str, Surface | Sequence[Surface]]:
    return {"": lines} if isinstance(lines, Surface) else lines


def _seeds(name: str, value: Surface | Sequence[Surface], term: str) -> list[Surface]:
    seeds = [value] if isinstance(value, Surface) else list(value)
    if not seeds:
        raise ValueError(f"expected at least one surface of {name!r}. Got none. Leave the method out.")
    for surface in seeds:
        if surface.dims not in (("x",), ("direction", "x")):
            raise ValueError(f"expected lines or bundles of lines. Got {surface.dims} for {name!r}. Draw its contour.")
        check_term(name, surface, term)
        if surface.status.shape != seeds[0].status.shape or not np.array_equal(surface.x, seeds[0].x):
            raise ValueError(f"expected one grid for all surfaces of {name!r}. Got several. Measure them on one grid.")
    return seeds


def _draw(ax: Axes, name: str, seeds: Sequence[Surface], term: str, look: Look, single: bool) -> Array:
    rows = np.concatenate([np.atleast_2d(measured(surface, term)) for surface in seeds])
    mean, low, high = _bands.band(rows, _LOW, _HIGH)
    label = f"{count(len(rows) // len(seeds), 'direction')}, {count(len(seeds), 'seed')}"
    x = seeds[0].x
    # A point with gaps on both sides would vanish from a line alone.
    ax.plot(
        x,
        mean,
        color=look.color,
        linestyle=look.linestyle,
        marker=look.marker,
        markersize=3.5,
        linewidth=1.6,
        label=f"{name}: {label}" if name else label,
    )
    if single:
        half = np.ravel(seeds[0].half_width(term))
        low, high = mean - half, mean + half
    if single or len(rows) > 1:
        ax.fill_between(x, low, high, color=look.color, alpha=BAND_ALPHA, linewidth=0)
    return mean


def _mark_gaps(ax: Axes, methods: Mapping[str, Sequence[Surface]], means: Sequence[Array]) -> None:
    for (name, seeds), mean, look in zip(methods.items(), means, looks(methods).values(), strict=True):
        x = seeds[0].x[np.isnan(mean)]
        if x.size:
            ax.plot(
                x,
                np.full(x.shape, 0.985),
                transform=ax.get_xaxis_transform(),
                color=look.color,
                linestyle="none",
                marker="x",
                markersize=5,
                label=f"{name}: pending or not finite" if name else "pending or not finite",
            )


def _label(ax: Axes, methods: Mapping[str, Sequence[Surface]], term: str, band: str) -> None:
    first = next(iter(methods.values()))[0]
    ax.axvline(0.0, color=MISSING_COLOR, linewidth=0.8, zorder=0.5)
    ax.set_xlabel(coordinate_label("x", first))
    ax.set_ylabel(mean_label(term, (surface for seeds in methods.values() for surface in seeds)))
    ax.legend(title=f"line: mean; band: {band}", fontsize="small", title_fontsize="small", framealpha=0.9)
    tidy(ax)
