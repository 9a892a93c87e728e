"""The Frobenius norm of a term's curvature from random probes, stopped by its standard error."""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from landscape.derivatives import Derivatives, Kind
from landscape.hessian import probes
from landscape.hessian.kept import Kept, identity_of, keeping, provenance
from landscape.hessian.means import mean_of
from landscape.hessian.probes import Estimate, Supply, warn_unless_converged
from landscape.hessian.rows import Layers, Rows, squares
from landscape.problem import Problem


@dataclass(frozen=True)
class Norm(Estimate):
    """The Frobenius norm of a matrix, see `Estimate`; ``samples`` are of its square.

    Attributes:
        attrs: Provenance.
    """

    attrs: dict[str, Any] = field(default_factory=dict, repr=False)


def frobenius(
    problem: Problem,
    term: str | None = None,
    rel_error: float = 0.02,
    *,
    max_products: int = 1000,
    kind: Kind = "hessian",
    parameters: Collection[str] | None = None,
    precision: Literal["as given", "float64"] = "as given",
    differences: bool = False,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    label: str = "Frobenius norm",
) -> Norm:
    """The Frobenius norm |H| of a term's curvature, the root of the sum of its squared eigenvalues.

    The mean of |H v|^2 over probes v of +1 and -1 is |H|^2 (Hutchinson's estimate of tr H^2, 1990). The root's standard
    error is that of the square over 2 |H| (delta method); its interval is the root of the square's.

    Args:
        problem: As `trace`, and so are the other arguments; a file that `trace` wrote gives its probes.
        term: A differentiable term.
        rel_error: Standard error over the norm.
        max_products: Products with the curvature at most.
        kind: Which matrix stands for the curvature.
        parameters: Names of those that count.
        precision: ``"float64"`` computes in double precision.
        differences: Whether products are differences of gradients.
        out: An HDF5 file in which the probes are kept, to go on from, as with `trace`: no result file, such as
            `landscape.load` reads.
        seed: Of the probes.
        label: Name on the progress bar.

    Raises:
        ValueError, OSError: As `trace`.
    """
    probes.check(rel_error, max_products, seed)
    matrix = Derivatives(problem, term, parameters=parameters, kind=kind, precision=precision, differences=differences)
    source = Rows(matrix, Layers.of(matrix), seed)
    with keeping(out, identity_of(out, matrix, seed, probes="rademacher"), source.columns) as kept:
        found = norm_of(source, kept, rel_error=rel_error, most=max_products, label=label)
        kept.finish(provenance(matrix, seed) | {"frobenius": found.value, "frobenius_sem": found.sem})
    warn_unless_converged("Frobenius norm", found.converged, found.rel_error, rel_error, found.products)
    found.attrs.update(provenance(matrix, seed))
    return found


def norm_of(source: Rows, kept: Kept, *, rel_error: float, most: int, label: str = "norm") -> Norm:
    """The Frobenius norm of any symmetric matrix, as `frobenius` does it."""
    supply = Supply(source.take, kept, 3 * source.matrix.size, label)
    # The relative error of a root is half that of the square.
    rows, converged = supply.until(2 * rel_error, most, squares)
    square = mean_of(squares(rows))
    value = math.sqrt(square.value)
    sem = square.sem / (2 * value) if value else square.sem
    low, high = (math.sqrt(max(end, 0.0)) for end in (square.low, square.high))
    return Norm(value, sem, low, high, len(rows), squares(rows), converged)
