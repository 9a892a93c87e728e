"""What the losses at anchor cells say of each example's loss at another cell."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.interpolate import make_interp_spline

from landscape.results import Array

_FLOOR = 1e-3
"""Losses below this share of the smallest mean loss of an anchor are as good as 0: their logarithms stop there."""

_BEYOND = np.log(2.0)
"""How far, in logarithms, the exponential predictor may leave the range of an example's losses at the anchors."""

_LEAST = 0.1
"""Of the root mean square of all sizes, what is added to each: predictors that agree may still be wrong."""


class Predictors(NamedTuple):
    """Of one term at one cell.

    Attributes:
        columns: ``[n, p]``: the spline through the losses and, where they are not negative nor 0/1, the exponential of
            the spline through their logarithms.
        size: ``[n]``, how far off these may be: by how much they differ from each other, and from those of every
            second anchor.
    """

    columns: Array
    size: Array


def weights(anchors: Array, at: float) -> Array:
    """What each value on an axis weighs in the spline through all of them, ``[a]``; they sum to 1.

    Cubic with not-a-knot ends where four anchors or more are there, else the polynomial through them.
    """
    return _weights(tuple(anchors.tolist()), at)


@lru_cache(maxsize=4096)
def _weights(anchors: tuple[float, ...], at: float) -> Array:
    """Kept: the cells of a row have them in common."""
    return make_interp_spline(anchors, np.eye(len(anchors)), k=min(3, len(anchors) - 1))(at)


class Anchors:
    """The losses of one term at the anchor cells, for the examples of the first phase.

    Args:
        lines: For each axis of the grid the coordinates of the anchors along it, at least 2 each.
        losses: ``[a_1, ..., n]``, one axis of the array for each axis of the grid.
    """

    def __init__(self, lines: tuple[Array, ...], losses: Array) -> None:
        self.lines = lines
        flat = losses.reshape(-1, losses.shape[-1]).astype(np.float64)
        finite = np.isfinite(flat)
        self.binary = bool(np.isin(flat[finite], (0.0, 1.0)).all())
        self.losses = np.where(finite.all(0), flat, np.nan)
        self.logs = None if self.binary or (flat[finite] < 0).any() else self._logs()
        coarse = [np.unique([*range(0, len(line), 2), len(line) - 1]) for line in lines]
        self._coarse_lines = tuple(line[kept] for line, kept in zip(lines, coarse, strict=True))
        grid = np.arange(len(flat)).reshape(losses.shape[:-1])
        self._coarse = grid[np.ix_(*coarse)].ravel()

    def _logs(self) -> Array | None:
        known = self.losses[:, np.isfinite(self.losses).all(0)]
        if not known.size:
            return None
        floor = max(_FLOOR * float(known.mean(1).min()), 1e-30)
        logs = np.log(np.maximum(self.losses, floor))
        self._low, self._high = logs.min(0) - _BEYOND, logs.max(0) + _BEYOND
        return logs

    def at(self, point: tuple[float, ...]) -> Predictors:
        """The predictors at a point of the grid; NaN for examples whose loss at an anchor is not finite."""
        fine, coarse = self._weights(self.lines, point), self._weights(self._coarse_lines, point)
        linear = fine @ self.losses
        columns, size = [linear], np.abs(linear - coarse @ self.losses[self._coarse])
        if self.logs is not None:
            curved = self._exp(fine @ self.logs)
            columns.append(curved)
            size += np.abs(curved - self._exp(coarse @ self.logs[self._coarse])) + np.abs(linear - curved)
        known = size[np.isfinite(size)]
        typical = math.sqrt(float(np.square(known).mean())) if known.size else 0.0
        return Predictors(np.column_stack(columns), size + _LEAST * typical)

    def _exp(self, logs: Array) -> Array:
        return np.exp(np.clip(logs, self._low, self._high))

    @staticmethod
    def _weights(lines: tuple[Array, ...], point: tuple[float, ...]) -> Array:
        product = np.ones(1)
        for line, at in zip(lines, point, strict=True):
            product = np.outer(product, weights(line, at)).ravel()
        return product
