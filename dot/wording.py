"""What surfaces are of, in words from what their files say: on which images, along which directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

import landscape as ls
from landscape.results import PENDING

_SPLITS = {"train": "the training images", "test": "the test images"}
_KINDS = {"random": "random directions", "gradient": "directions of the gradient"}
Named = Mapping[str, Sequence[ls.Surface]]
"""Surfaces of each method."""


def told(surfaces: Named, word: Callable[[ls.Surface], str]) -> str:
    """One word for all; where methods differ, each with the methods that it is of."""
    methods: dict[str, list[str]] = {}
    for name, group in surfaces.items():
        methods.setdefault(" or ".join(dict.fromkeys(map(word, group))), []).append(name)
    if len(methods) == 1:
        return next(iter(methods))
    return " and ".join(f"{said} ({', '.join(names)})" for said, names in methods.items())


def images(surface: ls.Surface) -> str:
    """Of which split the images are."""
    return _SPLITS.get(str(surface.attrs.get("split")), "images of a split that is not stated")


def directions(surface: ls.Surface) -> str:
    """How the directions were found and scaled."""
    scale, kind = surface.attrs.get("normalize"), str(surface.attrs.get("kind", "random"))
    of = _KINDS.get(kind, f"directions of kind {kind}")
    if scale is None:
        return of
    return f"{of} that are not normalised" if scale == "none" else f"{scale}-normalised {of}"


def random(surfaces: Named) -> bool:
    """Whether all are along random directions."""
    return all(one.attrs.get("kind", "random") == "random" for group in surfaces.values() for one in group)


def scaled(surfaces: Named) -> bool:
    """Whether the directions of all are scaled to the weights, in one way."""
    scales = {one.attrs.get("normalize", "none") for group in surfaces.values() for one in group}
    return len(scales) == 1 and "none" not in scales


def finite(surface: ls.Surface, term: str) -> bool:
    """Whether any cell of a term was measured and is finite."""
    return bool((np.isfinite(surface.values(term)) & (surface.status != PENDING)).any())
