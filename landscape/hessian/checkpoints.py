"""Curvature over a training run: how convex the loss is at each of its checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from landscape import modules
from landscape.derivatives import Derivatives, Kind
from landscape.directions.trajectory import Checkpoint, loaded
from landscape.directions.weights import read
from landscape.hessian.ends import ends, warn_of_given_up
from landscape.hessian.searching import check
from landscape.problem import Problem
from landscape.progress import bar
from landscape.results import Array


@dataclass(frozen=True)
class CurvatureOfRun:
    """The ends of the spectrum at each of k checkpoints, NaN where the loss is not finite.

    Attributes:
        smallest: ``[k]``, negative where the loss is not convex.
        largest: ``[k]``.
        smallest_residual: ``[k]``: an eigenvalue lies within it of ``smallest``.
        largest_residual: ``[k]``, likewise.
        converged: ``[k]``, whether both are within the tolerance of the search.
    """

    smallest: Array
    largest: Array
    smallest_residual: Array
    largest_residual: Array
    converged: NDArray[np.bool_]


def over_checkpoints(
    problem: Problem,
    checkpoints: Sequence[Checkpoint],
    term: str | None = None,
    *,
    tolerance: float = 1e-2,
    kind: Kind = "hessian",
    parameters: Collection[str] | None = None,
    precision: Literal["as given", "float64"] = "as given",
    differences: bool = False,
    max_products: int = 200,
    seed: int = 0,
    label: str = "curvature",
) -> CurvatureOfRun:
    """The smallest and the largest eigenvalue of a term's curvature at the weights of each checkpoint.

    Args:
        problem: Model, objective and data; its model's own weights count only where a checkpoint has no buffers.
        checkpoints: Networks, state dicts, files (``.safetensors`` or what ``torch.save`` wrote) or functions that
            return a state dict, in order.
        term: A differentiable term; the objective's first one by default.
        tolerance: Of both residuals, as a share of the larger magnitude of the two.
        kind: Which matrix stands for the curvature, see `landscape.derivatives.Kind`.
        parameters: Names of those whose curvature counts, all by default.
        precision: ``"float64"`` casts model and batches to double precision.
        differences: Whether products are central differences of gradients.
        max_products: After which a search is given up, with a warning; what it has is returned with its residuals.
        seed: Of the random vector that each search starts from.
        label: Name on the progress bar.

    Raises:
        TypeError: ``checkpoints`` is no sequence, or one of them is none of these.
        ValueError: A checkpoint does not fit the model (it is named, with the tensor); or as `eigenpairs`.
        RuntimeError: The device has no memory for a single example.
    """
    check(tolerance, max_products, seed, 2)
    if not isinstance(checkpoints, Sequence) or isinstance(checkpoints, str):
        raise TypeError(f"checkpoints must be a sequence, such as a list. Got {type(checkpoints).__name__}.")
    made = Derivatives(problem, term, kind=kind, parameters=parameters, precision=precision, differences=differences)
    home, found = modules.state(problem.model), []
    with bar(len(checkpoints), label, "checkpoint") as progress:
        for number, checkpoint in enumerate(checkpoints):
            what = f"checkpoint {number}"
            made.put(home | read(problem.model, loaded(checkpoint, what), what, modules.parameters(problem.model)))
            found.append(ends(made, tolerance, max_products, seed))
            progress.update()
    given_up = sum(not each.converged for each in found)
    warn_of_given_up(given_up, f"{len(found)} checkpoints", max_products)
    return CurvatureOfRun(
        smallest=np.array([each.smallest for each in found]),
        largest=np.array([each.largest for each in found]),
        smallest_residual=np.array([each.smallest_error for each in found]),
        largest_residual=np.array([each.largest_error for each in found]),
        converged=np.array([each.converged for each in found], bool),
    )
