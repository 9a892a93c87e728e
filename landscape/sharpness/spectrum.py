"""The curvature itself: its largest eigenvalue and its trace."""

from __future__ import annotations

from landscape import hessian
from landscape.problem import Problem
from landscape.sharpness import centres
from landscape.sharpness.measure import Definition, Measure


def top_eigenvalue(problem: Problem, term: str, products: int, seed: int) -> Measure:
    """The largest eigenvalue of the Hessian of the loss; negative only where the loss curves down in every direction.

    Args:
        problem: Model, objective and data. Parameters that require gradients count.
        term: A term that can be differentiated twice.
        products: With the Hessian, after which the search ends; what it has is then a lower bound.
        seed: Of the search.

    Raises:
        ValueError: As `landscape.hessian.eigenpairs`.
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
    note = f"within {found.residuals[0]:.1g}{'' if found.converged else ', not converged'}"
    return centres.single(what, float(found.values[0]), note, at_least=not found.converged)


def trace(problem: Problem, term: str, rel_error: float, products: int, seed: int) -> Measure:
    """The trace of the Hessian of the loss, the sum of its eigenvalues; a sample is what a random probe tells.

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
    return centres.mean(what, found.samples, wanted)
