"""A conflict in a few lines, as text and as HTML."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from markupsafe import Markup

from landscape.conflict.intervals import interval, intervals
from landscape.conflict.result import Conflict
from landscape.markup import paragraph, table

_FEW = 20
"""Batches: a percentile interval from 5 normal values holds their mean in 86 of 100 cases, from 10 in 92."""

_HEAD = ("", "mean of batches", "95 % interval", "all examples", "split halves")


def text(conflict: Conflict) -> str:
    """A title, a table and what has to be known to read it."""
    table = [_HEAD, *_rows(conflict)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([_title(conflict), *lines, *notes(conflict)])


def html(conflict: Conflict) -> str:
    """The same for a notebook."""
    below = Markup("").join(map(paragraph, notes(conflict)))
    return paragraph(_title(conflict), bold=True) + table(_HEAD, _rows(conflict)) + below


def notes(conflict: Conflict) -> list[str]:
    """What the numbers leave out, a sentence each."""
    records = len(conflict.step)
    apart = {frozenset(pair) for pair in conflict.attrs.get("share_no_parameter", [])}
    found = []
    for a, b in combinations(conflict.terms, 2):
        pair = conflict.pair(a, b)
        if {a, b} in apart:
            found.append(f"{a} and {b} share no parameter: cosine 0 by construction.")
        undefined = int(np.isnan(pair.cosine).sum())
        if undefined:
            found.append(
                f"The cosine of {a} and {b} is undefined in {undefined} of {records} batches, in which a gradient is "
                "zero: these are left out."
            )
    for term, norms in conflict.layer_norm.items():
        zeros = dict(zip(conflict.layers, (norms == 0).sum(axis=0).tolist(), strict=True))
        where = [f"{name} ({n} of {records} batches)" for name, n in zeros.items() if n]
        if where:
            found.append(f"The gradient of {term} is zero, and cosines with it undefined, in {', '.join(where)}.")
    if conflict.sizes is None and records > 1:
        found.append("Records of a training run follow each other: intervals that take them as independent are narrow.")
    elif 1 < records < _FEW:
        found.append(f"From fewer than {_FEW} batches the intervals are too narrow.")
    if records == 1:
        found.append("One batch does not tell how batches differ: intervals, variances and split halves need two.")
    return found


def _title(conflict: Conflict) -> str:
    counts = ""
    if conflict.whole is not None:
        each = zip(conflict.terms, conflict.whole.counts, strict=True)
        counts = " (" + ", ".join(f"{term} over {int(n):,}" for term, n in each) + ")"
    records, layers = len(conflict.step), len(conflict.layers)
    return f"Conflict of {', '.join(conflict.terms)}: {records} batches{counts}, {layers} {conflict.by}s"


def _rows(conflict: Conflict) -> list[tuple[str, ...]]:
    rows = [_cosine(conflict, a, b) for a, b in combinations(conflict.terms, 2)]
    if len(conflict.terms) == 2:
        for name, (mean, low, high, _) in intervals(conflict).items():
            if name != "cosine":
                rows.append((name, _number(mean), _between(low, high), "", ""))
    for term, norms in conflict.norm.items():
        whole = "" if conflict.whole is None else _number(conflict.whole.norm[term])
        known = norms if conflict.sizes is None else norms[conflict.sizes[:, conflict.terms.index(term)] > 0]
        rows.append((f"norm of {term}", _number(known.mean() if len(known) else np.nan), "", whole, ""))
    if conflict.whole is not None:
        ratios = conflict.whole.signal_to_noise
        rows += [(f"signal to noise of {term}, a batch", "", "", _number(ratios[term]), "") for term in conflict.terms]
    return rows


def _cosine(conflict: Conflict, a: str, b: str) -> tuple[str, ...]:
    pair = conflict.pair(a, b)
    mean, low, high, _ = interval(pair.cosine)
    whole = ("", "") if pair.whole is None else (_number(pair.whole.cosine), _number(pair.whole.split_half_cosine))
    return (f"cosine of {a} and {b}", _number(mean), _between(low, high), *whole)


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3g}"


def _between(low: float, high: float) -> str:
    return "undefined" if np.isnan(low) else f"{low:.3g} to {high:.3g}"
