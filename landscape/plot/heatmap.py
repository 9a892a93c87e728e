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
from landscape.plot._canvas import Given, canvas
from landscape.plot._cells import UNKNOWN, edges, hatch, key
from landscape.plot._conflicts import common_terms
from landscape.plot._names import short
from landscape.plot._room import at_least, columns_of
from landscape.plot._style import WIDTH
from landscape.results import Array

Value = Literal["cosine", "magnitude"]

# From dark to light through a grey at the middle, red below it and blue above: the sign shows in a greyscale print too.
_SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#3d0011", "#8f1a22", "#cb6450", "#a8a8a8", "#86bae4", "#b5d8f2", "#e8f5fd"]
)
_PANELS = 6
_ROW, _TALLEST, _AROUND = 0.17, 6.0, 0.6
"""Inches of a layer, as long as its panel is no taller than so many; and of what is around a panel."""
_NAME = 0.125
"""Inches that the name of a layer needs in height."""
_LETTERS = 18
"""Of the name of a layer in a figure of half the usual width."""


class _Shown(NamedTuple):
    of: Callable[[Array], Array]
    said: str
    colors: Colormap | str
    norm: Normalize


_VALUES: dict[str, _Shown] = {
    "cosine": _Shown(inner_products.cosine, "cosine of the\n{a} and {b} gradients", _SIGNED, Normalize(-1, 1)),
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
    rows = -(-len(named) // columns)
    most = max(len(one.layers) for one in named.values())
    tall = rows * (_AROUND + min(_TALLEST, max(1.1, _ROW * most)))
    on = canvas(ax, len(named), size=at_least(WIDTH, max(2.6, tall), 0.75 * tall), columns=columns, share_y=alike)
    room = on.figure.get_figheight() / rows - _AROUND
    unknown = [
        _draw(panel, one, shown.of(one.gram).T, shown, room if not alike or not on.own or i % columns == 0 else 0)
        for i, (panel, one) in enumerate(zip(on.axes, named.values(), strict=True))
    ]
    for panel, name in zip(on.axes, named, strict=True):
        panel.set_title(short(name), fontsize="medium")
    on.label_x("step")
    said = shown.said.format(a=short(a), b=short(b))
    bar = on.figure.colorbar(ScalarMappable(shown.norm, shown.colors), ax=on.axes, aspect=24)
    bar.set_label(said, fontsize="small")
    if any(unknown):
        on.legend([key(UNKNOWN, "undefined: a gradient is zero")])
    records = "; ".join(
        f"{f'{name}: ' if name else ''}{count(len(one.step), 'record')}, {count(len(one.layers), one.by)}"
        for name, one in named.items()
    )
    of = shown.said.replace("\n", " ").format(a=a, b=b)
    return on.finish(f"{of[0].upper()}{of[1:]} in each {next(iter(named.values())).by} over training; {records}.")


def _check(named: Mapping[str, Conflict]) -> None:
    if not 1 <= len(named) <= _PANELS:
        raise ValueError(f"expected 1 to {_PANELS} recordings. Got {len(named)}. Draw several figures.")
    for name, one in named.items():
        if not len(one.step):
            raise ValueError(f"a recording must have records. Got none{f' of {name!r}' if name else ''}.")


def _draw(ax: Axes, conflict: Conflict, values: Array, shown: _Shown, room: float) -> bool:
    """Draw ``values`` ``[L, B]`` with the layers' names that fit into ``room`` inches; whether some are unknown."""
    order = np.argsort(conflict.step)
    x, y = edges(conflict.step[order].astype(np.float64)), np.arange(len(conflict.layers) + 1, dtype=np.float64) - 0.5
    values = values[:, order]
    ax.pcolormesh(x, y, values, norm=shown.norm, cmap=shown.colors, rasterized=True)
    hatch(ax, x, y, np.isnan(values), UNKNOWN)
    ax.set_xlim(x[0], x[-1])
    ax.set_ylim(y[-1], y[0])
    if room > 0:
        every = int(np.ceil(_NAME * len(conflict.layers) / room))
        letters = _LETTERS * columns_of(WIDTH, 2, WIDTH / 2)
        ticks = np.arange(0, len(conflict.layers), every)
        ax.set_yticks(ticks, labels=[short(conflict.layers[i], letters) for i in ticks], fontsize="small")
    ax.tick_params(axis="y", length=0)
    ax.locator_params(axis="x", nbins=4)
    return bool(np.isnan(values).any())
