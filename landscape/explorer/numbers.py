"""Numbers of surfaces and minima for a table in a page: each refers to its definition, which is written once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from landscape.results import Surface
from landscape.sharpness import Flatness, curvatures
from landscape.sharpness.area import low_loss
from landscape.sharpness.curvature import curvature
from landscape.sharpness.curvature import defined as curvature_defined
from landscape.sharpness.measure import Measure
from landscape.sharpness.widths import width

_RISES = (0.1, 1.0)


class Definitions:
    """Rows of the table: short names, names and definitions, in the order in which they came."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], int] = {}

    def number(self, key: str, name: str, text: str) -> int:
        """Which row it is; a new one where it has not come before."""
        return self._known.setdefault((key, name, text), len(self._known))

    def listed(self) -> list[dict[str, str]]:
        """All of them."""
        return [{"key": key, "name": name, "text": text} for key, name, text in self._known]


def of_surface(surface: Surface, term: str, definitions: Definitions) -> list[dict[str, Any]]:
    """Curvature at the origin, and the size of the region of low loss; what cannot be had says why.

    There are none of a plane that is a single row. ``linear`` marks what
    of a weighted sum of terms is the weighted sum.
    """
    plane = surface.y is not None
    if min(surface.status.shape[-2:]) < 2 and plane:
        return []
    measures: list[tuple[str, Callable[[], Measure]]] = [
        (f"area-{rise:g}", lambda rise=rise: low_loss(surface, term, rise))  # type: ignore[misc]
        if plane
        else (f"width-{rise:g}", lambda rise=rise: width(surface, term, rise))  # type: ignore[misc]
        for rise in _RISES
    ]
    rows = _along_axes(surface, term, definitions) if plane else []
    if not plane:
        measures.insert(0, ("curvature", lambda: curvature(surface, term)))
    for key, measure in measures:
        try:
            rows.append(_row(measure(), definitions) | {"linear": key == "curvature"})
        except ValueError as error:
            rows.append({"key": key, "why": _reason(error)})
    return rows


def of_minimum(flatness: Flatness, definitions: Definitions) -> dict[str, Any]:
    """All measures of a minimum, and of which term and split they are."""
    rows = [_row(measure, definitions) for measure in flatness]
    rows += [{"key": key, "why": why} for key, why in flatness.left_out.items()]
    return {"of": [str(flatness.attrs.get(key, "")) for key in ("term", "split")], "rows": rows}


def _reason(error: ValueError) -> str:
    """Why a number could not be had: what was expected, without what a caller should do about it."""
    return str(error).split(". ")[0].rstrip(".")


def json_number(value: float) -> float | str | None:
    """A number as JSON can hold it: None for NaN, a text for an infinity."""
    if math.isfinite(value):
        return float(value)
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _along_axes(surface: Surface, term: str, definitions: Definitions) -> list[dict[str, Any]]:
    text = curvature_defined(surface).text.split(": mean")[0].replace("a random direction", "the axis")
    try:
        found = curvatures(surface, term)
    except ValueError as error:
        return [{"key": f"curvature-{axis}", "why": _reason(error)} for axis in ("x", "y")]
    return [
        {
            "key": f"curvature-{axis}",
            "is": definitions.number(f"curvature-{axis}", f"curvature at the origin along {axis}", text),
            "value": json_number(value),
            "linear": True,
        }
        for axis, value in zip(("x", "y"), found, strict=True)
    ]


def _row(measure: Measure, definitions: Definitions) -> dict[str, Any]:
    return {
        "key": measure.key,
        "is": definitions.number(measure.key, measure.name, measure.definition),
        "value": json_number(measure.value),
        "low": json_number(measure.low),
        "high": json_number(measure.high),
        "note": measure.note,
        "at_least": measure.at_least,
    }
