"""Agreement of two gradients in each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.conflict.result import Conflict
from landscape.plot._axis import count
from landscape.plot._bands import mean_of_known
from landscape.plot._canvas import Given, canvas
from landscape.plot._conflicts import common_terms, recordings_said
from landscape.plot._names import visible
from landscape.plot._style import MISSING_COLOR, WIDTH, Look, looks, tidy, width
from landscape.plot._text import height, wrapped
from landscape.results import Array

_LOW, _HIGH = 0.1, 0.9
_TALLEST = 7.5
"""Inches of all rows together: what a page has room for."""
_NAME = 1.4
"""Inches of a row's name."""


def layers(conflicts: Mapping[str, Sequence[Conflict]], *, ax: Given = None) -> Figure:
    """Mean cosine of the gradients of two terms in each layer, from the first layer down to the last.

    A dot is the mean over steps, then over seeds. Its interval reaches from the lowest to the highest seed; of a single
    seed, it holds the middle 80 % of the steps. Records in which a layer has no cosine are left out. All layers have a
    row; of very many, every so many are named.

    Args:
        conflicts: For each method one recording for each seed.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: A method has no recording, the recordings differ in their layers or compare different terms, or
            there are no methods or more than 6.
    """
    a, b = common_terms(conflicts)
    names = _common_layers(conflicts)
    row = min(height(size="small") * max(1.6, 0.55 * len(conflicts)), _TALLEST / len(names))
    on = canvas(ax, size=(width(WIDTH), 0.95 + row * len(names)))
    (panel,) = on.axes
    panel.axvline(0.0, color=MISSING_COLOR, linewidth=0.8)
    row = on.height(panel) / len(names)
    shifts = np.linspace(-0.22, 0.22, len(conflicts)) if len(conflicts) > 1 else [0.0]
    for shift, (name, look) in zip(shifts, looks(conflicts).items(), strict=True):
        _draw(panel, name, conflicts[name], look, np.arange(len(names)) + shift, row)
    _name_rows(panel, names, row)
    if not on.own:  # the legend stands inside
        panel.set_ylim(len(names) - 0.5, -0.5 - height(len(conflicts) + 1, "small") / row)
    on.label_x(f"cosine of the {a} and {b} gradients")
    tidy(panel)
    on.legend()
    bars = "Dot: mean over steps and seeds; bar: lowest to highest seed; of a single seed, 10-90 % of its steps."
    return on.finish(f"Mean cosine of the {a} and {b} gradients in each layer; {recordings_said(conflicts)}.", bars)


def _name_rows(ax: Axes, names: Sequence[str], row: float) -> None:
    """Names of rows so many inches high: of every one, or where there is no room of every so many up to the last."""
    every = max(1, int(np.ceil(height(size="small") / row)))
    shown = np.arange(len(names) - 1, -1, -every)[::-1]
    texts = [wrapped(names[i], _NAME, "small", lines=1) for i in shown]
    ax.set_yticks(shown, labels=texts, fontsize="small", parse_math=False)
    ax.set_ylim(len(names) - 0.5, -0.5)


def _common_layers(conflicts: Mapping[str, Sequence[Conflict]]) -> tuple[str, ...]:
    empty = [name for name, seeds in conflicts.items() if not seeds]
    if empty:
        raise ValueError(f"expected at least one recording of {empty[0]!r}. Got none. Leave the method out.")
    found = {conflict.layers for seeds in conflicts.values() for conflict in seeds}
    if len(found) > 1:
        raise ValueError(f"expected one list of layers. Got {len(found)}. Compare networks of one architecture.")
    return found.pop()


def _draw(ax: Axes, name: str, seeds: Sequence[Conflict], look: Look, rows: Array, inches: float) -> None:
    centre, low, high = _summary(seeds)
    size = float(np.clip(72 * inches / 3.4, 1.8, 5.0))
    ax.hlines(rows, low, high, color=look.color, linewidth=0.3 * size)
    label = visible(f"{name}: {count(len(seeds), 'seed')}")
    ax.plot(centre, rows, color=look.color, linestyle="none", marker=look.marker, markersize=size, label=label)


def _summary(seeds: Sequence[Conflict]) -> tuple[Array, Array, Array]:
    """Centre and ends of the interval of each layer, each ``[L]``."""
    per_seed = np.stack([mean_of_known(seed.layer_cosine, axis=0) for seed in seeds])
    rows, ends = (per_seed, (0.0, 1.0)) if len(seeds) > 1 else (seeds[0].layer_cosine, (_LOW, _HIGH))
    known = ~np.isnan(rows).all(axis=0)
    low, high = np.full((2, rows.shape[1]), np.nan)
    low[known], high[known] = np.nanquantile(rows[:, known], ends, axis=0)
    return mean_of_known(per_seed, axis=0), low, high
