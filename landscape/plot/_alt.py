"""Alternative text: what a figure shows, in sentences made from what is drawn in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.container import ErrorbarContainer, StemContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from landscape.plot._axis import count
from landscape.results import Array

_MOST = 600
"""Letters of a text; what does not fit is counted."""
_PANELS = 6
"""More are named, and not gone through one by one."""
_NAME = 40
"""Letters of a name, which may be anything."""


@dataclass(frozen=True)
class _Panel:
    """A panel in words: its name, the kind of chart, its axes, and a sentence for each thing that it shows."""

    name: str
    kind: str
    axes: str
    shown: list[str]


def alt_text(figure: Figure) -> str:
    """What a figure shows, for those who cannot see it: kind of chart, axes with their ranges, and the values.

    Of each named line its first and last value, the lowest and the highest with where they are; of a map its range and
    where its ends lie; of a table its cells. Made from what is drawn, so that it says what a reader sees; at most about
    600 letters, and panels beyond six are only named.

    Args:
        figure: Any figure of this package; of another one, what can be read from its lines and maps.

    Returns:
        Plain sentences; never empty.
    """
    drawn = [ax for ax in figure.axes if ax.get_visible() and ax.axison and ax.get_label() != "<colorbar>"]
    panels = [_panel(ax, figure) for ax in drawn]
    if not panels:
        return "An empty figure."
    names = [panel.name for panel in panels if panel.name]
    listed = f" ({_listed(names)})" if names and (len(panels) > 1) else f" of {names[0]}" if names else ""
    kinds = list(dict.fromkeys(panel.kind for panel in panels))
    head = f"{_capital(' and '.join(kinds))}{f' in {len(panels)} panels' if len(panels) > 1 else ''}{listed}."
    shared = len({panel.axes for panel in panels}) == 1
    sentences = [_capital(panels[0].axes)] if shared else []
    for panel in panels[:_PANELS]:
        of = f"{panel.name}: " if panel.name and len(panels) > 1 else ""
        if not shared:
            sentences.append(of + panel.axes)
            of = ""
        sentences += [of + shown for shown in panel.shown]
    if len(panels) > _PANELS:
        sentences.append(f"{count(len(panels) - _PANELS, 'more panel')} alike.")
    return _fitted(head, sentences)


def _fitted(head: str, sentences: list[str]) -> str:
    """As many sentences as there is room for; of the others how many they are."""
    text = head
    for i, sentence in enumerate(sentences):
        if len(text) + len(sentence) > _MOST:
            return f"{text} And {len(sentences) - i} more."
        text += f" {sentence}"
    return text


def _panel(ax: Axes, figure: Figure) -> _Panel:
    name = next((said for loc in ("left", "center", "right") if (said := ax.get_title(loc=loc))), "")
    maps = [drawn for drawn in ax.collections if isinstance(drawn, QuadMesh)]
    if ax.name == "3d":
        kind, shown = "surface in three dimensions", []
    elif maps or ax.images:
        kind, shown = "map in colour", [_map(ax, maps)]
    elif _labels(ax.xaxis) and _labels(ax.yaxis) and ax.texts:
        kind, shown = "table", []
    elif _labels(ax.yaxis):
        kind, shown = "dots with intervals, row by row", list(_rows(ax))
    else:
        kind, shown = "chart of lines", []
    if kind == "table" or (ax.images and ax.texts):
        shown = list(_cells(ax))
    elif kind != "dots with intervals, row by row":
        shown += [_series(said, *data) for said, data in _named(ax, alone=not maps and not ax.images)]
    return _Panel(_short(name.split(": ")[0]), kind, _axes(ax, figure), shown)


def _axes(ax: Axes, figure: Figure) -> str:
    axes = [("horizontal", "x", figure.get_supxlabel()), ("vertical", "y", figure.get_supylabel())]
    said = [_axis(ax, which, letter, "" if letter == "x" else above) for which, letter, above in axes]
    height: Axis | None = getattr(ax, "zaxis", None)
    if height is not None:
        low, high = height.get_view_interval()
        said.append(_range(_short(height.label.get_text()) or "height", low, high, log=False))
    bars = [bar for bar in figure.axes if bar.get_label() == "<colorbar>"]
    if len(bars) == 1:
        said.append(_colours(bars[0]))
    else:
        held = [drawn.colorbar.ax for drawn in (*ax.collections, *ax.images) if drawn.colorbar is not None]
        said += [_colours(bar) for bar in held if bar in bars]
    return "; ".join(said) + "."


def _axis(ax: Axes, which: str, letter: str, above: str) -> str:
    """Name and range of an axis; the name of its siblings or of the whole figure where it has none of its own."""
    axis: Axis = getattr(ax, f"{letter}axis")
    siblings = getattr(ax, f"get_shared_{letter}_axes")().get_siblings(ax)
    names = [axis.label.get_text(), *(getattr(other, f"get_{letter}label")() for other in siblings), above]
    name = next(filter(None, names), f"{which} axis")
    labels = _labels(axis)
    if labels:
        return f"{which} {_listed([_short(label) for label in labels.values()])}"
    low, high = sorted(getattr(ax, f"get_{letter}lim")())
    ends = np.array([getattr(other.dataLim, f"interval{letter}") for other in siblings])
    first, last = ends[:, 0].min(), ends[:, 1].max()
    low, high = (max(low, first), min(high, last)) if low <= last and first <= high else (low, high)
    return _range(_short(name), low, high, log=axis.get_scale() == "log")


def _colours(bar: Axes) -> str:
    label = " ".join((bar.get_ylabel() or bar.get_xlabel()).split()).removesuffix(" (log scale)")
    limits, axis = (bar.get_ylim(), bar.yaxis) if bar.get_ylabel() else (bar.get_xlim(), bar.xaxis)
    return _range(f"colour is {_short(label)}", *sorted(limits), log=axis.get_scale() == "log")


def _range(name: str, low: float, high: float, *, log: bool) -> str:
    return f"{name} from {low:.3g} to {high:.3g}{', logarithmic' if log else ''}"


def _map(ax: Axes, meshes: list[QuadMesh]) -> str:
    """The lowest and the highest cell, and where they are."""
    if meshes:
        values = np.ma.filled(np.ma.asarray(meshes[0].get_array(), np.float64), np.nan)
        corners = np.asarray(meshes[0].get_coordinates())
        centres = (corners[:-1, :-1] + corners[1:, :-1] + corners[:-1, 1:] + corners[1:, 1:]) / 4
        values = values.reshape(centres.shape[:2])
    else:
        values = np.ma.filled(np.ma.asarray(ax.images[0].get_array(), np.float64), np.nan)
        centres = np.stack(np.meshgrid(*(np.arange(float(n)) for n in values.shape[::-1])), axis=-1)
    finite = np.isfinite(values)
    if not finite.any():
        return "no cell has a value."
    ends = []
    for word, at in (("lowest", np.nanargmin), ("highest", np.nanargmax)):
        cell = np.unravel_index(at(np.where(finite, values, np.nan)), values.shape)
        ends.append(
            f"{word} {values[cell]:.3g} at ({_at(ax.xaxis, centres[cell][0])}, {_at(ax.yaxis, centres[cell][1])})"
        )
    missing = int((~finite).sum())
    return f"{', '.join(ends)}{f'; {missing} of {finite.size} cells without a value' if missing else ''}."


def _named(ax: Axes, *, alone: bool) -> Iterator[tuple[str, tuple[Array, Array]]]:
    """Lines with a name, and their points; where there is none and ``alone``, the longest without one."""
    found: list[tuple[str, Array, Array]] = []
    for held in ax.containers:
        if isinstance(held, (ErrorbarContainer, StemContainer)):
            line = held.lines[0] if isinstance(held, ErrorbarContainer) else held.markerline
            found.append((str(held.get_label()), *_points(line)))
    for line in ax.lines:
        if line.get_transform() == ax.transData:
            found.append((str(line.get_label()), *_points(line)))
    for drawn in ax.collections:
        if isinstance(drawn, LineCollection) and not str(drawn.get_label()).startswith("_"):
            found.append((str(drawn.get_label()), *np.concatenate(drawn.get_segments()).T))
    named = [(label, x, y) for label, x, y in found if not label.startswith("_") and label]
    if not named and alone and found:
        named = [("", *max(found, key=lambda of: len(of[1]))[1:])]
    for label, x, y in named:
        yield _short(label), (x, y)


def _points(line: Line2D) -> tuple[Array, Array]:
    return np.asarray(line.get_xdata(orig=False), np.float64), np.asarray(line.get_ydata(orig=False), np.float64)


def _series(name: str, x: Array, y: Array) -> str:
    """A line's first and last value, its lowest and highest and where they are; of a path, its ends."""
    of = f"{name}: " if name else ""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if not x.size:
        return f"{of}no values."
    if x.size == 1:
        return f"{of}{y[0]:.3g} at {x[0]:.3g}."
    if (np.diff(x) < 0).any():  # a path through a plane
        return f"{of}from ({x[0]:.3g}, {y[0]:.3g}) to ({x[-1]:.3g}, {y[-1]:.3g})."
    low, high = int(np.argmin(y)), int(np.argmax(y))
    ends = f"lowest {y[low]:.3g} at {x[low]:.3g}, highest {y[high]:.3g} at {x[high]:.3g}"
    return f"{of}{y[0]:.3g} at {x[0]:.3g}, {y[-1]:.3g} at {x[-1]:.3g}; {ends}."


