"""Eigenpairs at an end of the spectrum of a curvature, where its network stands, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from landscape.derivatives import Derivatives
from landscape.hessian.thick_restart import Ritz, Which, extreme, room, wanted
from landscape.results import Array

_AT_ONCE = 16
"""How many vectors share a pass where the whole matrix is made."""

_FLOOR = 1e-3


def find(
    derivatives: Derivatives,
    k: int,
    which: Which | Literal["ends"],
    tolerance: float,
    max_products: int,
    seed: int,
    *,
    floor: float = _FLOOR,
    count: Callable[[int], object] = lambda products: None,
) -> Ritz:
    """The ``k`` most wanted eigenpairs; by Lanczos, or of the whole matrix where that is no larger than its basis.

    Args:
        derivatives: Where its copy stands.
        k: How many.
        which: Which ones.
        tolerance: Of the residual of each, as a share of its magnitude.
        max_products: After which the search is given up.
        seed: Of the random vector that it starts from.
        floor: Share of the largest magnitude below which the tolerance no longer shrinks with the value.
        count: Takes in how many products were just made.
    """
    size, device = derivatives.size, derivatives.device

    def multiply(vectors: Tensor) -> Tensor:
        found = derivatives.multiply(vectors)
        count(len(vectors))
        return found

    if size <= room(k):
        rows = torch.eye(size, dtype=torch.float64, device=device).split(_AT_ONCE)
        matrix = torch.cat([multiply(each) for each in rows])
        values, vectors = torch.linalg.eigh((matrix + matrix.T).cpu() / 2)
        best = wanted(values, which)[:k]
        return Ritz(values[best], vectors[:, best].T.contiguous().to(device), True)
    start = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device)
    return extreme(
        lambda vector: multiply(vector[None])[0],
        start,
        k,
        which,
        tolerance=tolerance,
        floor=floor,
        max_products=max_products,
    )


def residuals_of(derivatives: Derivatives, ritz: Ritz) -> Array:
    """The length of H v - lambda v of each pair ``[k]``, by a product with each."""
    products = derivatives.multiply(ritz.vectors)
    return (products - ritz.values[:, None].to(products) * ritz.vectors).norm(dim=1).cpu().numpy()


def check(tolerance: float, max_products: int, seed: int, k: int) -> None:
    """Refuse numbers that are out of their range.

    Raises:
        ValueError: With what it must be.
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be at least 0 and below 1. Got {tolerance}.")
    if max_products < k:
        raise ValueError(f"max_products must be at least {k}, the number of eigenpairs. Got {max_products}.")
    if seed < 0:
        raise ValueError(f"seed must be 0 or more. Got {seed}.")
