"""Effects of many arms: differences from a baseline with their intervals, in several measures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plot._canvas import Given, canvas
from landscape.plot._style import MISSING_COLOR, WIDTH, looks, tidy

_FAR = 4.0
"""Times the median reach of the intervals, beyond which an arm is not drawn to scale."""


class Effect(NamedTuple):
    """A mean difference, its 95 % interval, and whether a difference was found (after correction for many)."""

    mean: float
    low: float
    high: float
    found: bool


def effects(measures: Mapping[str, Mapping[str, Effect]], baseline: str, *, ax: Given = None) -> Figure:
    """A column of axes for each measure, a row for each arm: the difference from the baseline at zero.

    Filled: a difference was found. Hollow: none was found, which does not show that there is none. An arm without a
    difference (its runs diverged, say) has an empty row. An arm far beyond most others is an arrow at the edge with its
    value, so that the others can be told apart; an interval that goes on beyond the axis ends in an arrowhead.

    Args:
        measures: ``{measure: {arm: effect}}``, the same arms in each; NaN where undefined.
        baseline: Its name.
        ax: Where to draw, axes for each measure; a new figure if None.

    Raises:
        ValueError: There is no measure, or measures have different arms.
    """
    arms = [list(of) for of in measures.values()]
    if not arms or not arms[0] or any(names != arms[0] for names in arms):
        raise ValueError(f"expected the same arms, at least one, for each measure. Got {arms}.")
    size = (max(WIDTH, 1.9 * len(measures) + 1.6), 1.0 + 0.24 * len(arms[0]))
    on = canvas(ax, len(measures), size=size, columns=len(measures), share_y=True)
    for panel, (name, of_arm) in zip(on.axes, measures.items(), strict=True):
        _draw(panel, list(of_arm.values()))
        panel.set_title(name, fontsize="small")
    for panel in on.axes[:1] if on.own else on.axes:
        panel.set_yticks(np.arange(len(arms[0])), arms[0], fontsize="small")
        panel.set_ylim(len(arms[0]) - 0.5, -0.5)
    note = f"Difference from {baseline}, 95 % interval; filled: a difference was found."
    return on.finish(f"Every arm against {baseline}.", note)


def _draw(ax: Axes, rows: list[Effect]) -> None:
    (look,) = looks(["effect"]).values()
    edge = _edge(rows)
    ax.axvline(0.0, color=MISSING_COLOR, linewidth=0.8)
    for y, row in enumerate(rows):
        face = look.color if row.found else "white"
        if abs(row.mean) > edge:
            side = np.copysign(1.0, row.mean)
            ax.plot(side * edge, y, marker=">" if side > 0 else "<", markersize=5, color=look.color, mfc=face)
            inside = "right" if side > 0 else "left"
            ax.text(side * 0.93 * edge, y, f"{row.mean:+.3g}", ha=inside, va="center", fontsize=7)
            continue
        ax.plot(np.clip([row.low, row.high], -edge, edge), [y, y], color=look.color, linewidth=1.2)
        for end, marker in ((row.low, "<"), (row.high, ">")):
            if abs(end) > edge:  # goes on beyond the axis
                ax.plot(np.copysign(edge, end), y, marker=marker, markersize=4, color=look.color)
        ax.plot(row.mean, y, marker="o", markersize=5, color=look.color, mfc=face)
    if np.isfinite(edge):
        ax.set_xlim(-1.05 * edge, 1.05 * edge)
    ax.tick_params(axis="x", labelsize=8)
    ax.locator_params(axis="x", nbins=4)
    tidy(ax)


def _edge(rows: list[Effect]) -> float:
    """Half the width of the axis: all intervals, unless some arms are far beyond most of them."""
    reach = np.array([max(abs(row.low), abs(row.high)) for row in rows if np.isfinite(row.low)])
    if not reach.size:
        return float("inf")
    usual: float = _FAR * float(np.median(reach))
    return min(float(reach.max()), usual) if usual > 0 else float(reach.max()) or 1.0
