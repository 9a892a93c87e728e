"""A term over planes as filled surfaces in 3-D, in one scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from numpy.typing import NDArray

from landscape.plot._axis import coordinate_label, count, in_log, round_levels
from landscape.plot._canvas import Given, canvas
from landscape.plot._caption import exactness, mean_label, surfaces_said
from landscape.plot._kept import keep
from landscape.plot._room import columns_of
from landscape.plot._style import width
from landscape.plot._surfaces import measured, plane_y, planes, value_range
from landscape.plot._text import wrapped
from landscape.results import Array, Surface

_COLORS = "viridis"
_PANEL, _LEAST = 3.3, 2.0
"""Width of a panel, and the least that it may be scaled to, in inches."""
_BAR, _AROUND = 0.9, 0.45
"""Inches of the colour bar's width, and of what stands above and below a panel."""
_COLUMNS, _TICKS = 3, 6
_ELEVATION, _AZIMUTH, _ZOOM = 28, -58, 0.86
_HEIGHT = 0.72
"""Of the box, as a share of its sides."""
_FLOOR = 0.25
"""How far the floor lies under the lowest value, as a share of the range."""
_LIGHT = np.array([-0.5, -0.3, 0.81])
_SHADE = 0.35
"""How much darker a face is that has its back to the light."""
_DRAWN_ONE_BY_ONE = 1000
"""Faces of a panel; a vector file holds more of them as a picture, which is smaller."""


