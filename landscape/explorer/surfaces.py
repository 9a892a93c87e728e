"""The page of surfaces: what goes into it. Its charts are made in the browser, by the scripts that it names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from landscape.explorer.arrays import packed
from landscape.explorer.methods import Method, check_term, epoch, split
from landscape.explorer.numbers import Definitions, json_number, of_minimum, of_surface
from landscape.explorer.page import Page
from landscape.plot import contour, curves
from landscape.plot._axis import coordinate_label
from landscape.plot._caption import exactness, mean_label
from landscape.plot._surfaces import measured, sharpest
from landscape.results import Surface

_SCRIPTS = (
    "surfaces_fields.js",
    "surfaces_state.js",
    "surfaces_scales.js",
    "surfaces_figures.js",
    "surfaces_cameras.js",
    "surfaces_readings.js",
    "surfaces_panels.js",
    "surfaces_remarks.js",
    "surfaces_numbers.js",
    "surfaces_downloads.js",
    "surfaces.js",
)
_TASK, _DISTILLATION = "ce", "kd"


def surface_page(methods: Sequence[Method], term: str | None) -> Page:
    """A page of planes in 3-D and from above, or of lines.

    Args:
        methods: What is shown side by side.
        term: Which term is shown first; the first that has a finite value if None.

    Raises:
        ValueError: No surface has the term, or nothing of it is finite.
    """
    every = [surface for method in methods for surface in method.surfaces]
    terms = list(dict.fromkeys(of for surface in every for of in surface.terms))
    seen = [of for of in terms if any(of in s.terms and np.isfinite(measured(s, of)).any() for s in every)]
    shown = (seen or terms)[0] if term is None else term
    check_term(methods, shown)
    definitions = Definitions()
    listed = [_method(method, definitions) for method in methods]
    plane = every[0].y is not None
    data = {
        "kind": "planes" if plane else "lines",
        "terms": [{"name": of, "label": mean_label(of, [s for s in every if of in s.terms])} for of in terms],
        "total": _total(terms),
        "term": shown,
        "methods": listed,
        "definitions": definitions.listed(),
    }
    title = "Loss surfaces" if plane else "Loss along lines"
    return Page(title, _SCRIPTS, data, lambda: _picture(methods, shown))


def _total(terms: Sequence[str]) -> dict[str, str] | None:
    """The loss that distillation minimises, as a sum of two terms; None where one was not measured."""
    if _TASK not in terms or _DISTILLATION not in terms:
        return None
    name = "total" if "total" not in terms else "total (recombined)"
    return {"name": name, "task": _TASK, "distillation": _DISTILLATION}


def _method(method: Method, definitions: Definitions) -> dict[str, Any]:
    return {
        "name": method.name or "surface",
        "surfaces": [_surface(surface, definitions) for surface in method.surfaces],
        "flatness": [of_minimum(one, definitions) for one in method.flatness],
    }


def _surface(given: Surface, definitions: Definitions) -> dict[str, Any]:
    so_far, surface = sharpest("", given) if given.y is not None else ("", given)
    points = {} if surface.directions is None or surface.path is not None else surface.directions.points
    return {
        "epoch": epoch(surface),
        "split": split(surface),
        "x": packed(surface.x),
        "y": None if surface.y is None else packed(surface.y),
        "labels": {axis: coordinate_label(axis, surface) for axis in ("x", "y")},
        "status": packed(surface.status),
        "values": {term: packed(surface.values(term)) for term in surface.terms},
        "half": {term: packed(surface.half_width(term)) for term in surface.terms},
        "origin": {term: _origin(surface, term) for term in surface.terms},
        "points": {name: packed(places) for name, places in points.items() if places.shape[1:] == (2,)},
        "numbers": {term: of_surface(surface, term, definitions) for term in surface.terms},
        "sampled": surface.sampled is not None,
        "said": [text for text in (so_far, exactness([surface])) if text],
        "attrs": _told(given),
    }


def _origin(surface: Surface, term: str) -> list[float | str | None]:
    """The mean at the unperturbed weights, and half of its 95 % interval: the cell's own, where there is one."""
    mean, sem = surface.origin[term]
    half = 1.96 * sem
    axes = [surface.x] if surface.y is None else [surface.y, surface.x]
    if surface.sampled is not None and all((axis == 0).any() for axis in axes) and surface.dims != ("direction", "x"):
        half = float(surface.half_width(term)[tuple(int(np.flatnonzero(axis == 0)[0]) for axis in axes)])
    return [json_number(mean), json_number(half)]


def _told(surface: Surface) -> list[list[str]]:
    """The provenance as rows of texts."""
    size = " x ".join(f"{name} {n}" for name, n in zip(surface.dims, surface.status.shape, strict=True))
    return [["grid", size], ["terms", ", ".join(surface.terms)], *([key, _text(v)] for key, v in surface.attrs.items())]


def _text(value: Any) -> str:
    if isinstance(value, (dict, list, tuple, np.ndarray)):
        return json.dumps(value, ensure_ascii=False, indent=1, default=str) if len(value) else ""
    return str(value)


def _picture(methods: Sequence[Method], term: str) -> Any:
    """The last surface of each method that has something to see."""
    shown = {
        method.name: surface
        for method in methods
        for surface in sorted(method.surfaces, key=lambda one: epoch(one) or 0)
        if term in surface.terms and np.isfinite(measured(surface, term)).any()
    }
    first = next(iter(shown.values()))
    return contour(shown, term=term) if first.y is not None else curves(shown, term=term)
