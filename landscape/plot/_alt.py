"""Alternative text: what a figure shows, in sentences made from what is drawn in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from landscape.plot._axis import count
from landscape.plot._drawn import cells_said, line_said, map_said, named_lines, rows_said, short, tick_names
from landscape.plot._kept import kept

_MOST = 600
"""Letters of a text; what does not fit is counted."""
_PANELS = 6
"""More are named, and not gone through one by one."""


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
    drawn = [ax for ax in figure.axes if _is_panel(ax)]
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


def _is_panel(ax: Axes) -> bool:
    """Whether axes show something; those in 3-D are always said to be off."""
    return ax.get_visible() and (ax.axison or ax.name == "3d") and ax.get_label() != "<colorbar>"


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
        kind, shown = "surface in 3-D", [map_said(ax, maps)] if kept(ax) else []
    elif maps or ax.images:
        kind, shown = "map in colour", [map_said(ax, maps)]
    elif tick_names(ax.xaxis) and tick_names(ax.yaxis) and ax.texts:
        kind, shown = "table", []
    elif tick_names(ax.yaxis):
        kind, shown = "dots with intervals, row by row", list(rows_said(ax))
    else:
        kind, shown = "chart of lines", []
    if kind == "table" or (ax.images and ax.texts):
        shown = list(cells_said(ax))
    elif ax.name != "3d" and kind != "dots with intervals, row by row":
        shown += [line_said(said, *data) for said, data in named_lines(ax, alone=not maps and not ax.images)]
    return _Panel(short(name.split(": ")[0]), kind, _axes(ax, figure), shown)


def _axes(ax: Axes, figure: Figure) -> str:
    axes = [("horizontal", "x", figure.get_supxlabel()), ("vertical", "y", figure.get_supylabel())]
    said = [_axis(ax, which, letter, "" if letter == "x" else above) for which, letter, above in axes]
    height: Axis | None = getattr(ax, "zaxis", None)
    if height is not None and height.label.get_text():
        said.append(_range(short(height.label.get_text()), *_ends(height)))
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
    labels = tick_names(axis)
    if labels:
        return f"{which} {_listed([short(label) for label in labels.values()])}"
    low, high = sorted(getattr(ax, f"get_{letter}lim")())
    ends = np.array([_drawn_ends(other, letter) for other in siblings])
    first, last = ends[:, 0].min(), ends[:, 1].max()
    if low <= last and first <= high:  # what is drawn, without the margins around it
        low, high = max(low, first), min(high, last)
    return _range(short(name), low, high, axis.get_scale() == "log")


def _drawn_ends(ax: Axes, letter: str) -> tuple[float, float]:
    """From where to where axes show something: of a map the cells as measured, not their borders, and paths in it."""
    cells = kept(ax)
    if cells is None:
        first, last = getattr(ax.dataLim, f"interval{letter}")
        return (first, last) if ax.name != "3d" else (-np.inf, np.inf)
    lines = [
        getattr(line, f"get_{letter}data")(orig=False) for line in ax.lines if line.get_transform() == ax.transData
    ]
    paths = [line for line in lines if len(line) > 1]
    places = np.concatenate([getattr(cells, letter), *paths]).astype(np.float64)
    return float(np.nanmin(places)), float(np.nanmax(places))


def _colours(bar: Axes) -> str:
    axis = bar.yaxis if bar.get_ylabel() else bar.xaxis
    label = " ".join(axis.label.get_text().split()).removesuffix(" (log scale)")
    return _range(f"colour is {short(label)}", *_ends(axis))


def _ends(axis: Axis) -> tuple[float, float, bool]:
    """Range of an axis, and whether it is logarithmic; of one whose heights are logarithms, that of its numbers."""
    low, high = map(float, sorted(axis.get_view_interval()))
    places, numbers = axis.get_ticklocs(), _numbers(axis)
    if numbers and not np.allclose(numbers, places, rtol=1e-3):
        return float(10.0**low), float(10.0**high), True
    return low, high, axis.get_scale() == "log"


def _numbers(axis: Axis) -> list[float]:
    """What is written at the ticks of an axis that were set one by one; nothing where that is no number."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return []
    try:
        return [float(text) for text in axis.get_major_formatter().format_ticks(list(axis.get_ticklocs()))]
    except ValueError:
        return []


def _range(name: str, low: float, high: float, log: bool) -> str:
    if low == high:
        return f"{name} at {low:.3g}"
    return f"{name} from {low:.3g} to {high:.3g}{', logarithmic' if log else ''}"


def _listed(names: list[str]) -> str:
    if len(names) <= _PANELS:
        return ", ".join(names)
    return f"{', '.join(names[:3])} to {names[-1]}, {len(names)} in all"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
