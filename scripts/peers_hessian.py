"""The public tools for curvature, at the same work as ours: PyHessian 0.1 and curvlinops 3.

    pip install --no-deps pyhessian curvlinops-for-pytorch backpack-for-pytorch unfoldNd einops einconv opt-einsum \
        linear_operator

(``--no-deps``: else another torch and torchvision come along.) One that is not installed is said to be so. Each is
called as its documentation does, on one batch, which is PyHessian's fast case: it keeps the graph of the batch's
gradient for all its products. curvlinops makes a graph for each call, of one vector or of several.

PyHessian calls ``torch.eig``, which torch no longer has, in its density: it gets `numpy.linalg.eig` in its place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn


class Work(NamedTuple):
    """What is asked of each tool."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    k: int
    tolerance: float
    rel_error: float
    probes: int
    steps: int
    trace_products: int
    """For a tool without a stopping rule: as many as ours took."""


class Result(NamedTuple):
    """What a tool gave: products with the Hessian, and numbers to hold against a reference."""

    products: int
    values: list[float]
    error: float | None = None
    """Standard error of its samples, where it gives them."""


Tool = dict[str, Callable[[Work], Result]]
"""``"eigenvalues"``, ``"trace"`` and ``"density"`` (whose value is the second moment of the spectrum)."""


_MOST = 300
"""Products of curvlinops' trace, a third of them at once: with a thousand it was killed for want of 24 GB."""


def pyhessian() -> Tool:
    module: Any = import_module("pyhessian.hessian")
    product, count = module.hessian_vector_product, [0]

    def counted(*args: Any) -> Any:
        count[0] += 1
        return product(*args)

    module.hessian_vector_product = counted

    def made(work: Work) -> Any:
        count[0] = 0
        work.model.zero_grad()
        return module.hessian(work.model, nn.CrossEntropyLoss(), (work.images, work.labels), cuda=False)

    def eigenvalues(work: Work) -> Result:
        values, _ = made(work).eigenvalues(maxIter=1000, tol=work.tolerance, top_n=work.k)
        return Result(count[0], values)

    def trace(work: Work) -> Result:
        samples = made(work).trace(maxIter=10_000, tol=work.rel_error)
        return Result(count[0], [float(np.mean(samples))], standard_error(samples))

    def density(work: Work) -> Result:
        torch.eig = _eig  # type: ignore[attr-defined]
        nodes, weights = (np.array(found) for found in made(work).density(iter=work.steps, n_v=work.probes))
        return second_moment(count[0], nodes, weights)

    return {"eigenvalues": eigenvalues, "trace": trace, "density": density}


def curvlinops() -> Tool:
    from curvlinops import HessianLinearOperator, hutchpp_trace
    from curvlinops.papyan2020traces.spectrum import fast_lanczos

    class Counted(HessianLinearOperator):
        products = 0

        def _matmat(self, matrix: Any) -> Any:
            self.products += matrix[0].shape[-1]
            return super()._matmat(matrix)

    def made(work: Work) -> Any:
        parameters = [p for p in work.model.parameters() if p.requires_grad]
        data = [(work.images, work.labels)]
        return Counted(work.model, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)

    def eigenvalues(work: Work) -> Result:
        matrix = made(work)
        values = eigsh(matrix.to_scipy(), k=work.k, which="LA", tol=work.tolerance, return_eigenvectors=False)
        return Result(matrix.products, sorted(map(float, values), reverse=True))

    def trace(work: Work) -> Result:
        matrix = made(work)
        value = hutchpp_trace(matrix, min(work.trace_products, _MOST) // 3 * 3)
        return Result(matrix.products, [float(value)])

    def density(work: Work) -> Result:
        matrix = made(work)
        found = [fast_lanczos(matrix, work.steps) for _ in range(work.probes)]
        nodes = np.array([values.numpy() for values, _ in found])
        return second_moment(matrix.products, nodes, np.array([vectors[0].numpy() ** 2 for _, vectors in found]))

    return {"eigenvalues": eigenvalues, "trace": trace, "density": density}


def _eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    values, vectors = np.linalg.eig(matrix.numpy())
    return torch.from_numpy(np.stack([values.real, values.imag], 1)), torch.from_numpy(vectors.real)


def second_moment(products: int, nodes: np.ndarray, weights: np.ndarray) -> Result:
    """E[lambda^2] by each probe's quadrature."""
    samples = (weights * nodes**2).sum(1)
    return Result(products, [float(samples.mean())], standard_error(samples))


def standard_error(samples: Any) -> float:
    return float(np.std(samples, ddof=1) / len(samples) ** 0.5) if len(samples) > 1 else float("nan")


def installed() -> dict[str, Tool]:
    """Those that can be imported."""
    found = {}
    for name, make in (("PyHessian", pyhessian), ("curvlinops", curvlinops)):
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name} is left out ({error}): see scripts/peers_hessian.py", file=sys.stderr)
    return found
