"""Task loss against distillation loss over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from landscape.plot._axis import count, is_wide
from landscape.plot._canvas import Canvas, Given, canvas
from landscape.plot._names import visible
from landscape.plot._style import WIDTH, Look, looks, tidy, width
from landscape.plot._text import height, wrapped
from landscape.results import Array

Path = tuple[Array, Array]
Marks = Sequence[int] | Mapping[str, Sequence[int]]

# Light to dark, so that a greyscale print shows the time too.
_TIME = "cividis_r"
_DOTS = 30
"""The most dots on a line."""
_NAME = 1.1
"""Inches of a method's name at the end of its line."""


_LINES = "thick: mean over seeds; thin: one seed"


@dataclass(frozen=True)
class _Mean:
    """The mean path of a method: its losses ``[epochs]``, and how it looks."""

    name: str
    look: Look
    task: Array
    distill: Array
    seeds: int

    @property
    def known(self) -> NDArray[np.intp]:
        """Indices of the epochs that can be drawn."""
        return np.flatnonzero(np.isfinite(self.task) & np.isfinite(self.distill))


def tradeoff(
    paths: Mapping[str, Sequence[Path]],
    *,
    labels: tuple[str, str] = ("task loss", "distillation loss"),
    marks: Marks = (),
    ax: Given = None,
) -> Figure:
    """The way each method takes through the plane of its two losses.

    A thin line is one seed, a thick one the mean of the seeds over the epochs that all of them have, on which dots turn
    from light to dark with time; a large hollow marker is the first epoch and a filled one, with the method's name, the
    last. An axis is logarithmic where its losses span a factor of 30 or more.

    Args:
        paths: For each method one ``(task [epochs], distill [epochs])`` for each seed.
        labels: Names of the two losses: of the horizontal axis and of the vertical one.
        marks: Epochs, counted from 1, after which the learning rate drops: of all methods, or of each by its name. A
            cross stands there; what lies beyond the end of a path is left out.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: A method has no seed, the two losses of a seed differ in length or have no epoch, ``marks`` has a
            method that ``paths`` has not, or there are no methods or more than 6.
    """
    for name, seeds in paths.items():
        _check(name, seeds)
    unknown = [name for name in marks if name not in paths] if isinstance(marks, Mapping) else []
    if unknown:
        raise ValueError(f"marks must have methods of paths: {', '.join(paths)}. Got {unknown[0]!r}. Name them alike.")
    wide = width(WIDTH)
    on = canvas(ax, size=(wide, 1.2 + 0.58 * wide))
    (panel,) = on.axes
    means = [_mean(name, paths[name], look) for name, look in looks(paths).items()]
    epochs = max(len(mean.task) for mean in means)
    time = Normalize(1, epochs)
    _scale(panel, [path for seeds in paths.values() for path in seeds])
    for mean in means:
        _draw(panel, mean, paths[mean.name], time)
        _mark(panel, mean, marks.get(mean.name, ()) if isinstance(marks, Mapping) else marks)
    tidy(panel)
    _name_ends(on, panel, means)
    panel.set_xlabel(wrapped(labels[0], on.width(panel)), parse_math=False)
    panel.set_ylabel(wrapped(labels[1], on.height(panel)), parse_math=False)
    if epochs > 1:
        on.figure.colorbar(ScalarMappable(time, _TIME), ax=panel, label="epoch", aspect=30, pad=0.02)
    if on.own:
        on.legend(_handles(panel), title=_lines_said([mean.seeds for mean in means]))
    else:  # within the axes there is room for what the names at the ends do not say
        on.legend(_handles(panel)[len(means) :])
    methods = "; ".join(f"{mean.name}: {count(mean.seeds, 'seed')}, {count(len(mean.task), 'epoch')}" for mean in means)
    note = "Dots turn from light to dark with the epoch."
    return on.finish(f"{labels[0]} against {labels[1]} over training; {methods}.", note)


def _check(name: str, seeds: Sequence[Path]) -> None:
    if not seeds:
        raise ValueError(f"expected at least one path of {name!r}. Got none. Leave the method out.")
    for task, distill in seeds:
        if len(task) != len(distill) or not len(task):
            raise ValueError(
                f"expected as many task as distillation losses of {name!r}, at least one. "
                f"Got {len(task)} and {len(distill)}. Give one of each for an epoch."
            )


