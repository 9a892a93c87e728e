"""What is kept of a Rademacher probe: its share of the trace in each layer, and its squared product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from landscape import modules
from landscape.derivatives import Derivatives
from landscape.hessian.probes import Done, Matrix, rademacher
from landscape.results import Array


@dataclass(frozen=True)
class Layers:
    """Which layer each stretch of a vector belongs to.

    Attributes:
        names: Of the layers.
        sizes: Of the stretches.
        index: The layer of each stretch.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    index: tuple[int, ...]

    @classmethod
    def of(cls, matrix: Derivatives) -> Layers:
        """Of a network, whose parameters are the stretches."""
        units = modules.units(matrix.names, "layer")
        names = tuple(dict.fromkeys(units.values()))
        sizes = tuple(part.numel() for part in matrix.split(torch.empty(matrix.size)).values())
        return cls(names, sizes, tuple(names.index(unit) for unit in units.values()))


class Rows:
    """Probes v of +1 and -1 of a matrix, and what is kept of each: v . H v over each layer, then |H v|^2.

    Args:
        matrix: H.
        layers: Of its vectors.
        seed: Of the probes.
    """

    def __init__(self, matrix: Matrix, layers: Layers, seed: int) -> None:
        self.matrix, self.layers, self.seed = matrix, layers, seed

    @property
    def columns(self) -> int:
        """Length of a row."""
        return len(self.layers.names) + 1

    def vectors(self, numbers: range) -> Tensor:
        """The probes, ``[K, D]``."""
        return rademacher(self.matrix, self.seed, numbers)

    def take(self, numbers: range, done: Done) -> Array:
        """A row for each of these probes, at the cost of a product."""
        vectors = self.vectors(numbers)
        products = self.matrix.multiply(vectors)
        done(len(vectors))
        rows = torch.zeros(len(vectors), self.columns, dtype=torch.float64)
        stretches = (vectors * products).split(list(self.layers.sizes), dim=1)
        for layer, part in zip(self.layers.index, stretches, strict=True):
            rows[:, layer] += part.sum(1).cpu()
        rows[:, -1] = products.square().sum(1).cpu()
        return rows.numpy()


def totals(rows: Array) -> Array:
    """v . H v of each probe."""
    return np.asarray(rows[:, :-1].sum(1))


def squares(rows: Array) -> Array:
    """|H v|^2 of each probe."""
    return np.asarray(rows[:, -1])
