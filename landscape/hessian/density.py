"""The spectral density of a term's curvature by stochastic Lanczos quadrature, and what follows from it."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection
from typing import Literal

import numpy as np
from scipy.integrate import trapezoid

from landscape.derivatives import Derivatives, Kind
from landscape.hessian.kept import Kept, identity_of, keeping, provenance
from landscape.hessian.lanczos import Quadrature, Tridiagonal, lanczos, quadrature
from landscape.hessian.means import student
from landscape.hessian.probes import Done, Matrix, Supply, check_seed, rademacher
from landscape.hessian.spectrum import Density, Rules
from landscape.problem import Problem
from landscape.results import Array

_OVERLAP = 1e-6
"""Directions that are not orthogonal to better than this have lost what Lanczos assumes of them."""

_MISPLACED = 0.1
"""Of the density, in absolute difference: more of it is said."""

_TAIL = 5.0
"""How many widths the axis reaches beyond the outermost nodes: 3e-7 of a Gaussian lie outside."""


def density(
    problem: Problem,
    term: str | None = None,
    *,
    probes: int = 10,
    steps: int = 64,
    kind: Kind = "hessian",
    parameters: Collection[str] | None = None,
    precision: Literal["as given", "float64"] = "as given",
    differences: bool = False,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    width: float | None = None,
    points: int = 1024,
    label: str = "density",
) -> Density:
    """The spectral density of a term's curvature by stochastic Lanczos quadrature.

    Each of some random probes v of +1 and -1 gives, after m steps of Lanczos with full reorthogonalisation, the nodes
    and weights of Gauss's quadrature for the spectrum that v sees; their mean over the probes, each node a Gaussian,
    is the density (Lin, Saad and Yang, "Approximating spectral densities of large matrices", SIAM Review 58, 2016,
    section 3.2; Ghorbani, Krishnan and Xiao, "An investigation into neural net optimization via Hessian eigenvalue
    density", ICML 2019, algorithm 1). It costs probes x steps products, and memory for steps x D numbers of 8 bytes a
    probe, of which several are advanced together where 512 MB do for them.

    Args:
        problem: Model, objective and data, all of which count.
        term: A differentiable term; the objective's first one by default.
        probes: How many; at least 2, for a band.
        steps: Of Lanczos, m; no more than D are taken.
        kind: Which matrix stands for the curvature.
        parameters: Names of those that count; all by default.
        precision: ``"float64"`` computes in double precision.
        differences: Whether products are differences of gradients, see `Derivatives`.
        out: An HDF5 file, in which every finished probe is kept: a killed call goes on from there, and one with more
            probes, or another ``width`` or ``points``, takes them from it. It is no result file, such as
            `landscape.load` reads: the same call with it returns its result at once.
        seed: Of the probes.
        width: Standard deviation of the Gaussians, in units of the eigenvalues. By default the spread of the nodes over
            the steps: about the narrowest that so many steps resolve. Give one to compare densities.
        points: How many to evaluate at.
        label: Name on the progress bar, which counts products.

    Raises:
        ValueError: An argument is out of its range; ``out`` is of another measurement; or as `Derivatives.multiply`.
        OSError: ``out`` cannot be written.
    """
    _check(probes, steps, width, seed)
    matrix = Derivatives(problem, term, parameters=parameters, kind=kind, precision=precision, differences=differences)
    steps = min(steps, matrix.size)
    with keeping(out, identity_of(out, matrix, seed, probes="lanczos", steps=steps), columns(steps)) as kept:
        found = density_of(matrix, kept, probes, steps, seed=seed, width=width, points=points, label=label)
        low, high = found.band
        numbers = {"width": found.width, "overlap": found.overlap, "quadrature_error": found.quadrature_error}
        kept.finish(provenance(matrix, seed) | numbers, found.x, {"density": found.density, "low": low, "high": high})
    _warn(found)
    found.attrs.update(provenance(matrix, seed))
    return found


def density_of(
    matrix: Matrix,
    kept: Kept,
    probes: int,
    steps: int,
    *,
    seed: int,
    width: float | None = None,
    points: int = 1024,
    label: str = "density",
) -> Density:
    """The spectral density of any symmetric matrix, as `density` does it."""

    def take(numbers: range, done: Done) -> Array:
        starts = rademacher(matrix, seed, numbers) / matrix.size**0.5
        return np.stack([_row(found, steps) for found in lanczos(matrix.multiply, starts, steps, done)])

    supply = Supply(take, kept, (steps + 2) * matrix.size, label, cost=steps)
    walks = [_walk(row) for row in supply.fill(probes)]
    rules = [quadrature(walk) for walk in walks]
    exact = [len(walk.diagonal) < steps or len(walk.diagonal) == matrix.size for walk in walks]
    fewer = [quadrature(w, None if whole else -(-3 * steps // 4)) for w, whole in zip(walks, exact, strict=True)]
    ends = min(rule.nodes[0] for rule in rules), max(rule.nodes[-1] for rule in rules)
    width = _width(ends, steps) if width is None else width
    x = _axis(ends, width, points)
    curves, coarse = (np.stack([_broadened(rule, x, width) for rule in kind]) for kind in (rules, fewer))
    mean, half = curves.mean(0), student(probes) * curves.std(0, ddof=1) / probes**0.5
    return Density(
        x,
        mean,
        np.stack([np.maximum(mean - half, 0.0), mean + half]),
        Rules.of(rules, steps),
        Rules.of(fewer, steps),
        width,
        matrix.size,
        sum(len(walk.diagonal) for walk in walks),
        max(walk.overlap for walk in walks),
        float(trapezoid(np.abs(mean - coarse.mean(0)), x)),
    )


def columns(steps: int) -> int:
    """Length of the row that is kept of a probe: the tridiagonal matrix, and the check of its directions."""
    return 2 * steps


def _row(walk: Tridiagonal, steps: int) -> Array:
    row = np.full(columns(steps), np.nan)
    row[: len(walk.diagonal)] = walk.diagonal
    row[steps : steps + len(walk.beside)] = walk.beside
    row[-1] = walk.overlap
    return row


def _walk(row: Array) -> Tridiagonal:
    steps = len(row) // 2
    m = int(np.isfinite(row[:steps]).sum())
    return Tridiagonal(row[:m], row[steps : steps + m - 1], float(row[-1]))


def _width(ends: tuple[float, float], steps: int) -> float:
    """What the steps resolve: a Gaussian of this width is a polynomial of degree 2 m to about 3e-4."""
    spread = ends[1] - ends[0]
    size = max(map(abs, ends))
    return spread / steps if spread > 1e-9 * size else 1e-3 * (size or 1.0)


def _axis(ends: tuple[float, float], width: float, points: int) -> Array:
    low, high = ends[0] - _TAIL * width, ends[1] + _TAIL * width
    least = math.ceil((high - low) / width) + 1
    if points < least:
        raise ValueError(f"points must be at least {least}, one for each width of {width:.3g}. Got {points}.")
    return np.linspace(low, high, points)


def _broadened(rule: Quadrature, x: Array, width: float) -> Array:
    """A Gaussian for each node, with an integral of 1 over ``x``."""
    curve = np.exp(-0.5 * ((x[:, None] - rule.nodes) / width) ** 2) @ rule.weights
    return np.asarray(curve / trapezoid(curve, x))


def _check(probes: int, steps: int, width: float | None, seed: int) -> None:
    if probes < 2:
        raise ValueError(f"probes must be at least 2, for the band to be known. Got {probes}.")
    if steps < 1:
        raise ValueError(f"steps must be at least 1. Got {steps}.")
    if width is not None and not 0 < width < math.inf:
        raise ValueError(f"width must be a positive number, or None for what the steps resolve. Got {width}.")
    check_seed(seed)


def _warn(found: Density) -> None:
    if found.overlap > _OVERLAP:
        warnings.warn(
            f"the directions of Lanczos overlap by {found.overlap:.1e}, more than {_OVERLAP:g}: nodes may be doubled. "
            "Take precision='float64' or fewer steps.",
            stacklevel=3,
        )
    if found.quadrature_error > _MISPLACED:
        warnings.warn(
            f"up to {found.quadrature_error:.0%} of the density is misplaced for want of steps: a width of "
            f"{found.width:.3g} is too narrow for them. Give more steps, or a larger width.",
            stacklevel=3,
        )
