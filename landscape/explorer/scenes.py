"""Surfaces to turn and read in a browser: one 3-D scene for each, in one colour scale and one height."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from landscape.plot._axis import coordinate_label, count, is_wide, round_levels
from landscape.plot._caption import exactness, mean_label
from landscape.plot._surfaces import measured, plane_y, planes, value_range
from landscape.results import PENDING, Array, Surface

_COLUMNS = 3
_SCENE_HEIGHT = 400
_LABELS = 7
_TITLE_HEIGHT = 110
_FONT = "system-ui, sans-serif"
# Far enough that no axis title is cut off, high enough to look into a minimum.
_CAMERA = {"eye": {"x": 2.2, "y": 2.7, "z": 1.9}, "center": {"x": 0.02, "y": -0.01, "z": -0.12}}
_AXIS_FONTS = {"title_font_size": 11, "tickfont_size": 10}
# Shading by slope alone: highlights and shadows would be read as values.
_LIGHT = {"ambient": 0.85, "diffuse": 0.25, "specular": 0.0, "fresnel": 0.0}


def explore(surfaces: Surface | Mapping[str, Surface], *, term: str) -> go.Figure:
    """A page of 3-D surfaces with shared colours and heights; the pointer reads coordinates, value and error.

    ``explore(...).write_html(path)`` gives one file that needs no network. Heights are logarithmic where all values
    are positive and span a factor of 30 or more; what follows ± is half of a 95 % interval. Cells that are pending or
    not finite are holes, counted under the name of their surface.

    Args:
        surfaces: One plane, or 1 to 6 by name.
        term: Which term.

    Raises:
        ValueError: The number of surfaces is not 1 to 6, one is not a plane or lacks the term, or no value is finite.
    """
    named = planes(surfaces, term)
    low, high = value_range(named, term)
    log = is_wide((low, high))
    columns = min(len(named), _COLUMNS)
    rows = -(-len(named) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        specs=[[{"type": "scene"}] * columns] * rows,
        subplot_titles=[_title(name, surface, term) for name, surface in named.items()],
        horizontal_spacing=0.02,
        vertical_spacing=0.08,
    )
    heights = _height_axis(low, high, term, log)
    floor, ceiling = np.log10((low, high)) if log else (low, high)
    for i, (name, surface) in enumerate(named.items()):
        place = {"row": i // columns + 1, "col": i % columns + 1}
        figure.add_trace(_trace(name, surface, term, log), **place)
        figure.update_scenes(
            xaxis=_coordinate_axis("x", surface),
            yaxis=_coordinate_axis("y", surface),
            zaxis={**heights, **_AXIS_FONTS, "title_text": ""},  # the colour bar names it
            aspectmode="cube",
            camera=_CAMERA,
            **place,
        )
    under = f"<br><sup>{html.escape(said, quote=False)}</sup>" if (said := exactness(named.values())) else ""
    figure.update_layout(
        title_text=html.escape(mean_label(term, named.values()), quote=False) + under,
        title_y=1.0,
        title_yanchor="top",
        title_pad_t=16,
        height=_SCENE_HEIGHT * rows + _TITLE_HEIGHT,
        margin={"l": 10, "r": 10, "t": _TITLE_HEIGHT, "b": 10},
        font_family=_FONT,
        coloraxis={"colorscale": "Viridis", "cmin": floor, "cmax": ceiling, "colorbar": _color_bar(heights)},
    )
    return figure


def _title(name: str, surface: Surface, term: str) -> str:
    """Name of a surface as text, and what is missing from it."""
    pending = int((surface.status == PENDING).sum())
    broken = int(np.isnan(measured(surface, term)).sum()) - pending
    holes = [f"{count(n, 'cell')} {what}" for n, what in ((pending, "pending"), (broken, "not finite")) if n]
    # plotly reads titles as a dialect of HTML.
    return "<br>".join([f"<b>{html.escape(name, quote=False)}</b>", *holes])


def _trace(name: str, surface: Surface, term: str, log: bool) -> go.Surface:
    values = measured(surface, term)
    return go.Surface(
        x=surface.x,
        y=surface.y,
        z=np.log10(values) if log else values,
        name=html.escape(name, quote=False),
        coloraxis="coloraxis",
        lighting=_LIGHT,
        text=_readings(surface, values, term),
        hoverinfo="text+name",
    )


def _readings(surface: Surface, values: Array, term: str) -> NDArray[np.object_]:
    """What the pointer shows at each cell: the value itself, also where the height is its logarithm."""
    label, errors = html.escape(term, quote=False), surface.half_width(term)
    readings = [
        [
            f"x = {x:.4g}<br>y = {y:.4g}<br>{label} = {values[i, j]:.4g} ± {errors[i, j]:.2g}"
            for j, x in enumerate(surface.x)
        ]
        for i, y in enumerate(plane_y(surface))
    ]
    # Of nested lists plotly would make one string a row.
    return np.array(readings, dtype=object)


def _coordinate_axis(axis: Literal["x", "y"], surface: Surface) -> dict[str, object]:
    """The whole axis, also where a surface is missing at its ends."""
    coordinates = getattr(surface, axis)
    return {
        "title_text": coordinate_label(axis, surface),
        "range": [coordinates.min(), coordinates.max()],
        **_AXIS_FONTS,
    }


def _height_axis(low: float, high: float, term: str, log: bool) -> dict[str, object]:
    label = html.escape(term, quote=False)
    if not log:
        margin = 0.02 * (high - low) or 1.0
        return {"title_text": label, "range": [low - margin, high + margin]}
    levels = round_levels(low, high, log=True)
    levels = levels[::2] if len(levels) > _LABELS else levels  # more would overlap on an axis seen from afar
    return {
        "title_text": f"{label} (log scale)",
        "range": [np.log10(low) - 0.02, np.log10(high) + 0.02],
        "tickvals": np.log10(levels),
        "ticktext": [f"{level:g}" for level in levels],
    }


def _color_bar(heights: Mapping[str, object]) -> dict[str, object]:
    """A colour bar with the title and the ticks of the axis of heights."""
    shared = {key: heights[key] for key in ("title_text", "tickvals", "ticktext") if key in heights}
    return {"len": 0.7, "thickness": 16, **shared}
