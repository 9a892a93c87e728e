"""The curvature of a term as a matrix that is known by its products, for whatever scipy does with such."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator

from landscape.derivatives import Derivatives, Kind
from landscape.problem import Problem
from landscape.results import Array


def operator(
    problem: Problem,
    term: str | None = None,
    *,
    kind: Kind = "hessian",
    parameters: Collection[str] | None = None,
    precision: Literal["as given", "float64"] = "as given",
    differences: bool = False,
) -> Curvature:
    """The curvature of a term's mean over all examples at the problem's weights, ``[D, D]``, symmetric.

    Each product passes over all the data, in eval mode: reverse mode over reverse mode (Pearlmutter, "Fast exact
    multiplication by the Hessian", Neural Computation 1994). ``matmat`` multiplies with several vectors at once, which
    share each batch's forward pass.

    Args:
        problem: Model, objective and data; the model is never written to.
        term: A differentiable term; the objective's first one by default.
        kind: Which matrix, see `landscape.derivatives.Kind`.
        parameters: Names of those that count: the diagonal block of these. By default all that require gradients.
        precision: ``"float64"`` casts model and batches to double precision.
        differences: Whether products are central differences of gradients, see `landscape.derivatives.Derivatives`.

    Returns:
        A ``scipy.sparse.linalg.LinearOperator`` of float64; ``split`` names the parts of a vector. Errors of the
        products are those of `landscape.derivatives.Derivatives.multiply`.

    Raises:
        ValueError: An argument is not one of those named, or the model has no curvature of this kind.
    """
    made = Derivatives(problem, term, kind=kind, parameters=parameters, precision=precision, differences=differences)
    return Curvature(made)


class Curvature(LinearOperator):
    """See `operator`."""

    def __init__(self, derivatives: Derivatives) -> None:
        self.derivatives = derivatives
        super().__init__(np.dtype(np.float64), (derivatives.size, derivatives.size))

    def split(self, vector: Array) -> dict[str, Array]:
        """``{parameter name: array}`` of a vector ``[D]``, each in the parameter's shape."""
        return {name: part.numpy() for name, part in self.derivatives.split(torch.as_tensor(vector)).items()}

    def _matvec(self, x: Array) -> Array:
        return self._matmat(x.reshape(-1, 1))[:, 0]

    def _matmat(self, X: Array) -> Array:
        columns = torch.as_tensor(np.ascontiguousarray(X.T), dtype=torch.float64, device=self.derivatives.device)
        return self.derivatives.multiply(columns).T.cpu().numpy()

    def _adjoint(self) -> Curvature:
        return self
