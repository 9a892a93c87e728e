"""Task loss against distillation loss over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from landscape.plot._axis import count, is_wide
from landscape.plot._canvas import Given, canvas
from landscape.plot._style import WIDTH, Look, looks, tidy
from landscape.results import Array

Path = tuple[Array, Array]


def tradeoff(
    paths: Mapping[str, Sequence[Path]],
    *,
    labels: tuple[str, str] = ("task loss", "distillation loss"),
    ax: Given = None,
) -> Figure:
    """The way each method takes through the plane of its two losses.

    A thin line is one seed, a thick one the mean of the seeds over the epochs that all of them have; a hollow marker
    is the first epoch and a filled one the last. An axis is logarithmic where its losses span a factor of 30 or more.

    Args:
        paths: For each method one ``(task [epochs], distill [epochs])`` for each seed.
        labels: Names of the two losses: of the horizontal axis and of the vertical one.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: A method has no seed, the two losses of a seed differ in length or have no epoch, or there are no
            methods or more than 6.
    """
    for name, seeds in paths.items():
        _check(name, seeds)
    on = canvas(ax, size=(WIDTH, 4.6))
    (panel,) = on.axes
    for name, look in looks(paths).items():
        _draw(panel, name, paths[name], look)
    _scale(panel, [path for seeds in paths.values() for path in seeds])
    panel.set_xlabel(labels[0])
    panel.set_ylabel(labels[1])
    _legend(panel)
    tidy(panel)
    methods = "; ".join(f"{name}: {count(len(seeds), 'seed')}" for name, seeds in paths.items())
    return on.finish(f"{labels[0]} against {labels[1]} over training; {methods}.")


def _check(name: str, seeds: Sequence[Path]) -> None:
    if not seeds:
        raise ValueError(f"expected at least one path of {name!r}. Got none. Leave the method out.")
    for task, distill in seeds:
        if len(task) != len(distill) or not len(task):
            raise ValueError(
                f"expected as many task as distillation losses of {name!r}, at least one. "
                f"Got {len(task)} and {len(distill)}. Give one of each for an epoch."
            )


def _draw(ax: Axes, name: str, seeds: Sequence[Path], look: Look) -> None:
    if len(seeds) > 1:
        for task, distill in seeds:
            ax.plot(task, distill, color=look.color, linewidth=0.6, alpha=0.6)
    epochs = min(len(task) for task, _ in seeds)
    task, distill = (np.mean([path[k][:epochs] for path in seeds], axis=0) for k in (0, 1))
    label = f"{name}: {count(len(seeds), 'seed')}, {count(epochs, 'epoch')}"
    ax.plot(task, distill, color=look.color, linestyle=look.linestyle, linewidth=2.0, label=label)
    for epoch, face in ((0, "white"), (-1, look.color)):
        ax.plot(
            task[epoch],
            distill[epoch],
            color=look.color,
            marker=look.marker,
            markersize=7,
            markerfacecolor=face,
            markeredgewidth=1.5,
            zorder=3,
        )


def _scale(ax: Axes, paths: Sequence[Path]) -> None:
    if is_wide(np.concatenate([task for task, _ in paths])):
        ax.set_xscale("log")
    if is_wide(np.concatenate([distill for _, distill in paths])):
        ax.set_yscale("log")


def _legend(ax: Axes) -> None:
    handles, _ = ax.get_legend_handles_labels()
    handles += [
        Line2D(
            [], [], color="black", linestyle="none", marker="o", markerfacecolor=face, markeredgewidth=1.5, label=label
        )
        for face, label in (("white", "first epoch"), ("black", "last epoch"))
    ]
    ax.legend(
        handles=handles, title="thick: mean; thin: one seed", fontsize="small", title_fontsize="small", framealpha=0.9
    )
