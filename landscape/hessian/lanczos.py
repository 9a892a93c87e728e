"""Lanczos's tridiagonal matrices of several starting vectors at once, with full reorthogonalisation and its check."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from landscape.hessian.probes import Done
from landscape.results import Array

_BREAKDOWN = 1e-10
"""A remainder this small, over the size of the matrix, is rounding: the start has no part in further directions."""


_PASSES = 2
"""Of making a direction orthogonal to the earlier ones: after one, rounding is left where the remainder is small."""


class Tridiagonal(NamedTuple):
    """What the steps from one start give.

    Attributes:
        diagonal: ``[m]``.
        beside: ``[m - 1]``, above and below it.
        overlap: Largest entry of Q^T Q off its diagonal, with Q the m directions; rounding, where all is well.
    """

    diagonal: Array
    beside: Array
    overlap: float


def lanczos(
    multiply: Callable[[Tensor], Tensor], starts: Tensor, steps: int, done: Done = lambda _: None
) -> list[Tridiagonal]:
    """Tridiagonalise a symmetric matrix from each of several starts, all of which share each call of ``multiply``.

    Every new direction is made orthogonal to all earlier ones, twice (Golub and Van Loan, "Matrix computations", 4th
    ed., section 10.3). A start whose directions are used up ends before ``steps``: what it has found is then exact.

    Args:
        multiply: ``[K, D]`` to ``[K, D]``.
        starts: ``[K, D]``, of unit length.
        steps: At most; no more than D.
        done: Told of every call how many products it was.
    """
    steps = min(steps, starts.shape[1])
    walks = [_Walk(start, steps) for start in starts]
    for _ in range(steps):
        going = [walk for walk in walks if walk.going]
        if not going:
            break
        for walk, product in zip(going, multiply(torch.stack([w.standing for w in going])), strict=True):
            walk.step(product)
        done(len(going))
    return [walk.finish() for walk in walks]


class _Walk:
    """The directions from one start, ``[m, D]``, as far as they have come."""

    def __init__(self, start: Tensor, steps: int) -> None:
        self._basis = torch.empty(steps, len(start), dtype=start.dtype, device=start.device)
        self._basis[0] = start
        self._diagonal: list[float] = []
        self._beside: list[float] = []
        self.going = True

    @property
    def standing(self) -> Tensor:
        """The direction whose product is wanted next."""
        return self._basis[len(self._diagonal)]

    def step(self, product: Tensor) -> None:
        """Take in a product."""
        along = float(self.standing @ product)
        self._diagonal.append(along)
        count = len(self._diagonal)
        known = self._basis[:count]
        rest = product
        for _ in range(_PASSES):
            rest = rest - known.T @ (known @ rest)
        length = float(rest.norm())
        size = max(max(map(abs, self._diagonal)), max(self._beside, default=0.0))
        if count == len(self._basis) or length <= _BREAKDOWN * size:
            self.going = False
            return
        self._beside.append(length)
        self._basis[count] = rest / length

    def finish(self) -> Tridiagonal:
        """The matrix, and the check of its directions."""
        known = self._basis[: len(self._diagonal)]
        products = (known @ known.T).fill_diagonal_(0)
        return Tridiagonal(np.array(self._diagonal), np.array(self._beside), float(products.abs().max()))


class Quadrature(NamedTuple):
    """Gauss's rule for the spectrum that a start sees: nodes ``[m]`` and their weights ``[m]``, which add up to 1."""

    nodes: Array
    weights: Array


def quadrature(matrix: Tridiagonal, steps: int | None = None) -> Quadrature:
    """The rule of a tridiagonal matrix, or of its first steps.

    Golub and Welsch, "Calculation of Gauss quadrature rules", Mathematics of Computation 23, 1969.
    """
    m = len(matrix.diagonal) if steps is None else min(steps, len(matrix.diagonal))
    nodes, vectors = eigh_tridiagonal(matrix.diagonal[:m], matrix.beside[: m - 1])
    return Quadrature(nodes, vectors[0] ** 2)
