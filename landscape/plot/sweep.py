"""What a swept value does to a number, method by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.plot._axis import count, is_wide
from landscape.plot._bands import band
from landscape.plot._canvas import Given, canvas
from landscape.plot._edge import mark_edge
from landscape.plot._names import short, visible
from landscape.plot._style import BAND_ALPHA, WIDTH, Look, looks, tidy, width
from landscape.results import Array

Values = Mapping[str, Mapping[float, Sequence[float]]]


def sweep(
    values: Values,
    *,
    x_label: str,
    y_label: str,
    log_x: bool | None = None,
    best: Literal["highest", "lowest"] | None = None,
    ax: Given = None,
) -> Figure:
    """Mean over the seeds at each value that was tried, with every seed as a dot and the band from lowest to highest.

    A value at which a seed has no finite number (it diverged, say) has no mean, and a cross at the upper edge: a mean
    of the others would look better than the method is. A ring marks the best mean of each method, never the best seed;
    it was chosen among the values that are shown, on the numbers that are shown.

    Args:
        values: ``{method: {x: [number of each seed]}}``.
        x_label: Name of what was swept.
        y_label: Name of the number.
        log_x: Whether the horizontal axis is logarithmic; by default where all values are positive and span a factor of
            30 or more.
        best: Which mean is marked; none by default.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: There are no methods or more than 6; a method has no value, or a value has no seed; ``log_x`` is
            asked for and a value is not positive; or ``best`` is something else.
    """
    _check(values, best)
    every = np.array(sorted({x for of in values.values() for x in of}), dtype=np.float64)
    log = is_wide(every) if log_x is None else log_x
    if log and every[0] <= 0:
        raise ValueError(f"log_x needs values above 0. Got {every[0]:g}. Leave log_x out.")
    on = canvas(ax, size=(width(WIDTH), max(2.5, 0.55 * width(WIDTH))))
    (panel,) = on.axes
    if log:
        panel.set_xscale("log")
    for name, look in looks(values).items():
        _draw(panel, name, values[name], look, best)
    on.label_x(x_label)
    on.label_y(y_label)
    tidy(panel)
    handles, _ = panel.get_legend_handles_labels()
    on.legend([*handles, _ring(best)] if best else handles)
    seeds = "; ".join(f"{name}: {_seeds(of)}" for name, of in values.items())
    note = "Line: mean over seeds; dots: seeds; band: lowest to highest."
    note += f" Ring: {best} mean of each method, chosen on these same numbers." if best else ""
    return on.finish(f"{y_label} against {x_label}; {seeds}.", note)


def _check(values: Values, best: str | None) -> None:
    looks(values)  # which refuses none or too many
    for name, of in values.items():
        if not of or any(not len(seeds) for seeds in of.values()):
            what = "a value" if not of else f"a seed at {next(x for x, seeds in of.items() if not len(seeds)):g}"
            raise ValueError(f"expected at least {what} of {name!r}. Got none. Leave it out.")
    if best not in (None, "highest", "lowest"):
        raise ValueError(f"best must be 'highest' or 'lowest', or None for no mark. Got {best!r}.")


def _seeds(of: Mapping[float, Sequence[float]]) -> str:
    sizes = sorted({len(seeds) for seeds in of.values()})
    return count(sizes[0], "seed") if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} seeds"


def _draw(ax: Axes, name: str, of: Mapping[float, Sequence[float]], look: Look, best: str | None) -> None:
    x = np.array(sorted(of), dtype=np.float64)
    rows = [np.asarray(of[at], dtype=np.float64) for at in sorted(of)]
    mean, low, high = (np.array(side) for side in zip(*(_summary(seeds) for seeds in rows), strict=True))
    label = visible(f"{short(name)}: {_seeds(of)}")
    (line,) = ax.plot(x, mean, color=look.color, linestyle=look.linestyle, linewidth=1.5, label=label)
    line.set(marker=look.marker, markersize=4.5)
    ax.fill_between(x, low, high, color=look.color, alpha=BAND_ALPHA, linewidth=0)
    (dots,) = ax.plot(np.repeat(x, [len(seeds) for seeds in rows]), np.concatenate(rows), ".", color=look.color)
    dots.set(markersize=5, alpha=0.8, markeredgewidth=0)
    mark_edge(ax, x[np.isnan(mean)], look.color, label=f"{short(name)}: a seed is not finite")
    if best and np.isfinite(mean).any():
        chosen = int(np.nanargmax(mean) if best == "highest" else np.nanargmin(mean))
        ax.plot(x[chosen], mean[chosen], "o", color=look.color, markersize=11, markerfacecolor="none", zorder=4)


def _summary(seeds: Array) -> tuple[float, float, float]:
    """Mean, lowest and highest; NaN all three where one is not finite."""
    mean, low, high = band(seeds[:, None], 0.0, 1.0)
    return float(mean[0]), float(low[0]), float(high[0])


def _ring(best: str) -> Line2D:
    ring = Line2D([], [], color="black", linestyle="none", marker="o", label=f"{best} mean")
    ring.set(markersize=9, markerfacecolor="none")
    return ring
