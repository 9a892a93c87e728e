"""The way of a training run through the plane of its principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from landscape.plot._axis import coordinate_label, count
from landscape.plot._canvas import Canvas, Given, canvas
from landscape.plot._caption import exactness, surfaces_said
from landscape.plot._room import columns_of
from landscape.plot._style import width
from landscape.plot._surfaces import planes
from landscape.plot._text import wrapped
from landscape.plot.contour import contour
from landscape.results import Array, Surface

_PANEL, _LEAST, _COLUMNS = 3.4, 2.0, 3
_TALLEST = 6.3
"""Inches of all panels that stand on each other."""
_APART = 0.16
"""Least distance of two epochs that are written at the path, as a share of the axes."""
_ROOM = 0.05
"""Between the path and the edge of the axes, as a share of these."""
_ENDS = {"start": ("o", "white"), "end": ("s", "#ff9d2e")}
_PATH = "trajectory"


def trajectory(
    surfaces: Surface | Mapping[str, Surface],
    *,
    term: str,
    epochs: Sequence[float] | Mapping[str, Sequence[float]] | None = None,
    ax: Given = None,
) -> Figure:
    """A run's checkpoints, projected into a plane, over the term in that plane as `contour` draws it.

    A circle is the first checkpoint, a square the last, dots are those between. The axes say how much of the variance
    of the run lies along each component: what lies along others is not seen, and the height under a dot is that of its
    projection, not of the checkpoint. The axes reach as far as the path does; where the plane was not measured, they
    are empty.

    Args:
        surfaces: A plane along the directions of `landscape.directions.trajectory`, or 1 to 6 by name.
        term: Which term.
        epochs: What is written beside the path, one for each checkpoint (for several surfaces, by name): as many as
            there is room for.
        ax: Where to draw, axes for each surface; a new figure if None.

    Raises:
        ValueError: As `contour`; a plane has no path, or other than as many epochs as checkpoints.
    """
    named = {"": surfaces} if isinstance(surfaces, Surface) else dict(surfaces)
    paths = {name: _path(name, surface) for name, surface in named.items()}
    written = _epochs(epochs, paths)
    bare = {name: _without_path(surface) for name, surface in named.items()}
    planes(bare, term)  # which refuses what cannot be drawn, before there are axes
    columns = columns_of(_PANEL * _COLUMNS, min(len(named), _COLUMNS), _LEAST)
    inches = width(_PANEL * columns + 0.6)
    rows = -(-len(named) // columns)
    side = min((inches - 0.6) / columns, _PANEL, _TALLEST / rows)
    size = (inches, rows * (side + 0.45) + 1.0)
    on = canvas(ax, len(named), size=size, columns=columns)
    contour(bare, term=term, ax=on.axes)
    for panel, (name, surface) in zip(on.axes, named.items(), strict=True):
        _draw(panel, paths[name], written.get(name, ()))
        for which, axis in enumerate((panel.xaxis, panel.yaxis)):
            axis.set_label_text(wrapped(_axis_label(surface, which), on.width(panel)), parse_math=False)
    _legend(on)
    said = surfaces_said(term, {name: [one] for name, one in named.items()})
    lengths = sorted({len(path) for path in paths.values()})
    points = count(lengths[0], "checkpoint") if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]} checkpoints"
    return on.finish(f"{said} The path of training: {points}.", exactness(named.values()))


def _path(name: str, surface: Surface) -> Array:
    """Where the checkpoints are in the plane, ``[k, 2]``."""
    known = {} if surface.directions is None else surface.directions.points
    if _PATH not in known or np.shape(known[_PATH])[1:] != (2,) or not len(known[_PATH]):
        raise ValueError(
            f"expected a plane of a training run{f', {name!r},' if name else ''} with the places of its checkpoints. "
            f"Got {'one of ' + ', '.join(known) if known else 'one without places'}. "
            "Measure it along ls.directions.trajectory(model, checkpoints)."
        )
    return np.asarray(known[_PATH], dtype=np.float64)


def _epochs(
    epochs: Sequence[float] | Mapping[str, Sequence[float]] | None, paths: Mapping[str, Array]
) -> Mapping[str, Sequence[float]]:
    if epochs is None:
        return {}
    written = epochs if isinstance(epochs, Mapping) else dict.fromkeys(paths, epochs)
    for name, of in written.items():
        if name not in paths:
            raise ValueError(f"epochs must be of a surface, one of {', '.join(paths)}. Got {name!r}.")
        if len(of) != len(paths[name]):
            whose = f" of {name!r}" if name else ""
            raise ValueError(
                f"epochs must be one for each checkpoint. Got {len(of)} for the {len(paths[name])}{whose}."
            )
    return written


def _without_path(surface: Surface) -> Surface:
    assert surface.directions is not None
    points = {name: at for name, at in surface.directions.points.items() if name != _PATH}
    return replace(surface, directions=replace(surface.directions, points=points))


def _draw(ax: Axes, path: Array, epochs: Sequence[float]) -> None:
    _reach(ax, path)
    ax.plot(*path.T, "-o", color="black", linewidth=2.6, markersize=3.6, zorder=4)
    ax.plot(*path.T, "-", color="white", linewidth=1.2, zorder=5)
    known = path[np.isfinite(path).all(axis=1)]
    for (marker, face), at in zip(_ENDS.values(), (known[:1], known[-1:]), strict=True):
        ax.plot(*at.T, marker=marker, color="black", markerfacecolor=face, markersize=8, linestyle="none", zorder=6)
    for i in _apart(ax, path) if len(epochs) else ():
        ax.annotate(
            f"{epochs[i]:g}",
            (float(path[i, 0]), float(path[i, 1])),
            xytext=(6, 5),
            textcoords="offset points",
            fontsize="small",
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
            annotation_clip=True,
            zorder=7,
        )


def _reach(ax: Axes, path: Array) -> None:
    """Widen the axes to where the path goes, with some room."""
    known = path[np.isfinite(path).all(axis=1)]
    if not len(known):
        return
    (left, bottom), (right, top) = known.min(axis=0), known.max(axis=0)
    ax.set_xlim(*_widened(ax.get_xlim(), left, right))
    ax.set_ylim(*_widened(ax.get_ylim(), bottom, top))


def _widened(limits: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    room = _ROOM * (max(limits[1], high) - min(limits[0], low))
    return min(limits[0], low - room), max(limits[1], high + room)


def _apart(ax: Axes, path: Array) -> list[int]:
    """Checkpoints whose epochs can be written without lying on each other: the last, the first, and those between."""
    extent = np.array([np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())])
    chosen: list[int] = []
    for i in (len(path) - 1, *range(len(path) - 1)):
        far = [np.linalg.norm((path[i] - path[j]) / extent) >= _APART for j in chosen]
        if np.isfinite(path[i]).all() and all(far):
            chosen.append(i)
    return chosen


def _axis_label(surface: Surface, which: int) -> str:
    assert surface.directions is not None
    shares = surface.directions.explained
    if which >= len(shares):
        return coordinate_label("xy"[which], surface)
    return f"component {which + 1} ({100 * shares[which]:.3g} % of the variance)"


def _legend(on: Canvas) -> None:
    handles: list[Any] = [
        Line2D([], [], color="black", marker=marker, markerfacecolor=face, markersize=7, linestyle="none", label=name)
        for name, (marker, face) in _ENDS.items()
    ]
    missing = on.axes[0].get_legend()
    if missing is not None:
        handles += missing.legend_handles
        missing.remove()
    on.legend(handles)
