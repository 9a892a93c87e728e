"""Marks on a plane through the weights: where they stand, the lowest cell, places of note, and how long a unit is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import AbstractPathEffect, withStroke

from landscape.plot._cells import edges
from landscape.plot._names import visible
from landscape.plot._surfaces import plane_y
from landscape.plot._text import wide, wrapped
from landscape.results import Array, Surface

# White needs a dark rim where the surface is bright.
RIM: list[AbstractPathEffect] = [withStroke(linewidth=1.6, foreground="#00000070")]
_DARK: list[AbstractPathEffect] = [withStroke(linewidth=2.2, foreground="#000000c0")]
_SHARE = 0.34
"""The most of a panel's width that the bar of the scale takes."""


def mark_origin(ax: Axes, surface: Surface, inches: float) -> list[Line2D]:
    """A cross at the unperturbed weights, where they lie in the plane, in a panel so many inches wide.

    Returns:
        Its entry in a legend.
    """
    x, y = edges(surface.x), edges(plane_y(surface))
    if not (x.min() <= 0 <= x.max() and y.min() <= 0 <= y.max()):
        return []
    size = _size(inches)
    ax.plot(0, 0, marker="+", color="black", markersize=0.9 * size, markeredgewidth=0.3 * size)
    ax.plot(0, 0, marker="+", color="white", markersize=0.7 * size, markeredgewidth=0.13 * size)
    return [_key("+", "unperturbed weights", markersize=6, markeredgewidth=1.4, color="black")]


def mark_lowest(ax: Axes, surface: Surface, values: Array, inches: float) -> list[Line2D]:
    """A diamond around the lowest cell; of several the first, in a panel so many inches wide.

    Returns:
        Its entry in a legend.
    """
    if not np.isfinite(values).any():
        return []
    row, column = np.unravel_index(np.nanargmin(values), values.shape)
    at = (surface.x[column], plane_y(surface)[row])
    size = _size(inches)
    for color, share in (("black", 0.28), ("white", 0.11)):
        look: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": color, "markeredgewidth": share * size}
        ax.plot(*at, marker="D", markersize=size, clip_on=False, **look)
    return [_key("D", "lowest cell", markersize=5.5, markerfacecolor="none", color="black")]


def mark_points(ax: Axes, surface: Surface, inches: float) -> list[Line2D]:
    """Places of note, of a panel so many inches wide; what lies outside of the plane as it was measured is cut off.

    Returns:
        Entries in a legend for paths; a single place has its name beside it.
    """
    if surface.directions is None:
        return []
    keys = []
    shown = ax.axis()
    for name, points in surface.directions.points.items():
        ax.plot(*points.T, "-o", color="black", markersize=4.5, linewidth=2.4, markerfacecolor="white")
        ax.plot(*points.T, "-", color="white", linewidth=1.0)
        if len(points) == 1:
            _name(ax, name, points[0], shown, inches)
        else:
            keys.append(_key("o", name, markersize=4.5, markerfacecolor="white", color="black", linestyle="-"))
    ax.axis(shown)
    return keys


def _name(ax: Axes, name: str, at: Array, shown: tuple[float, ...], inches: float) -> None:
    """A name beside a place, on the side where there is room."""
    x, y = float(at[0]), float(at[1])
    right, top = x > (shown[0] + shown[1]) / 2, y > (shown[2] + shown[3]) / 2
    ax.annotate(
        wrapped(name, 0.5 * inches, "small"),
        (x, y),
        xytext=(-5 if right else 5, -5 if top else 5),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top" if top else "bottom",
        color="white",
        fontsize="small",
        path_effects=_DARK,
        annotation_clip=True,
        parse_math=False,
    )


def scale_bar(ax: Axes, surface: Surface, inches: float) -> None:
    """A bar of a round length in a corner, with its length in the unit of the coordinates, where there is room for it.

    Args:
        ax: The panel.
        surface: What is drawn in it.
        inches: Its width.
    """
    left, right = ax.get_xlim()
    length = _round(_SHARE * abs(right - left))
    unit = surface.unit if length != 1 else surface.unit.replace("norms", "norm").replace("lengths", "length")
    said = f"{length:g} {unit}"
    if wide(said, "small") > 0.85 * inches:
        return
    across = ax.get_xaxis_transform()
    start = left + 0.06 * (right - left)
    end = start + np.copysign(length, right - left)
    ax.plot([start, end], [0.06, 0.06], transform=across, color="white", linewidth=2.0, path_effects=_DARK)
    ax.text(start, 0.085, said, transform=across, color="white", fontsize="small", path_effects=_DARK, va="bottom")


def _size(inches: float) -> float:
    """Of a mark, in points."""
    return float(np.clip(4.5 * inches, 4.5, 9.0))


def _round(most: float) -> float:
    """The largest of 1, 2 and 5 times the powers of ten up to a length."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9)))


def _key(marker: str, label: str, **of: Any) -> Line2D:
    looks: dict[str, Any] = {"linestyle": "none", "markeredgecolor": "black"}
    return Line2D([], [], marker=marker, label=visible(label), **(looks | of))


def once(keys: Sequence[Line2D]) -> list[Line2D]:
    """Entries of a legend, each name once."""
    return list({str(key.get_label()): key for key in keys}.values())