def _mean(name: str, seeds: Sequence[Path], look: Look) -> _Mean:
    epochs = min(len(task) for task, _ in seeds)
    task, distill = (np.mean([path[k][:epochs] for path in seeds], axis=0) for k in (0, 1))
    return _Mean(name, look, task, distill, len(seeds))


def _draw(ax: Axes, mean: _Mean, seeds: Sequence[Path], time: Normalize) -> None:
    look, known = mean.look, mean.known
    if len(seeds) > 1:
        for task, distill in seeds:
            ax.plot(task, distill, color=look.color, linewidth=0.5, alpha=0.5, zorder=1.9)
    ax.plot(
        mean.task, mean.distill, color=look.color, linestyle=look.linestyle, linewidth=1.6, label=visible(mean.name)
    )
    if not known.size:
        return
    every = known[:: -(-len(known) // _DOTS)]
    dots: dict[str, Any] = {"marker": look.marker, "edgecolors": look.color, "linewidths": 0.7, "s": 14, "zorder": 2.4}
    ax.scatter(mean.task[every], mean.distill[every], c=every + 1, cmap=_TIME, norm=time, **dots)
    for epoch, face in ((known[0], "white"), (known[-1], look.color)):
        ends: dict[str, Any] = {"marker": look.marker, "markersize": 7, "markerfacecolor": face, "zorder": 3}
        ax.plot(mean.task[epoch], mean.distill[epoch], color=look.color, markeredgewidth=1.5, **ends)


def _mark(ax: Axes, mean: _Mean, epochs: Sequence[int]) -> None:
    """Crosses where the learning rate drops."""
    at = np.array([epoch - 1 for epoch in epochs if epoch - 1 in mean.known], dtype=np.int64)
    for color, wide in (("white", 2.6), ("black", 1.2)) if at.size else ():
        look: dict[str, Any] = {"linestyle": "none", "marker": "x", "color": color, "markersize": 5}
        ax.plot(mean.task[at], mean.distill[at], zorder=2.8, label="_drop", markeredgewidth=wide, **look)


def _scale(ax: Axes, paths: Sequence[Path]) -> None:
    if is_wide(np.concatenate([task for task, _ in paths])):
        ax.set_xscale("log")
    if is_wide(np.concatenate([distill for _, distill in paths])):
        ax.set_yscale("log")


def _name_ends(on: Canvas, ax: Axes, means: Sequence[_Mean]) -> None:
    """The methods' names at the ends of their lines, apart from each other."""
    ended = [mean for mean in means if mean.known.size]
    within = ax.transData - ax.transAxes
    ends = {mean.name: within.transform((mean.task[mean.known[-1]], mean.distill[mean.known[-1]])) for mean in ended}
    apart, beside, lowest = height(size="small") / on.height(ax), 0.1 / on.width(ax), -np.inf
    for mean in sorted(ended, key=lambda mean: float(ends[mean.name][1])):
        x, y = ends[mean.name]
        lowest = max(float(y), lowest + apart)
        right = x > 0.7
        text = ax.annotate(
            wrapped(mean.name, _NAME, "small", lines=1),
            (x, y),
            xycoords="axes fraction",
            xytext=(x + (-beside if right else beside), lowest),
            ha="right" if right else "left",
            va="center",
            fontsize="small",
            color=mean.look.color,
            zorder=3.5,
            parse_math=False,
        )
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _lines_said(seeds: Sequence[int]) -> str:
    if max(seeds) == 1:
        return "line: one seed"
    return f"thick: mean of {count(max(seeds), 'seed')}; thin: one seed" if len(set(seeds)) == 1 else _LINES


def _handles(ax: Axes) -> list[Line2D]:
    lines = [line for line in ax.get_lines() if not str(line.get_label()).startswith("_")]
    looks = [("o", "white", "first epoch"), ("o", "black", "last epoch")]
    if any(line.get_label() == "_drop" for line in ax.get_lines()):
        looks.append(("x", "black", "learning rate drops"))
    return lines + [
        Line2D([], [], color="black", linestyle="none", marker=marker, markerfacecolor=face, label=label)
        for marker, face, label in looks
    ]
