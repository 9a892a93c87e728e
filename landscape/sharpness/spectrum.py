"""The curvature itself: its largest eigenvalue and its trace."""

from __future__ import annotations

import numpy as np

from landscape import hessian
from landscape.problem import Problem
from landscape.sharpness import centres
from landscape.sharpness.measure import Definition, Measure

_CLOSE = 0.1
"""Residual, as a share of an eigenvalue, up to which it is one although its search did not converge."""


def top_eigenvalue(problem: Problem, term: str, products: int, seed: int) -> Measure:
    """The largest eigenvalue of the Hessian of the loss; negative only where the loss curves down in every direction.

    Args:
        problem: Model, objective and data. Parameters that require gradients count.
        term: A term that can be differentiated twice.
        products: With the Hessian, after which the search ends. What it has then counts where its residual is within
            10 % of it: there is an eigenvalue within the residual, which stands for the interval.
        seed: Of the search.

    Raises:
        ValueError: As `landscape.hessian.eigenpairs`; or the search ends with a larger residual.
    """
    found = hessian.eigenpairs(problem, term, k=1, max_products=products, seed=seed, label="flatness: eigenvalue")
    what = Definition(
        key="top-eigenvalue",
        name="top Hessian eigenvalue",
        text="largest second derivative of the loss along any direction of length 1",
        source="Keskar et al. 2017, section 2.2; Lanczos: Wu & Simon 2000",
        flatter="small",
        invariant="none",
    )
    value, residual = float(found.values[0]), float(found.residuals[0])
    if found.converged:
        return centres.single(what, value, f"within {residual:.1g}")
    if residual > _CLOSE * abs(value):
        raise ValueError(
            f"the search for the top eigenvalue must come within {_CLOSE:.0%} of it. Got {value:.3g} with a residual "
            f"of {residual:.1g} after {products} products. Use more products."
        )
    note = f"within {residual:.1g}, not converged"
    return Measure(what, value, value - residual, value + residual, np.array([value]), note=note)


def trace(problem: Problem, term: str, rel_error: float, products: int, seed: int) -> Measure:
    """The trace of the Hessian of the loss, the sum of its eigenvalues; a sample is what a random probe tells.

    Its interval is that of `landscape.hessian.trace`, which allows for skewed probes.

    Args:
        problem: As for `top_eigenvalue`.
        term: Likewise.
        rel_error: Relative standard error that is wanted.
        products: With the Hessian, after which the estimate ends; its interval holds all the same.
        seed: Of the probes.

    Raises:
        ValueError: As `landscape.hessian.trace`.
    """
    found = hessian.trace(problem, term, rel_error, max_products=products, seed=seed, label="flatness: trace")
    what = Definition(
        key="trace",
        name="Hessian trace",
        text="sum of the eigenvalues of the Hessian of the loss: times half the variance, it is the mean rise under "
        "little Gaussian noise",
        source="Dinh et al. 2017, section 2; probes: Hutchinson 1990",
        flatter="small",
        invariant="none",
    )
    wanted = "" if found.converged else f"not to the {100 * rel_error:g} % that was wanted"
    return Measure(what, found.value, found.low, found.high, found.samples, note=wanted)
