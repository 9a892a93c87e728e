"""A surface as a table: what is known of each cell, by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.results import Surface

Named = tuple[str, NDArray[Any]]


def cells(surface: Surface) -> dict[str, NDArray[Any]]:
    """Coordinates, means, standard errors and status, each in the shape of the grid.

    Returns:
        ``x``, then ``y`` of a plane or ``direction`` of a bundle, then ``<term>`` and ``<term>_sem`` for each term,
        then ``status``.

    Raises:
        ValueError: Two of these would have the same name.
    """
    along = {"x": surface.x, "y": surface.y, "direction": np.arange(surface.status.shape[0])}
    grids: list[NDArray[Any]] = list(np.meshgrid(*(along[dim] for dim in surface.dims), indexing="ij"))
    named: list[Named] = [*zip(surface.dims, grids, strict=True)][::-1]
    for term in surface.terms:
        named += [(term, surface.values(term)), (f"{term}_sem", surface.sem(term))]
    return by_name([*named, ("status", surface.status)])


def by_name(arrays: Iterable[Named], reserved: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Arrays by name, in their order.

    Raises:
        ValueError: A name comes twice, or is reserved.
    """
    found: dict[str, NDArray[Any]] = {}
    for name, array in arrays:
        if name in found or name in reserved:
            raise ValueError(
                f"every column must have a name of its own. Got {name!r} twice: give the term another name."
                if name in found
                else f"term {name!r} cannot be written to this format: give it another name."
            )
        found[name] = array
    return found
