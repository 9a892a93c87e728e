"""Agreement of two gradients in each layer over training, as a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from landscape.conflict import inner_products
from landscape.conflict.result import Conflict
from landscape.plot._axis import count
from landscape.plot._canvas import Canvas, Given, canvas
from landscape.plot._cells import UNKNOWN, edges, hatch, key
from landscape.plot._conflicts import common_terms
from landscape.plot._kept import keep
from landscape.plot._names import short
from landscape.plot._room import columns_of
from landscape.plot._style import WIDTH, width
from landscape.plot._text import height, wrapped
from landscape.results import Array

Value = Literal["cosine", "magnitude"]

# From dark to light through a grey at the middle, red below it and blue above: the sign shows in a greyscale print too.
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#3d0011", "#8f1a22", "#cb6450", "#a8a8a8", "#86bae4", "#b5d8f2", "#e8f5fd"]
)
_PANELS = 6
_LEAST, _TALLEST, _AROUND = 1.1, 6.0, 0.6
"""Inches of a panel, at least and at most, and of what is around it."""
_LETTERS = 18
"""Of the name of a layer in a figure of half the usual width."""


class _Shown(NamedTuple):
    of: Callable[[Array], Array]
    said: str
    colors: Colormap | str
    norm: Normalize


_VALUES: dict[str, _Shown] = {
    "cosine": _Shown(inner_products.cosine, "cosine of the {a} and {b} gradients", _SIGNED, Normalize(-1, 1)),
    "magnitude": _Shown(
        inner_products.magnitude_similarity,
        "magnitude similarity of the {a} and {b} gradients",
        "cividis",
        Normalize(0, 1),
    ),
}


def heatmap(conflict: Conflict | Mapping[str, Conflict], *, value: Value = "cosine", ax: Given = None) -> Figure:
    """A row for each layer, from the first down to the last, and a column for each recorded step; nothing is smoothed.

    The scale is fixed. Of a cosine it reaches from -1 to 1: red and darker than the grey in the middle is conflict,
    blue and lighter is agreement. A column reaches halfway to the steps beside it. Hatched cells have no value, because
    a gradient is zero there.

    Args:
        conflict: A recording, or one for each method, of one seed.
        value: ``"cosine"``, or ``"magnitude"``: 2 |a| |b| / (|a|^2 + |b|^2), which is 1 where both are as long.
        ax: Where to draw, axes for each method; a new figure if None.

    Raises:
        ValueError: ``value`` is something else; a recording has no records; they compare different terms, or more than
            two; or there are none, or more than 6.
    """
    if value not in _VALUES:
        raise ValueError(f"value must be one of {', '.join(_VALUES)}. Got {value!r}.")
    named = {"": conflict} if isinstance(conflict, Conflict) else dict(conflict)
    _check(named)
    a, b = common_terms({name: [one] for name, one in named.items()})
    shown = _VALUES[value]
    alike = len({one.layers for one in named.values()}) == 1
    columns = columns_of(WIDTH, min(len(named), 3), 1.5) if alike else 1
    most = max(len(one.layers) for one in named.values())
    panel_height = min(_TALLEST, max(_LEAST, most * height(size="small")))
    inches = max(2.4, 0.5 + (panel_height + _AROUND) * -(-len(named) // columns))
    on = canvas(ax, len(named), size=(width(WIDTH), inches), columns=columns, share_y=alike)
    unknown = [_draw(on, panel, one, shown) for panel, one in zip(on.axes, named.values(), strict=True)]
    on.titles(list(named))
    on.spread_ticks()
    on.label_x("step")
    said = shown.said.format(a=a, b=b)
    bar = on.figure.colorbar(ScalarMappable(shown.norm, shown.colors), ax=on.axes, aspect=24)
    bar.set_label(wrapped(said, on.figure.get_figheight() - _AROUND), parse_math=False)
    if any(unknown):
        on.legend([key(UNKNOWN, "undefined: a gradient is zero")])
    records = "; ".join(
        f"{f'{name}: ' if name else ''}{count(len(one.step), 'record')}, {count(len(one.layers), one.by)}"
        for name, one in named.items()
    )
    return on.finish(f"{said[0].upper()}{said[1:]} in each {next(iter(named.values())).by} over training; {records}.")


def _check(named: Mapping[str, Conflict]) -> None:
    if not 1 <= len(named) <= _PANELS:
        raise ValueError(f"expected 1 to {_PANELS} recordings. Got {len(named)}. Draw several figures.")
    for name, one in named.items():
        if not len(one.step):
            raise ValueError(f"a recording must have records. Got none{f' of {name!r}' if name else ''}.")


def _draw(on: Canvas, ax: Axes, conflict: Conflict, shown: _Shown) -> bool:
    """Draw a recording; whether some of its values are unknown."""
    order = np.argsort(conflict.step)
    values = shown.of(conflict.gram[order]).T
    steps, rows = conflict.step[order].astype(np.float64), np.arange(len(values), dtype=np.float64)
    x, y = edges(steps), edges(rows)
    ax.pcolormesh(x, y, values, norm=shown.norm, cmap=shown.colors, rasterized=True)
    keep(ax, steps, rows, values)
    hatch(ax, x, y, np.isnan(values), UNKNOWN)
    every = int(np.ceil(len(values) * height(size="small") / max(on.height(ax), 0.1)))
    ticks = np.arange(0, len(values), every)
    letters = _LETTERS * columns_of(WIDTH, 2, WIDTH / 2)
    names = [short(conflict.layers[i], letters) for i in ticks]
    ax.set_yticks(ticks, labels=names, fontsize="small", parse_math=False)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[-1], y[0])
    return bool(np.isnan(values).any())
