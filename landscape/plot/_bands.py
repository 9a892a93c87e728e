"""Means and bands of repeated curves."""

from __future__ import annotations

import numpy as np

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


def alone(values: Array) -> list[int]:
    """Which of the values ``[n]`` have none on either side, so that no line goes through them: they need a marker."""
    known = np.concatenate([[False], np.isfinite(values), [False]])
    return np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()


def mean_of_known(values: Array, axis: int | tuple[int, ...]) -> Array:
    """Mean over ``axis`` of the values that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(count, 1), np.nan)
