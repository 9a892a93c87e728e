"""What of a surface can be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from landscape.grid import finest
from landscape.results import PENDING, Array, Sampled, Surface

MAX_PLANES = 6
"""More side by side are too small to read."""


def measured(surface: Surface, term: str) -> Array:
    """Values of ``term`` in the shape of the grid, NaN where they are pending or not finite."""
    values = surface.values(term)
    return np.where((surface.status != PENDING) & np.isfinite(values), values, np.nan)


def relative_error(surface: Surface, term: str) -> Array:
    """Standard error of each cell as a share of its mean's magnitude: of sampling, or over the examples."""
    error = surface.sem(term) if surface.sampled is None else surface.sampled.sampling_sem[term]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = error / np.abs(measured(surface, term))
    return np.where(np.isfinite(found), found, np.nan)


def check_term(name: str, surface: Surface, term: str) -> None:
    """Refuse a term that was not measured.

    Raises:
        ValueError: The surface has no such term.
    """
    if term not in surface.terms:
        known = ", ".join(surface.terms)
        raise ValueError(f"expected a term of {name or 'the surface'}, one of {known}. Got {term!r}.")


def planes(surfaces: Surface | Mapping[str, Surface], term: str) -> dict[str, Surface]:
    """Planes to be drawn side by side, by name; of one that is being measured coarse to fine, its finest whole part.

    Args:
        surfaces: One plane, which gets the name ``""``, or several by name.
        term: What will be drawn.

    Raises:
        ValueError: There are none or too many, one is not a plane or lacks the term, or no value is finite.
    """
    named = {"": surfaces} if isinstance(surfaces, Surface) else dict(surfaces)
    if not 1 <= len(named) <= MAX_PLANES:
        raise ValueError(f"expected 1 to {MAX_PLANES} surfaces. Got {len(named)}. Draw several figures.")
    for name, surface in named.items():
        if surface.dims != ("y", "x"):
            raise ValueError(f"expected planes with dims ('y', 'x'). Got {surface.dims} for {name!r}. Draw its curves.")
        check_term(name, surface, term)
    if not any(np.isfinite(measured(surface, term)).any() for surface in named.values()):
        raise ValueError(f"expected at least one finite value of {term!r}. Got none. Finish the measurement first.")
    return dict(sharpest(name, surface) for name, surface in named.items())


def sharpest(name: str, surface: Surface) -> tuple[str, Surface]:
    """Of a plane that is being measured coarse to fine the finest whole part, which its name then tells."""
    if surface.complete or surface.attrs.get("plan", {}).get("order") != "coarse-to-fine":
        return name, surface
    rows, columns = finest(surface.status != PENDING)
    if not rows.size:
        return name, surface
    part = np.ix_(rows, columns)
    so_far = f"{len(rows) * len(columns)} of {surface.status.size} cells so far"
    return f"{name}, {so_far}" if name else so_far, replace(
        surface,
        x=surface.x[columns],
        y=plane_y(surface)[rows],
        means={of: values[part] for of, values in surface.means.items()},
        sems={of: values[part] for of, values in surface.sems.items()},
        status=surface.status[part],
        sampled=surface.sampled and _cut(surface.sampled, part),
    )


def _cut(sampled: Sampled, part: tuple[Array, ...]) -> Sampled:
    errors = [{of: values[part] for of, values in arrays.items()} for arrays in sampled.arrays.values()]
    return Sampled(sampled.n_examples[part], *errors)


def plane_y(surface: Surface) -> Array:
    """The second coordinate ``[ny]``, which every plane has."""
    assert surface.y is not None
    return surface.y


def value_range(surfaces: Mapping[str, Surface], term: str) -> tuple[float, float]:
    """Smallest and largest finite value of ``term`` over all surfaces."""
    values = np.concatenate([measured(surface, term).ravel() for surface in surfaces.values()])
    return float(np.nanmin(values)), float(np.nanmax(values))
