"""Extending a measured surface: what coincides with a wider or denser grid is not measured again."""

from __future__ import annotations

import numpy as np

from landscape import identity
from landscape.grid import Cell
from landscape.results import Surface


def take(new: Surface, old: Surface, cells: list[Cell], *, steady: bool) -> None:
    """Copy those of ``cells`` into ``new`` that lie on the grid of ``old``, to the last bit.

    Args:
        new: What is to be measured.
        old: A surface of the same measurement.
        cells: Of ``new``.
        steady: Whether both must agree at the origin.

    Raises:
        ValueError: ``old`` is of another measurement or of another kind.
    """
    identity.refuse_another(old, {key: new.attrs[key] for key in identity.SAME_FOR_PARTS}, None, "reuse")
    if old.dims != new.dims or old.path is not None or new.path is not None or new.sums or old.sums:
        raise ValueError(f"reuse must be a surface of the same kind, over all the data, and no path. Got {old!r}.")
    if steady:
        identity.refuse_another_origin(old, new.origin, "reuse")
    place = [{value: i for i, value in enumerate(_axis(old, dim))} for dim in old.dims]
    ours = [_axis(new, dim) for dim in new.dims]
    for index, _ in cells:
        source = tuple(places.get(axis[i], -1) for places, axis, i in zip(place, ours, index, strict=True))
        if -1 not in source:
            for mine, theirs in ((new.means, old.means), (new.sems, old.sems)):
                for name, values in mine.items():
                    values[index] = theirs[name][source]
            new.status[index] = old.status[source]


def _axis(surface: Surface, dim: str) -> list[float]:
    if dim == "direction":
        return list(range(len(surface.status)))
    return [float(v) for v in (surface.x if dim == "x" else np.asarray(surface.y))]
