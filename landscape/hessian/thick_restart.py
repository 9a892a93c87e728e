"""Extreme eigenpairs of a symmetric matrix that is known by its products: the thick-restart Lanczos method.

Wu and Simon, "Thick-restart Lanczos method for large symmetric eigenvalue problems" (SIAM J. Matrix Anal. Appl., 2000),
with every new vector made orthogonal to all others, twice. Convergence is looked at after each product, and a value
near zero is found like any other: scipy's ``eigsh``, which asks for an error relative to each value, passes it over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Which = Literal["LA", "SA", "LM"]
"""Of the eigenvalues: the largest, the smallest (the most negative), or the largest in magnitude."""

_ROUNDING = 1e-14


class Ritz(NamedTuple):
    """Approximate eigenpairs, the most wanted one first.

    Attributes:
        values: ``[k]``, on the CPU.
        vectors: ``[k, D]``, orthonormal.
        converged: Whether the residual of each, as estimated on the way, is within the tolerance.
    """

    values: Tensor
    vectors: Tensor
    converged: bool


def wanted(values: Tensor, which: Which | Literal["ends"]) -> Tensor:
    """Indices of ascending eigenvalues, the most wanted first; of ``"ends"`` the smallest and the largest in turn."""
    ascending = torch.arange(len(values))
    if which == "SA":
        return ascending
    if which == "LA":
        return ascending.flip(0)
    if which == "LM":
        return values.abs().argsort(descending=True, stable=True)
    return torch.stack([ascending, ascending.flip(0)], 1).flatten()[: len(values)]


def extreme(
    multiply: Callable[[Tensor], Tensor],
    start: Tensor,
    k: int,
    which: Which | Literal["ends"],
    *,
    tolerance: float,
    floor: float,
    max_products: int,
) -> Ritz:
    """The ``k`` most wanted eigenpairs of a symmetric matrix of more than `room` rows.

    An eigenvalue that is exactly repeated may be found once only, as by any method that starts from one vector.

    Args:
        multiply: The product with a vector ``[D]``.
        start: A random vector ``[D]``, float64.
        k: How many.
        which: Which ones.
        tolerance: Of a residual, as a share of the value's magnitude.
        floor: Share of the largest magnitude below which the tolerance no longer shrinks with the value.
        max_products: After which the search is given up; at least ``k``.
    """
    space = _Space(start, room(k))
    breaks = 0
    for product in range(1, max_products + 1):
        space.extend(multiply)
        if broken := space.is_invariant:
            breaks += 1
            space.start_again(breaks)
        values, mixtures = torch.linalg.eigh(space.projected)
        order = wanted(values, which)
        if space.size >= k and (product == max_products or not broken or breaks > k):
            best = order[:k]
            bounds = space.left * mixtures[-1, best].abs()
            scale = float(values.abs().max())
            done = bounds <= tolerance * values[best].abs().clamp(min=floor * scale) + _ROUNDING * scale
            if done.all() or product == max_products:
                return Ritz(values[best], space.mixed(mixtures[:, best]), bool(done.all()))
        if space.is_full:
            kept = order[: k + (room(k) - k) // 2]
            space.restart(values[kept], mixtures[:, kept])
    raise ValueError(f"max_products must be at least {k}. Got {max_products}.")


def room(k: int) -> int:
    """How many vectors are held at a time."""
    return max(2 * k + 10, 20)


class _Space:
    """An orthonormal basis, the matrix within it, and the vector that comes next."""

    def __init__(self, start: Tensor, room: int) -> None:
        self.size, self.left, self._scale = 0, 0.0, 0.0
        self._basis = start.new_zeros(room + 1, len(start))
        self._within = torch.zeros(room, room, dtype=torch.float64)
        self._basis[0] = start / start.norm()

    @property
    def projected(self) -> Tensor:
        """The matrix within the basis, ``[size, size]``."""
        return self._within[: self.size, : self.size]

    @property
    def is_full(self) -> bool:
        return self.size == len(self._within)

    @property
    def is_invariant(self) -> bool:
        """Whether the matrix does not lead out of the basis."""
        return self.left <= _ROUNDING * self._scale

    def extend(self, multiply: Callable[[Tensor], Tensor]) -> None:
        """Take the next vector into the basis, and what its product adds to the basis for the one after it."""
        product = multiply(self._basis[self.size])
        self._scale = max(self._scale, float(product.norm()))
        self.size += 1
        along, rest = self._orthogonal(product)
        self._within[self.size - 1, : self.size] = self._within[: self.size, self.size - 1] = along.cpu()
        self.left = float(rest.norm())
        if not self.is_invariant:
            self._basis[self.size] = rest / self.left

    def start_again(self, seed: int) -> None:
        """Have a random vector come next, in place of one that is nothing but rounding."""
        drawn = torch.randn(self._basis.shape[1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        _, rest = self._orthogonal(drawn.to(self._basis))
        self._basis[self.size], self.left = rest / rest.norm(), 0.0

    def restart(self, values: Tensor, mixtures: Tensor) -> None:
        """Keep a few eigenpairs of the matrix within, and the vector that comes next."""
        kept, following = self.mixed(mixtures), self._basis[self.size].clone()
        self.size = len(values)
        self._basis[: self.size], self._basis[self.size] = kept, following
        self._within[: self.size, : self.size] = torch.diag(values)

    def mixed(self, mixtures: Tensor) -> Tensor:
        """Combinations of the basis, ``[size, k]`` to ``[k, D]``."""
        return mixtures.T.to(self._basis) @ self._basis[: self.size]

    def _orthogonal(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Of a vector its part along the basis, in coordinates, and the rest."""
        basis = self._basis[: self.size]
        along = basis @ vector
        rest = vector - along @ basis
        again = basis @ rest  # takes out the rounding of the first
        return along + again, rest - again @ basis
