"""Cells as they were measured, kept beside what is drawn of them: what is drawn has their borders, or none of them."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from landscape.results import Array


class Cells(Artist):
    """Values of a map by their places; draws nothing.

    Attributes:
        x: Coordinates of the columns ``[nx]``.
        y: Coordinates of the rows ``[ny]``.
        values: Of the cells ``[ny, nx]``, NaN where they have none.
    """

    def __init__(self, x: Array, y: Array, values: Array) -> None:
        super().__init__()
        self.x, self.y, self.values = x, y, values
        self.set_in_layout(False)


def keep(ax: Axes, x: Array, y: Array, values: Array) -> None:
    """Keep what is drawn in axes, for their alternative text."""
    ax.add_artist(Cells(x, y, values))


def kept(ax: Axes) -> Cells | None:
    """What was kept of axes."""
    return next((artist for artist in ax.artists if isinstance(artist, Cells)), None)
