"""Cells of a map that are hatched, and what the hatch means."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from landscape.results import Array


class Hatch(NamedTuple):
    """Colours of the face and of the lines, and their pattern."""

    face: str
    edge: str
    pattern: str


WITHIN = Hatch("#dcdcdc", "#8c8c8c", "....")
"""Of cells whose value lies within its error."""
UNKNOWN = Hatch("#ffffff", "#7a7a7a", "xxxxx")
"""Of cells that have no value."""


def edges(centres: Array) -> Array:
    """Borders ``[n + 1]`` halfway between neighbours; of a single cell, half a unit to both sides."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[:-1] + centres[1:]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def hatch(ax: Axes, x: Array, y: Array, cells: NDArray[np.bool_], look: Hatch) -> None:
    """Hatch some cells.

    Args:
        ax: Where.
        x: Borders of the columns ``[nx + 1]``.
        y: Borders of the rows ``[ny + 1]``.
        cells: Which, ``[ny, nx]``.
        look: How.
    """
    boxes = [Rectangle((x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i]) for i, j in np.argwhere(cells)]
    drawn = PatchCollection(boxes, facecolor=look.face, edgecolor=look.edge, hatch=look.pattern, linewidth=0)
    ax.add_collection(drawn, autolim=False)


def key(look: Hatch, label: str) -> Patch:
    """An entry of a legend."""
    return Patch(facecolor=look.face, edgecolor=look.edge, hatch=look.pattern, linewidth=0, label=label)
