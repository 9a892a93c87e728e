"""Means and bands of repeated curves."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D

from landscape.results import Array


def band(rows: Array, low: float, high: float) -> tuple[Array, Array, Array]:
    """Mean and two quantiles of rows ``[n, m]``, each ``[m]``.

    A column with a value that is not finite has none of the three: leaving that value out would show the column
    lower than it is.
    """
    known = np.isfinite(rows).all(axis=0)
    drawn = np.full((3, rows.shape[1]), np.nan)
    drawn[0, known] = rows[:, known].mean(axis=0)
    drawn[1:, known] = np.quantile(rows[:, known], (low, high), axis=0)
    return drawn[0], drawn[1], drawn[2]


def mark_alone(line: Line2D, values: Array, marker: str) -> None:
    """Markers on those of a line's values ``[n]`` that have none on either side: no line goes through them."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    alone = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])
    if alone.size:
        line.set(marker=marker, markersize=3.5, markevery=alone.tolist())


def mean_of_known(values: Array, axis: int | tuple[int, ...]) -> Array:
    """Mean over ``axis`` of the values that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)
