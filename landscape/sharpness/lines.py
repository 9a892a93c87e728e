"""The lines through the origin that a surface holds: what widths, curvatures and mean rises are taken from."""

from __future__ import annotations

import numpy as np

from landscape.results import Array, Surface
from landscape.sharpness.measure import Invariance


def lines(surface: Surface, term: str) -> list[tuple[Array, Array]]:
    """``(coordinates, values)`` of every line through the origin that a surface holds.

    Raises:
        ValueError: A cell is pending, or no point of the grid lies at the origin.
        KeyError: The surface has no such term.
    """
    if not surface.complete:
        raise ValueError("surface must be complete. Got pending cells: evaluate it again to resume.")
    if surface.path is not None:
        raise ValueError("surface must be of straight lines. Got a path. Draw its curves instead.")
    values = surface.values(term)
    zero = [at_zero(surface.x, "x")]
    if surface.y is not None:
        zero.append(at_zero(surface.y, "y"))
        return [(surface.x, values[zero[1]]), (surface.y, values[:, zero[0]])]
    return [(surface.x, row) for row in np.atleast_2d(values)]


def at_zero(axis: Array, name: str) -> int:
    """Which point of an axis lies at the origin.

    Raises:
        ValueError: None does.
    """
    at = np.flatnonzero(axis == 0)
    if not at.size:
        raise ValueError(f"{name} must have a point at the origin. Got {axis[0]:g} to {axis[-1]:g} without 0.")
    return int(at[0])


def invariance(surface: Surface) -> Invariance:
    """Under which rescalings of the network its directions move the function as before.

    Random directions that are scaled to the norms of filters or tensors follow a factor for all units of a layer. They
    do not follow one for each unit: its outgoing weights are a column of the next layer, whose filters are the rows.
    """
    scaled = surface.attrs.get("normalize") in ("filter", "layer")
    return "layers" if scaled and surface.attrs.get("kind", "random") == "random" else "none"
