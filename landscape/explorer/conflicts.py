"""The page of gradient conflict: cosines of the terms' gradients over training, of the network and of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from landscape.conflict.intervals import interval
from landscape.conflict.result import Conflict
from landscape.conflict.summary import notes
from landscape.explorer.arrays import packed
from landscape.explorer.page import Page
from landscape.plot._style import Look, looks
from landscape.plot.cosine import cosine

_SCRIPTS = (
    "conflicts_numbers.js",
    "conflicts_state.js",
    "conflicts_axes.js",
    "conflicts_charts.js",
    "conflicts_pointer.js",
    "conflicts_table.js",
    "conflicts_files.js",
    "conflicts.js",
)
_LINE = 2.0
"""Width of a line in pixels; dashes are in these."""

_SYMBOLS = {"o": "circle", "s": "square", "D": "diamond", "^": "triangle-up", "v": "triangle-down", "P": "cross"}

_GROUPS = {
    "": "training batches",
    "heldout": "a held-out batch",
    "momentum": "momentum buffers",
    "motion": "gradients and motion",
    "heldout-motion": "gradients on a held-out batch, and motion",
}

_DEFINITIONS = (
    ("cosine", "⟨a, b⟩ / (|a| |b|) of two gradients: 1 same direction, 0 at right angles, below 0 they conflict."),
    ("mean cosine", "Mean over the records; those in which a gradient is zero have none, and are left out."),
    ("95 % interval", "Of that mean, by the bootstrap over records; it takes them as independent."),
    ("fraction negative", "Share of the records whose cosine is below 0."),
    ("all examples", "Cosine of the gradients over all the examples. The mean over batches is biased by their noise."),
    ("split halves", "The same without the noise of batches, from halves of the examples that are independent."),
)


def conflict_page(named: Mapping[str, Conflict]) -> Page:
    """A page on which recordings of gradient conflict are compared: lines over training, and a heat map of the layers.

    Every two terms of a recording can be chosen, and each of its ``groups``. Nothing is smoothed.

    Args:
        named: 1 to 6 recordings by method.

    Raises:
        ValueError: There are no recordings, or more than 6.
        TypeError: One is something else.
    """
    for name, conflict in named.items():
        if not isinstance(conflict, Conflict):
            raise TypeError(f"expected recordings of gradient conflict. Got {type(conflict).__name__} for {name!r}.")
    if not 1 <= len(named) <= 6:
        raise ValueError(f"expected 1 to 6 recordings. Got {len(named)}. Make a page of fewer, or several.")
    methods = [_method(name, named[name], look) for name, look in looks(named).items()]
    return Page(
        "Gradient conflict",
        _SCRIPTS,
        {"methods": methods, "definitions": [list(pair) for pair in _DEFINITIONS]},
        lambda: _picture(named),
        ("conflicts.css",),
    )


def _method(name: str, conflict: Conflict, look: Look) -> dict[str, Any]:
    dashes = () if isinstance(look.linestyle, str) else look.linestyle[1]
    alone = replace(conflict, groups={})  # which may have other terms
    return {
        "name": name,
        "color": look.color,
        "dash": ",".join(f"{_LINE * part:g}px" for part in dashes) or "solid",
        "symbol": _SYMBOLS[look.marker],
        "by": conflict.by,
        "provenance": [[key, _text(value)] for key, value in conflict.attrs.items()],
        "groups": [_group(of, group) for of, group in {"": alone, **conflict.groups}.items()],
    }


def _group(name: str, group: Conflict) -> dict[str, Any]:
    measured = group.sizes is not None  # at once, of a network that stood still; while training nobody counts
    order = np.argsort(group.step, kind="stable")
    return {
        "name": name,
        "text": "batches" if measured and not name else _GROUPS.get(name, name),
        "unit": "batch" if measured else "training step",
        "layers": list(group.layers),
        "step": packed(group.step[order]),
        "pairs": [_pair(group.pair(a, b), order) for a, b in combinations(group.terms, 2)],
    }


def _pair(pair: Conflict, order: Sequence[int] | Any) -> dict[str, Any]:
    found = pair.cosine
    mean, low, high, records = interval(found)
    _, fewest, most, _ = interval(np.where(np.isnan(found), np.nan, found < 0))
    whole = (np.nan, np.nan) if pair.whole is None else (pair.whole.cosine, pair.whole.split_half_cosine)
    return {
        "terms": list(pair.terms),
        "cosine": packed(found[order]),
        "layers": packed(pair.layer_cosine[order]),
        # NaN where something is not known, for which JSON has no number.
        "numbers": packed([mean, low, high, pair.fraction_negative, fewest, most, *whole, records, len(found)]),
        "measured": pair.whole is not None,
        "notes": notes(pair),
    }


def _text(value: Any) -> str:
    """An attribute in words: of a table a line for each entry."""
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {entry}" for key, entry in value.items())
    return str(value)


def _picture(named: Mapping[str, Conflict]) -> Figure:
    """The cosine of the first two terms, for those that have both."""
    a, b = next(iter(named.values())).terms[:2]
    having = {name: conflict for name, conflict in named.items() if {a, b} <= set(conflict.terms)}
    alone = {name: replace(conflict, groups={}).pair(a, b) for name, conflict in having.items()}
    return cosine({name or f"{a} and {b}": [pair] for name, pair in alone.items()})
