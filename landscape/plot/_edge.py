"""Marks at an edge of the axes, for what has no height to be drawn at."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from landscape.plot._names import visible

_TOP, _BOTTOM = 0.985, 0.02


def mark_edge(ax: Axes, x: ArrayLike, color: str, *, zero: bool = False, label: str | None = None) -> None:
    """Crosses at the upper edge where a value is missing, or triangles at the lower one where it is zero.

    Args:
        ax: Where.
        x: At which places, ``[n]``.
        color: Of the line that they belong to.
        zero: Whether they stand for zeros.
        label: In the legend.
    """
    places = np.asarray(x)
    if not places.size:
        return
    heights = np.full(places.shape, _BOTTOM if zero else _TOP)
    across = ax.get_xaxis_transform()  # given at once, else the heights would count as values
    (marks,) = ax.plot(places, heights, "v" if zero else "x", transform=across, color=color, markersize=4.5)
    marks.set(clip_on=False, label=label and visible(label))
