"""What is given to be explored, sorted by method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from landscape.plot._surfaces import MAX_PLANES, measured
from landscape.results import Surface
from landscape.sharpness import Flatness

Explored = Surface | Flatness
"""What a page of surfaces shows: heights, and numbers of the minimum that they surround."""


@dataclass(frozen=True)
class Method:
    """The surfaces of one name, and the flatness of its minimum."""

    name: str
    surfaces: tuple[Surface, ...]
    flatness: tuple[Flatness, ...]


def epoch(surface: Surface) -> int | None:
    """After which epoch the weights were kept; None where the file does not say."""
    known = surface.attrs.get("epoch")
    return int(known) if isinstance(known, Integral) else None


def split(result: Surface | Flatness) -> str | None:
    """Of which examples it is, such as ``"train"``; None where the file does not say."""
    return str(result.attrs.get("split") or "") or None


def gathered(results: Surface | Mapping[str, Surface | Sequence[Explored]]) -> list[Method]:
    """Results by name, in order.

    Raises:
        ValueError: There are not 1 to 6 names; one has no surface, or two that cannot be told apart; or there are
            planes and lines.
        TypeError: Something is neither a surface nor a flatness.
    """
    named: Mapping[str, Surface | Sequence[Explored]] = {"": results} if isinstance(results, Surface) else results
    if not 1 <= len(named) <= MAX_PLANES:
        raise ValueError(
            f"expected the surfaces of 1 to {MAX_PLANES} methods. Got {len(named)}. Make a page of fewer, or several."
        )
    found = [_method(name, given) for name, given in named.items()]
    kinds = {surface.y is not None: method.name for method in found for surface in method.surfaces}
    if len(kinds) > 1:
        raise ValueError(
            f"expected planes or lines. Got a plane of {kinds[True]!r} and lines of {kinds[False]!r}. "
            "Make a page of each."
        )
    for method in found:
        _refuse_alike(method)
    return found


def check_term(methods: Sequence[Method], term: str) -> None:
    """Refuse a term of which there is nothing to see.

    Raises:
        ValueError: No surface has it, or no value is finite.
    """
    surfaces = [surface for method in methods for surface in method.surfaces]
    having = [surface for surface in surfaces if term in surface.terms]
    if not having:
        known = ", ".join(dict.fromkeys(of for surface in surfaces for of in surface.terms))
        raise ValueError(f"expected a term of the surfaces, one of {known}. Got {term!r}.")
    if not any(np.isfinite(measured(surface, term)).any() for surface in having):
        raise ValueError(f"expected at least one finite value of {term!r}. Got none. Finish the measurement first.")


def _method(name: str, given: Surface | Sequence[Explored]) -> Method:
    every = [given] if isinstance(given, (Surface, Flatness)) else list(given)
    for one in every:
        if not isinstance(one, (Surface, Flatness)):
            raise TypeError(f"expected surfaces or flatness numbers of {name!r}. Got {type(one).__name__}.")
    surfaces = tuple(one for one in every if isinstance(one, Surface))
    flatness = tuple(one for one in every if isinstance(one, Flatness))
    if not surfaces:
        raise ValueError(f"expected at least one surface of {name!r}. Got none. Leave the name out.")
    return Method(name, surfaces, flatness)


def _refuse_alike(method: Method) -> None:
    for at, times in Counter((epoch(surface), split(surface)) for surface in method.surfaces).items():
        if times > 1:
            raise ValueError(
                f"expected one surface of each epoch and split of {method.name!r}. Got {times} of epoch {at[0]}, split "
                f"{at[1]}. Leave one out, or give it a name of its own."
            )
    for of, times in Counter((one.attrs.get("term"), split(one)) for one in method.flatness).items():
        if times > 1:
            raise ValueError(
                f"expected one flatness of each term and split of {method.name!r}. Got {times} of {of[0]}, split "
                f"{of[1]}. Leave one out."
            )
