"""Eigenvalues of a term's curvature, and their vectors."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn

from landscape import directions, modules
from landscape.derivatives import Derivatives, Kind
from landscape.directions import Directions
from landscape.directions.normalisation import Normalize, one_of
from landscape.hessian.searching import check, find, residuals_of
from landscape.hessian.thick_restart import Which
from landscape.problem import NotReached, Problem
from landscape.progress import bar
from landscape.results import Array


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues of a symmetric matrix, each with its vector and its error.

    Attributes:
        values: ``[k]``, in the order that ``which`` says; negative ones (a saddle) as they are.
        residuals: ``[k]``, the length of H v - lambda v, measured by a further product with each vector of length 1: an
            eigenvalue lies within it of the value, whether the search converged or not.
        vectors: For each ``{parameter name: tensor}`` of float64, of length 1 in all, its largest entry positive.
        products: How many products with a vector that took, those for the residuals included.
        converged: Whether all residuals, as estimated by the search, are within its tolerance.
        which: Which end of the spectrum: ``"LA"``, ``"SA"`` or ``"LM"``.
        kind: Of the matrix.
    """

    values: Array
    residuals: Array
    vectors: tuple[Mapping[str, Tensor], ...] = field(repr=False)
    products: int
    converged: bool
    which: Which
    kind: Kind

    def directions(self, model: nn.Module, *, normalize: Normalize = "none") -> Directions:
        """The eigenvectors as directions, for surfaces along them.

        Args:
            model: Whose weights are moved.
            normalize: How they are scaled to the weights that they move, see `landscape.directions.random`; by default
                they keep the length of 1, and the eigenvalue is the second derivative of the term along them.

        Raises:
            ValueError: The model has other parameters.
        """
        made = directions.from_tensors(model, list(self.vectors), normalize=normalize, partial=True)
        return replace(made, kind="eigenvectors")

    def __str__(self) -> str:
        pairs = ", ".join(f"{v:.6g} (within {r:.1g})" for v, r in zip(self.values, self.residuals, strict=True))
        return f"{pairs}; {self.products} products"


def eigenpairs(
    problem: Problem,
    term: str | None = None,
    k: int = 5,
    which: Which = "LA",
    *,
    tolerance: float = 1e-3,
    kind: Kind = "hessian",
    parameters: Collection[str] | None = None,
    precision: Literal["as given", "float64"] = "as given",
    differences: bool = False,
    max_products: int = 1000,
    seed: int = 0,
    label: str = "eigenpairs",
) -> Eigenpairs:
    """Eigenvalues at an end of the spectrum of a term's curvature over all the examples, with their vectors.

    By the thick-restart Lanczos method (Wu and Simon, SIAM J. Matrix Anal. Appl., 2000), which holds ``max(2 k + 10,
    20)`` vectors of float64; a matrix of no more rows is made whole. With ``precision="as given"`` no residual falls
    below the rounding of the products.

    Args:
        problem: Model, objective and data; measured in eval mode, the model is never written to.
        term: A differentiable term; the objective's first one by default.
        k: How many.
        which: ``"LA"``: the largest, descending; ``"SA"``: the smallest, ascending, so the most negative curvature
            first; ``"LM"``: the largest in magnitude, descending.
        tolerance: Of the residual of each, as a share of its magnitude; below a thousandth of the largest magnitude, of
            that thousandth. The eigenvalue itself is closer than its residual, as a rule by far.
        kind: Which matrix stands for the curvature, see `landscape.derivatives.Kind`.
        parameters: Names of those that count, for the diagonal block of these; see `blocks` too.
        precision: ``"float64"`` casts model and batches to double precision.
        differences: Whether products are central differences of gradients, for networks with operations that have no
            second derivative.
        max_products: After which the search is given up, with a warning; what it has is returned. The residuals take
            another product each.
        seed: Of the random vector that it starts from.
        label: Name on the progress bar.

    Raises:
        ValueError: An argument is out of its range, or the term cannot be differentiated twice, see
            `landscape.derivatives.Derivatives`.
        RuntimeError: The device has no memory for a single example.
    """
    made = Derivatives(problem, term, kind=kind, parameters=parameters, precision=precision, differences=differences)
    return _search(made, k, which, tolerance=tolerance, max_products=max_products, seed=seed, label=label)


def blocks(
    problem: Problem,
    term: str | None = None,
    k: int = 1,
    which: Which = "LA",
    *,
    by: Literal["layer", "block", "parameter"] = "layer",
    tolerance: float = 1e-3,
    kind: Kind = "hessian",
    precision: Literal["as given", "float64"] = "as given",
    differences: bool = False,
    max_products: int = 1000,
    seed: int = 0,
) -> dict[str, Eigenpairs]:
    """`eigenpairs` of the diagonal block of each part of the network: the curvature while all others stay put.

    The largest eigenvalue of a block is at most that of the whole, and the smallest at least.

    Args:
        problem: As for `eigenpairs`.
        term: Likewise.
        k: Of each part; as many as it has parameters, where these are fewer.
        which: As for `eigenpairs`.
        by: What a part is: the parameters of a ``"layer"`` (module), of a ``"block"`` of layers, or each one.
        tolerance: As for `eigenpairs`.
        kind: Likewise.
        precision: Likewise.
        differences: Likewise.
        max_products: Likewise, of each part.
        seed: Likewise.

    Returns:
        By the name of the part, without those that the term does not depend on.

    Raises:
        ValueError: As `eigenpairs`; or ``by`` is not one of those named.
    """
    every = Derivatives(problem, term, kind=kind, precision=precision, differences=differences)
    every.slope()  # refused where the term cannot be differentiated at all
    parts: dict[str, list[str]] = {}
    for name, part in modules.units(every.names, by).items():
        parts.setdefault(part, []).append(name)
    found = {}
    for part, names in parts.items():
        block = Derivatives(problem, term, kind=kind, parameters=names, precision=precision, differences=differences)
        with suppress(NotReached):
            found[part] = _search(
                block,
                min(k, block.size),
                which,
                tolerance=tolerance,
                max_products=max_products,
                seed=seed,
                label=f"eigenpairs of {part}",
            )
    return found


def _search(
    derivatives: Derivatives,
    k: int,
    which: Which,
    *,
    tolerance: float,
    max_products: int,
    seed: int,
    label: str,
) -> Eigenpairs:
    one_of("which", which, Which)
    if not 1 <= k <= derivatives.size:
        raise ValueError(f"k must be from 1 to {derivatives.size}, the number of parameters. Got {k}.")
    check(tolerance, max_products, seed, k)
    before = derivatives.products
    with bar(None, label, "product") as progress:
        ritz = find(derivatives, k, which, tolerance, max_products, seed, count=progress.update)
        residuals = residuals_of(derivatives, ritz)
    if not ritz.converged:
        warnings.warn(
            f"the search for {k} eigenpairs was given up after {max_products} products. What it has is returned: see "
            "the residuals, or use a larger max_products or tolerance.",
            stacklevel=3,
        )
    return Eigenpairs(
        values=ritz.values.numpy(),
        residuals=residuals,
        vectors=tuple(derivatives.split(vector) for vector in _signed(ritz.vectors)),
        products=derivatives.products - before,
        converged=ritz.converged,
        which=which,
        kind=derivatives.kind,
    )


def _signed(vectors: Tensor) -> Tensor:
    """Each with its largest entry positive: an eigenvector is one up to its sign only."""
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * largest.sign()
