"""Filling a surface, cell by cell."""

from __future__ import annotations

import math
import warnings

from landscape import store
from landscape.averages import Moments
from landscape.grid import Cell
from landscape.progress import bar
from landscape.results import DONE, NOT_FINITE, PENDING, Surface
from landscape.walker import Walker


def fill(
    surface: Surface,
    walker: Walker,
    todo: list[Cell],
    origin: dict[str, Moments],
    writer: store.SurfaceWriter | None,
    label: str,
) -> None:
    """Measure cells one after the other, each into the surface and its file.

    Args:
        surface: Takes them.
        walker: Measures them.
        todo: The cells.
        origin: Moments at the unperturbed weights; every cell has the same terms, of as many values.
        writer: Of the file; None in memory.
        label: Name on the progress bar.

    Raises:
        ValueError: The objective returns other terms somewhere, or of another number of values.
        OSError: The file cannot be written.
    """
    with bar(surface.status.size, label, "cell") as progress:
        progress.update(surface.status.size - len(todo))
        for index, point in todo:
            if any(point):
                _measure_cell(surface, index, walker.at(point), origin, point)
            else:
                _copy_origin(surface, index)
            if writer is not None:
                writer.add(index)
            progress.update()


def _measure_cell(
    surface: Surface,
    index: tuple[int, ...],
    cell: dict[str, Moments],
    origin: dict[str, Moments],
    point: tuple[float, ...],
) -> None:
    _refuse_other_terms(cell, origin, point)
    for name, moments in cell.items():
        surface.means[name][index], surface.sems[name][index] = moments.mean, moments.sem
        for key, arrays in surface.sums.items():
            arrays[name][index] = getattr(moments, key)
    finite = all(math.isfinite(moments.mean) for moments in cell.values())
    surface.status[index] = DONE if finite else NOT_FINITE


def _copy_origin(surface: Surface, index: tuple[int, ...]) -> None:
    for name, (mean, sem) in surface.origin.items():
        surface.means[name][index], surface.sems[name][index] = mean, sem
        for kept, arrays in enumerate(surface.sums.values()):
            arrays[name][index] = surface.attrs["origin_sums"][name][kept]
    surface.status[index] = DONE


def _refuse_other_terms(cell: dict[str, Moments], origin: dict[str, Moments], point: tuple[float, ...]) -> None:
    counts, expected = ({name: m.n for name, m in moments.items()} for moments in (cell, origin))
    if counts != expected:
        raise ValueError(
            f"the objective must return the same terms everywhere, of as many values: {expected}. Got {counts} at "
            f"{point}: does it, or the loader, change from pass to pass?"
        )


def warn_if_flat(surface: Surface) -> None:
    """Warn where no cell differs from the origin: the objective then hardly depends on the model that is moved."""
    done = surface.status != PENDING
    if done.sum() > 1 and all(
        (values[done] == surface.origin[name][0]).all() for name, values in surface.means.items()
    ):
        warnings.warn(
            "no cell differs from the origin: does the objective use the model that it is given, not another?",
            stacklevel=6,
        )
