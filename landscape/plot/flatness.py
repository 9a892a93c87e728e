"""Groups of minima in every measure of flatness: each seed, the mean, and its interval."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plot._axis import count, is_wide
from landscape.plot._canvas import Given, canvas
from landscape.plot._style import MISSING_COLOR, Look, looks, tidy, width
from landscape.plot._text import height, wide, wrapped
from landscape.sharpness.verdict import Group, Row, Verdict

_COLUMNS = 3
_PANEL, _NARROW = 2.0, 1.15
"""Inches of a panel, and the least of it that a style can make of it."""
_NAME, _PAD, _NUMBER = 1.6, 0.12, 0.45
"""Inches of a group's name at most, between two rows, and of a number with the room beside it."""


def flatness(verdict: Verdict, *, ax: Given = None) -> Figure:
    """A small panel for each measure, with a row for each group.

    Small dots are the seeds, the large marker is their mean (the geometric one where all values are positive), the line
    its 95 % interval over seeds and directions; of a single seed, over its directions. A triangle at the edge stands
    for seeds of which no more than a lower bound is known; seeds that are undefined are counted below their row. Under
    each panel stands which way is flatter.

    Args:
        verdict: Of at most 6 groups.
        ax: Where to draw, axes for each measure; a new figure if None.

    Raises:
        ValueError: It has no measure, or more than 6 groups.
    """
    if not verdict.rows:
        raise ValueError("verdict must have a measure. Got none.")
    groups = verdict.rows[0].groups
    names = [wrapped(group.name, _NAME, "small") for group in groups]
    label = max(wide(name, "small") for name in names) + 0.2
    inches = width(max(4.0, label + _PANEL * min(_COLUMNS, len(verdict.rows))))
    columns = max(1, min(_COLUMNS, len(verdict.rows), int((inches - label) / _NARROW)))
    row = height(max(name.count("\n") for name in names) + 1, "small") + _PAD
    size = (inches, -(-len(verdict.rows) // columns) * (height(4) + 0.08 + row * len(groups)))
    on = canvas(ax, len(verdict.rows), size=size, columns=columns, share_y=True)
    for panel, of in zip(on.axes, verdict.rows, strict=True):
        _draw(panel, of, on.width(panel))
    on.titles([of.what.name for of in verdict.rows])
    for panel in on.axes[:1] if on.own else on.axes:
        panel.set_yticks(np.arange(len(groups)), names, fontsize="small", parse_math=False)
        panel.set_ylim(len(groups) - 0.45, -0.55)
    shown = ", ".join(f"{group.name} ({count(len(group.values), 'seed')})" for group in groups)
    return on.finish(f"Flatness of {shown}, measure by measure.", _read_as(verdict))


def _draw(ax: Axes, row: Row, inches: float) -> None:
    for y, (group, look) in enumerate(zip(row.groups, looks(g.name for g in row.groups).values(), strict=True)):
        _draw_group(ax, y, group, look)
    values = [value for group in row.groups for value in (*group.values, group.low, group.high)]
    if row.log and is_wide(values):
        ax.set_xscale("log")
    else:
        ax.locator_params(axis="x", nbins=max(2, min(4, int(inches / _NUMBER))))
    ax.set_xlabel("← flatter" if row.what.flatter == "small" else "flatter →", fontsize="small")
    ax.tick_params(labelsize="small")
    tidy(ax)


def _draw_group(ax: Axes, y: int, group: Group, look: Look) -> None:
    known = [value for value in group.values if math.isfinite(value)]
    if len(group.values) > 1:
        (dots,) = ax.plot(known, np.full(len(known), y - 0.2), linestyle="none", marker="o", color=look.color)
        dots.set(markersize=2.8, markeredgewidth=0, alpha=0.6)
    if math.isfinite(group.low):
        ax.plot([group.low, group.high], [y, y], color=look.color, linewidth=1.4)
    if math.isfinite(group.value):
        ax.plot(group.value, y, marker=look.marker, markersize=5.5, color=look.color)
    across = ax.get_yaxis_transform()
    bounded = sum(value == math.inf for value in group.values)
    undefined = len(group.values) - len(known) - bounded
    if bounded:
        ax.plot(0.98, y - 0.2, marker=">", markersize=4, color=look.color, transform=across, clip_on=False)
        ax.text(
            0.94, y - 0.2, f"{bounded}", transform=across, ha="right", va="center", fontsize="small", color=look.color
        )
    if undefined:
        said = f"{undefined} undefined"
        ax.text(0.02, y + 0.27, said, transform=across, va="center", fontsize="small", color=MISSING_COLOR)


def _read_as(verdict: Verdict) -> str:
    groups = [group for row in verdict.rows for group in row.groups]
    means = "geometric mean" if all(row.log for row in verdict.rows) else "mean (geometric where all are positive)"
    said = f"Dots: seeds. Large: their {means}, with a 95 % interval over seeds and directions."
    if all(len(group.values) == 1 for group in groups):
        said = "One seed each, with a 95 % interval over its directions, which says nothing of other seeds."
    bounded = any(value == math.inf for group in groups for value in group.values)
    return f"{said} Triangle: so many seeds with no more than a lower bound." if bounded else said