def relief(
    surfaces: Surface | Mapping[str, Surface], *, term: str, log: bool | None = None, ax: Given = None
) -> Figure:
    """Filled surfaces in 3-D from one point of view, with one vertical scale and one colour scale; levels on the floor.

    The corners of the faces are the cells as measured, nothing is smoothed; colour and height say the same. Where a
    cell is pending or not finite there is a hole: the faces that it is a corner of are left out, which the caption
    counts. A finite cell without a face is a dot. The cross on the floor marks the unperturbed weights.

    Args:
        surfaces: One plane, or 1 to 6 by name.
        term: Which term.
        log: Whether the scale is logarithmic; by default where all values are positive and span a factor of 30 or more.
        ax: Where to draw, axes with ``projection="3d"`` for each surface; a new figure if None.

    Raises:
        ValueError: As `contour`; axes are not 3-D; or ``log`` is asked for and a value is not positive.
    """
    named = planes(surfaces, term)
    low, high = value_range(named, term)
    log = in_log(log, (low, high))
    if log and low <= 0:
        raise ValueError(f"log needs values of {term!r} above 0. Got {low:g}. Leave log out.")
    columns = columns_of(_PANEL * _COLUMNS, min(len(named), _COLUMNS), _LEAST)
    rows = -(-len(named) // columns)
    inches = width(_PANEL * columns + _BAR)
    size = (inches, rows * (0.85 * (inches - _BAR) / columns + _AROUND))
    on = canvas(ax, len(named), size=size, columns=columns, projection="3d")
    if any(not isinstance(panel, Axes3D) for panel in on.axes):
        raise ValueError('ax must be 3-D axes, of figure.add_subplot(projection="3d"). Got flat ones.')
    scale = _Scale(low, high, log)
    for panel, surface in zip(on.axes, named.values(), strict=True):
        _draw(cast(Axes3D, panel), surface, measured(surface, term), scale)
    on.titles(list(named))
    for panel in on.axes:
        panel.set_title(panel.get_title(), fontsize="medium", y=0.93, parse_math=False)
    bar = on.figure.colorbar(
        ScalarMappable(scale.norm, _COLORS),
        ax=on.axes,
        shrink=0.75 / (len(named) / columns) ** 0.5,
        aspect=24,
        pad=0.08,
    )
    label = wrapped(mean_label(term, named.values()), 0.8 * on.figure.get_figheight())
    bar.set_label(label + ("\n(log scale)" if log else ""), parse_math=False)
    bar.set_ticks(scale.heights(scale.ticks).tolist(), labels=[f"{tick:g}" for tick in scale.ticks])
    said = surfaces_said(term, {name: [one] for name, one in named.items()})
    missing = sum(int(np.isnan(measured(surface, term)).sum()) for surface in named.values())
    holes = f"Holes: {count(missing, 'cell')} pending or not finite." if missing else ""
    return on.finish(said, " ".join(filter(None, (holes, exactness(named.values())))))


@dataclass(frozen=True)
class _Scale:
    """Where values lie in height: 3-D axes have no logarithmic scale of their own."""

    low: float
    high: float
    log: bool

    def heights(self, values: Array) -> Array:
        return np.log10(values) if self.log else values

    @property
    def ends(self) -> tuple[float, float]:
        """Heights of the lowest and the highest value, apart even where there is one value only."""
        bottom, top = map(float, self.heights(np.array([self.low, self.high])))
        return (bottom, top) if bottom < top else (bottom - 0.5, top + 0.5)

    @property
    def norm(self) -> Normalize:
        return Normalize(*self.ends)

    @property
    def floor(self) -> float:
        bottom, top = self.ends
        return bottom - _FLOOR * (top - bottom)

    @property
    def ticks(self) -> Array:
        """Round values; the one there is, where there is only one."""
        levels = round_levels(self.low, self.high, log=self.log)
        few = levels[:: -(-len(levels) // _TICKS) or 1]
        return few if few.size else np.array([self.low])


def _draw(ax: Axes3D, surface: Surface, values: Array, scale: _Scale) -> None:
    x, y, z = surface.x, plane_y(surface), scale.heights(values)
    norm, (bottom, top) = scale.norm, scale.ends
    corners = _faces(x, y, z)
    if len(corners):
        colors = colormaps[_COLORS](norm(corners[..., 2].mean(axis=1)))
        sides = np.array([np.ptp(x) or 1.0, np.ptp(y) or 1.0, (top - bottom) / _HEIGHT])
        colors[:, :3] *= 1 - _SHADE * _turned_away(corners / sides)[:, None]
        faces = Poly3DCollection(corners, facecolors=colors, edgecolors=colors, linewidth=0.2, zorder=2)
        faces.set_rasterized(len(corners) > _DRAWN_ONE_BY_ONE)
        ax.add_collection3d(faces)
    lone = np.isfinite(z) & ~_cornered(z)
    rows, columns = np.nonzero(lone)
    ax.scatter(x[columns], y[rows], z[lone], c=z[lone], cmap=_COLORS, norm=norm, s=9, depthshade=False, zorder=3)
    _draw_floor(ax, x, y, z, scale)
    keep(ax, x, y, values)
    ax.set(xlim=_ends(x), ylim=_ends(y), zlim=(scale.floor, top))
    ax.computed_zorder = False  # which would draw lines of the floor over the surface
    ax.set_zticks(scale.heights(scale.ticks), labels=[f"{tick:g}" for tick in scale.ticks])
    ax.set_xlabel(coordinate_label("x", surface))
    ax.set_ylabel(coordinate_label("y", surface))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4, prune="both"))  # at the corner that both share, ends would meet
        axis.labelpad = 0
        axis.label.set_fontsize("small")
    ax.tick_params(labelsize="small", pad=-2)
    ax.view_init(_ELEVATION, _AZIMUTH)
    ax.set_box_aspect((1, 1, _HEIGHT), zoom=_ZOOM)
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"].update(color="#dddddd", linewidth=0.5)


def _draw_floor(ax: Axes3D, x: Array, y: Array, z: Array, scale: _Scale) -> None:
    """Contour lines under the surface, and a cross where the weights are as they were."""
    levels = scale.heights(round_levels(scale.low, scale.high, log=scale.log))
    crossed = levels[(levels > np.nanmin(z, initial=np.inf)) & (levels < np.nanmax(z, initial=-np.inf))]
    if crossed.size and min(z.shape) > 1:
        ax.contour(
            x,
            y,
            z,
            levels=crossed,
            zdir="z",
            offset=scale.floor,
            cmap=_COLORS,
            norm=scale.norm,
            linewidths=0.8,
            zorder=1,
        )
    if x.min() <= 0 <= x.max() and y.min() <= 0 <= y.max():
        ax.plot(0, 0, scale.floor, marker="+", color="black", markersize=6, markeredgewidth=1.2, zorder=1)


def _faces(x: Array, y: Array, z: Array) -> Array:
    """Corners ``[n, 4, 3]`` of the faces whose four cells are all known."""
    grid = np.stack([*np.meshgrid(x, y), z], axis=-1)
    faces = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=2).reshape(-1, 4, 3)
    return faces[np.isfinite(faces).all(axis=(1, 2))]


def _cornered(z: Array) -> NDArray[np.bool_]:
    """Which cells are a corner of a face, in the shape of ``z``."""
    known = np.isfinite(z)
    face = known[:-1, :-1] & known[:-1, 1:] & known[1:, 1:] & known[1:, :-1]
    found = np.zeros_like(known)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            found[rows, columns] |= face
    return found


def _turned_away(corners: Array) -> Array:
    """How far each face is turned from the light, from 0 to 1."""
    normal = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return (1 - normal @ (_LIGHT / np.linalg.norm(_LIGHT))) / 2


def _ends(coordinates: Array) -> tuple[float, float]:
    low, high = float(coordinates.min()), float(coordinates.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)
