"""The minima of a measured surface, and how high the saddle is over which each is left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from landscape.results import Array, Surface

_ROUNDING = 1e-6
"""Relative error of a mean in single precision, where the surface does not say its own."""

Cell = tuple[int, ...]


@dataclass(frozen=True)
class Basin:
    """A local minimum of the sampled field, with the saddle at which its basin meets that of a lower one.

    Attributes:
        cell: Index of the minimum in the surface's arrays.
        at: Its coordinates, ``(x,)`` or ``(x, y)``.
        value: The term there.
        saddle: Index of the saddle; None where there is none: for the lowest minimum of all, and for one that is walled
            off by cells that are not finite.
        saddle_at: Its coordinates.
        saddle_value: The term there; inf where there is none.
        at_edge: Whether the minimum lies on the edge of the grid, beyond which the term may go on falling.
        error: Bound on the error of the persistence as one of the surface of these data, at 95 % for all cells at once.
        error_like: The same as one of the surface of other examples like these.
    """

    cell: Cell
    at: tuple[float, ...]
    value: float
    saddle: Cell | None
    saddle_at: tuple[float, ...] | None
    saddle_value: float
    at_edge: bool
    error: float
    error_like: float

    @property
    def persistence(self) -> float:
        """How far the term must rise to leave the basin for a lower one; inf without a saddle."""
        return self.saddle_value - self.value

    @property
    def above_noise(self) -> bool:
        """Whether it is a minimum of the surface of these data, beyond sampling and rounding."""
        return self.persistence > self.error

    @property
    def above_noise_like(self) -> bool:
        """Whether the surface of other examples like these has it too, as far as its standard errors can show."""
        return self.persistence > self.error_like


@dataclass(frozen=True)
class Topology:
    """The minima of a surface's term.

    Attributes:
        term: Its name.
        basins: By persistence, the largest first.
        not_finite: Cells that are not finite: higher than all others, so that none is a minimum or a saddle.
        method: What the errors are, in a sentence.
    """

    term: str
    basins: tuple[Basin, ...]
    not_finite: int
    method: str

    def __iter__(self) -> Iterator[Basin]:
        return iter(self.basins)

    def __len__(self) -> int:
        return len(self.basins)

    @property
    def minima(self) -> list[Cell]:
        """Indices of the local minima, in the order of the basins."""
        return [basin.cell for basin in self.basins]

    @property
    def saddles(self) -> list[Cell]:
        """Indices of the saddles at which basins meet, in the order of the basins."""
        return [basin.saddle for basin in self.basins if basin.saddle is not None]

    def __str__(self) -> str:
        n, real = len(self.basins), sum(basin.above_noise for basin in self.basins)
        lines = [f"Minima of {self.term}: {n}, {real} of them above the noise."]
        lines += [_said(basin) for basin in self.basins]
        lines += [f"{self.not_finite} cells are not finite, and count as higher than all others."] * (
            self.not_finite > 0
        )
        return "\n".join([*lines, self.method])


def persistence(surface: Surface, term: str) -> Topology:
    """Local minima of a term on a surface and their 0-dimensional persistence (sublevel sets, from low to high).

    As the level rises from the lowest value, a component appears at each local minimum, and at a saddle two meet: the
    one with the higher minimum ends there, and its persistence is the saddle's value minus the minimum's (Edelsbrunner,
    Letscher and Zomorodian, Discrete & Computational Geometry 28, 2002, 511-533). The values sit at the vertices of a
    cubical complex: neighbours are those along the axes, not the diagonals. Each line of a bundle is a field of its
    own. A dip that is narrower than the spacing of the grid is not seen.

    Errors are those of a difference of two cells, for all cells at once (Bonferroni), since the minima are chosen among
    them. Of these data, a surface over all examples has none but rounding, and a sampled one at most the sum of both
    cells' sampling errors. Of other examples like these: cells share their examples, so that a difference is known far
    better than its parts, but how they go together is not stored. Whatever it is, the standard error of a difference is
    at most the sum of those of its two parts. A sampled surface has them for the differences from the origin
    (``sem_diff``), another only for the cells themselves. So what is above the bound is there, and what is not may be.

    Needs gudhi: ``pip install dot-landscape[topology]``.

    Args:
        surface: A complete line, bundle of lines, plane or path.
        term: Name of the term; one to be low.

    Raises:
        ImportError: gudhi is not installed.
        KeyError: The surface has no such term.
        ValueError: A cell is pending.
    """
    gudhi = _gudhi()
    values = surface.values(term)
    if not surface.complete:
        raise ValueError("surface must be complete. Got pending cells: evaluate it again to resume.")
    field = np.where(np.isfinite(values), values, np.inf)
    error, error_like = _errors(surface, term)
    found = []
    bundle = surface.dims[0] == "direction"
    for line in range(len(field)) if bundle else (None,):
        part = field if line is None else field[line]
        head = () if line is None else (line,)
        for low, high in _pairs(gudhi, part):
            cell, saddle = head + low, None if high is None else head + high
            both = [cell] if saddle is None else [cell, saddle]
            found.append(
                Basin(
                    cell=cell,
                    at=_at(surface, cell),
                    value=float(field[cell]),
                    saddle=saddle,
                    saddle_at=None if saddle is None else _at(surface, saddle),
                    saddle_value=math.inf if saddle is None else float(field[saddle]),
                    at_edge=any(i in (0, n - 1) for i, n in zip(low, part.shape, strict=True)),
                    error=float(sum(error[one] for one in both)),
                    error_like=float(sum(error_like[one] for one in both)),
                )
            )
    found.sort(key=lambda basin: (-basin.persistence, basin.value, basin.cell))
    return Topology(term, tuple(found), int((~np.isfinite(values)).sum()), _method(surface))


def _gudhi() -> Any:
    try:
        import gudhi
    except ImportError as error:
        raise ImportError(
            "the topology of a surface needs gudhi. Got none installed. Use: pip install dot-landscape[topology]"
        ) from error
    return gudhi


def _pairs(gudhi: Any, field: Array) -> list[tuple[Cell, Cell | None]]:
    """``(minimum, saddle)`` of each component that lasts."""
    complex_ = gudhi.CubicalComplex(vertices=field)
    complex_.compute_persistence()
    ended, lasting = complex_.vertices_of_persistence_pairs()
    pairs = [tuple(pair) for pair in ended[0]] if ended else []
    pairs += [(one, None) for one in lasting[0]]
    found: list[tuple[Cell, Cell | None]] = []
    for low, high in pairs:
        minimum = _index(low, field)
        saddle = None if high is None else _index(high, field)
        if saddle is not None and np.isinf(field[saddle]):
            saddle = None
        if np.isfinite(field[minimum]) and (saddle is None or field[saddle] > field[minimum]):
            found.append((minimum, saddle))
    return found


def _index(flat: int, field: Array) -> Cell:
    """gudhi counts vertices with the first axis running fastest."""
    return tuple(int(i) for i in np.unravel_index(int(flat), field.shape, order="F"))


def _at(surface: Surface, cell: Cell) -> tuple[float, ...]:
    x = float(surface.x[cell[-1]])
    return (x,) if surface.y is None else (x, float(surface.y[cell[0]]))


def _errors(surface: Surface, term: str) -> tuple[Array, Array]:
    """What a cell adds to the error of a difference: of these data, and of other examples like these."""
    values, cells = surface.values(term), surface.status.size
    wide = -float(special.ndtri(0.025 / cells))
    own = [errors[term] for errors in surface.attrs.get("errors", {}).values() if term in errors]
    rounding = max(own, default=_ROUNDING) * np.abs(values)
    if surface.sampled is None:
        return rounding, rounding + wide * surface.sem(term)
    of_all = surface.sampled.half[term] * (wide / 1.96)
    return rounding + of_all, rounding + wide * surface.sampled.sem_diff[term]


def _method(surface: Surface) -> str:
    noise, of = "rounding: no example was left out", "standard errors"
    if surface.sampled is not None:
        noise, of = (
            "sampling, at most the sum of both cells' errors",
            "standard errors of the difference from the origin",
        )
    return f"The noise is that of {noise}. For other examples like these it is at most the sum of both cells' {of}."


def _said(basin: Basin) -> str:
    edge = " at the edge" if basin.at_edge else ""
    where = f"({', '.join(f'{x:.3g}' for x in basin.at)}){edge}: {basin.value:.4g}"
    if basin.saddle_at is None:
        return f"{where}, without a saddle"
    saddle = f"({', '.join(f'{x:.3g}' for x in basin.saddle_at)})"
    noise = "above" if basin.above_noise else "within"
    like = "above" if basin.above_noise_like else "not shown to be above"
    return (
        f"{where}, left at {saddle} after a rise of {basin.persistence:.3g}: {noise} the noise ({basin.error:.2g}), "
        f"{like} that of other examples ({basin.error_like:.2g})"
    )
