"""Which examples of each cell were evaluated, and their losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landscape.results import Array

Positions = NDArray[np.int64]
"""Places in the random order of the examples."""


class Samples:
    """Losses of several terms at any examples of any cells, float32: what is kept in a file, and resumed from.

    Args:
        terms: How many terms.
        population: N, the number of examples.
    """

    def __init__(self, terms: int, population: int) -> None:
        self.terms, self.population = terms, population
        self._positions: dict[int, Positions] = {}
        self._values: dict[int, NDArray[np.float32]] = {}
        self._counts: dict[int, int] = {}

    @property
    def evaluated(self) -> int:
        """How many examples, over all cells, those whose losses were dropped included."""
        return sum(self._counts.values())

    def count(self, cell: int) -> int:
        """How many examples of a cell were evaluated."""
        return self._counts.get(cell, 0)

    def missing(self, cell: int, wanted: Positions) -> Positions:
        """Which of the wanted positions of a cell are not there yet."""
        if cell not in self._positions:
            return wanted
        return wanted[self._where(cell)[wanted] < 0]

    def put(self, cell: int, positions: Positions, values: Array) -> None:
        """Add ``[terms, k]`` values of k positions that are not there yet."""
        old = self._positions.get(cell, np.empty(0, np.int64))
        before = self._values.get(cell, np.empty((self.terms, 0), np.float32))
        with np.errstate(over="ignore"):
            now = np.asarray(values).astype(np.float32)
        self._positions[cell] = np.concatenate([old, positions])
        self._values[cell] = np.concatenate([before, now], axis=1)
        self._counts[cell] = self.count(cell) + len(positions)

    def get(self, cell: int, positions: Positions) -> Array:
        """``[terms, k]`` float64, of positions that are all there."""
        return self._values[cell][:, self._where(cell)[positions]].astype(np.float64)

    def take(self, cell: int, other: Samples) -> None:
        """Have what another collection has of a cell."""
        self._counts[cell] = other.count(cell)
        if cell in other._positions:
            self._positions[cell], self._values[cell] = other._positions[cell], other._values[cell]

    def renumbered(self, numbers: Mapping[int, int]) -> Samples:
        """A copy of some cells under other numbers, ``{old: new}``."""
        found = Samples(self.terms, self.population)
        for old, new in numbers.items():
            if old in self._positions:
                found._positions[new], found._values[new] = self._positions[old], self._values[old]
                found._counts[new] = len(self._positions[old])
        return found

    def drop(self, cell: int) -> None:
        """Forget the losses of a cell; they still count as evaluated."""
        self._positions.pop(cell, None)
        self._values.pop(cell, None)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, as arrays."""
        cells = list(self._positions)
        return {
            "cells": np.array(cells, np.int64),
            "counts": np.array([len(self._positions[c]) for c in cells], np.int64),
            "positions": np.concatenate([np.empty(0, np.int64), *(self._positions[c] for c in cells)]).astype(np.int32),
            "values": np.concatenate(
                [np.empty((self.terms, 0), np.float32), *(self._values[c] for c in cells)], axis=1
            ),
            "evaluated": np.array(list(self._counts.items()), np.int64).reshape(-1, 2),
        }

    @classmethod
    def restored(cls, terms: int, population: int, state: Mapping[str, NDArray[Any]]) -> Samples:
        """From what `state` returned."""
        self = cls(terms, population)
        ends = np.cumsum(state["counts"])
        for cell, end, count in zip(state["cells"].tolist(), ends, state["counts"], strict=True):
            self._positions[cell] = state["positions"][end - count : end].astype(np.int64)
            self._values[cell] = state["values"][:, end - count : end].astype(np.float32)
        self._counts = {int(cell): int(count) for cell, count in state["evaluated"]}
        return self

    def _where(self, cell: int) -> NDArray[np.int64]:
        """For each position, the column of the values that it is in; -1: none."""
        where = np.full(self.population, -1)
        positions = self._positions.get(cell)
        if positions is not None:
            where[positions] = np.arange(len(positions))
        return where
