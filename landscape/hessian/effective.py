"""How many directions of weight space the data determine, at a stated scale."""

from __future__ import annotations

import math

import numpy as np

from landscape.hessian.means import Mean
from landscape.hessian.spectrum import Density
from landscape.results import Array


def effective_dimension(density: Density, scale: float) -> Mean:
    """The sum of lambda / (lambda + scale) over the eigenvalues, with its error: of few probes and of few steps.

    MacKay, "Bayesian interpolation", Neural Computation 4, 1992, equation 4.9 (gamma, with the prior's precision as the
    scale); Maddox, Benton and Wilson, "Rethinking parameter counting in deep models", arXiv:2003.02139, 2020, equation
    2. It is defined for matrices without negative eigenvalues. Those of a Hessian at a saddle count as 0: the function
    has a pole at -scale, and a direction of negative curvature is not one that the data determine. Their share is
    ``density.mean(lambda values: values < 0)``; a Gauss-Newton density has none.

    Args:
        density: Of the curvature of a mean over N examples, with which the prior's precision over N goes.
        scale: In units of the eigenvalues, positive. The smaller, the more steps it takes to tell the eigenvalues
            around it from 0: what three quarters of the steps give otherwise is part of the error.

    Raises:
        ValueError: ``scale`` is not a positive number.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be a positive number. Got {scale}.")

    def share(values: Array) -> Array:
        kept = np.maximum(values, 0.0)
        return np.asarray(kept / (kept + scale))

    value, sem, low, high = (density.size * number for number in density.mean(share))
    misplaced = abs(value - density.size * density.coarse.mean(share).value)
    half = 0.5 * (high - low) * math.hypot(sem, misplaced) / sem if sem else misplaced
    return Mean(value, math.hypot(sem, misplaced), value - half, value + half)