def _rows(ax: Axes) -> Iterator[str]:
    """Charts whose rows have names: of each named series the ends, else the value of each row."""
    labels = _labels(ax.yaxis)
    named = [] if not labels else list(_named(ax, alone=False))
    for name, (x, y) in named:
        known = np.isfinite(x)
        if known.any():
            low, high = (int(at(np.where(known, x, np.nan))) for at in (np.nanargmin, np.nanargmax))
            ends = f"lowest {x[low]:.3g} in {_nearest(labels, y[low])}, highest {x[high]:.3g}"
            yield f"{name}: {ends} in {_nearest(labels, y[high])}."
    if named:
        return
    points = [(*_points(line), line) for line in ax.lines if line.get_transform() == ax.transData]
    values = {_nearest(labels, y[0]): float(x[0]) for x, y, _ in points if x.size == 1 and np.isfinite(x[0])}
    if values:
        yield ", ".join(f"{name} {value:.3g}" for name, value in values.items()) + "."


def _cells(ax: Axes) -> Iterator[str]:
    columns, rows = _labels(ax.xaxis), _labels(ax.yaxis)
    for text in ax.texts:
        x, y = text.get_position()
        yield f"{_nearest(rows, y)}, {_nearest(columns, x)}: {' '.join(text.get_text().split())}."


def _labels(axis: Axis) -> dict[float, str]:
    """Names of an axis' ticks by their places, where it has names and not numbers."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return {}
    places = axis.get_ticklocs()
    names = [" ".join(name.split()) for name in axis.get_major_formatter().format_ticks(list(places))]
    named = {float(at): name for at, name in zip(places, names, strict=True) if name}
    return named if not all(map(_is_number, named.values())) else {}


def _is_number(text: str) -> bool:
    try:
        float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return False
    return True


def _nearest(labels: dict[float, str], at: float) -> str:
    return _short(labels[min(labels, key=lambda place: abs(place - float(at)))]) if labels else f"{at:.3g}"


def _at(axis: Axis, place: float) -> str:
    return _nearest(_labels(axis), place) if _labels(axis) else f"{place:.3g}"


def _listed(names: list[str]) -> str:
    if len(names) <= _PANELS:
        return ", ".join(names)
    return f"{', '.join(names[:3])} to {names[-1]}, {len(names)} in all"


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _NAME else f"{name[: _NAME - 1].rstrip()}…"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
