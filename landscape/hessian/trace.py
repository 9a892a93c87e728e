"""The trace of a term's curvature from random probes, stopped by its standard error."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from landscape.derivatives import Derivatives, Kind
from landscape.hessian import probes
from landscape.hessian.hutchpp import hutchpp
from landscape.hessian.kept import Kept, identity_of, keeping, provenance
from landscape.hessian.means import Mean, mean_of
from landscape.hessian.probes import Estimate, Supply, warn_unless_converged
from landscape.hessian.rows import Layers, Rows, totals
from landscape.problem import Problem

Method = Literal["hutchinson", "hutch++"]


@dataclass(frozen=True)
class Trace(Estimate):
    """The trace of a matrix, see `Estimate`.

    Attributes:
        by_layer: The trace of the block of each layer (the module that owns the parameters), out of the same probes;
            empty for ``"hutch++"``.
        attrs: Provenance.
    """

    by_layer: dict[str, Mean] = field(default_factory=dict, repr=False)
    attrs: dict[str, Any] = field(default_factory=dict, repr=False)


def trace(
    problem: Problem,
    term: str | None = None,
    rel_error: float = 0.02,
    *,
    method: Method = "hutchinson",
    max_products: int = 1000,
    kind: Kind = "hessian",
    parameters: Collection[str] | None = None,
    precision: Literal["as given", "float64"] = "as given",
    differences: bool = False,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    label: str = "trace",
) -> Trace:
    """The trace of a term's curvature, the sum of its eigenvalues, to a relative standard error.

    ``"hutchinson"``: the mean of v . H v over probes v of +1 and -1 (Hutchinson, Communications in Statistics 19,
    1990, 433-450). ``"hutch++"``: exact on a subspace that a first set of probes finds, Hutchinson's on the rest
    (Meyer et al., "Hutch++: Optimal stochastic trace estimation", SOSA 2021); fewer products where few eigenvalues
    hold most of the trace, see `landscape.hessian.hutchpp`.

    ``rel_error`` is the standard error over the absolute trace, after at least 24 probes. How many are needed is judged
    few times, and a skewed law of the probes asks for more of them (Cochran's rule), so that the 95 % interval holds
    close to 95 %, although it ends where the error looked small. At a saddle, where positive and negative curvature
    cancel, a relative error may be out of reach: the trace then ends at ``max_products``, not converged, and warns.

    Args:
        problem: Model, objective and data, all of which count.
        term: A differentiable term; the objective's first one by default.
        rel_error: Standard error over the absolute trace.
        method: Which estimator.
        max_products: Products with the curvature at most.
        kind: Which matrix stands for the curvature.
        parameters: Names of those that count; all by default. Give those of a layer for the trace of its block.
        precision: ``"float64"`` computes in double precision.
        differences: Whether products are differences of gradients, see `Derivatives`.
        out: An HDF5 file, in which every finished probe is kept: a killed call goes on from there, a call with a
            smaller ``rel_error`` too, and `frobenius` takes the same probes from it. The subspace of ``"hutch++"`` is
            searched again. It is no result file, such as `landscape.load` reads: the same call with it returns its
            result without new probes.
        seed: Of the probes.
        label: Name on the progress bar.

    Raises:
        ValueError: An argument is not one of those named; ``out`` is of another measurement; or as
            `Derivatives.multiply`.
        OSError: ``out`` cannot be written.
    """
    probes.check(rel_error, max_products, seed)
    if method not in ("hutchinson", "hutch++"):
        raise ValueError(f"method must be 'hutchinson' or 'hutch++'. Got {method!r}.")
    matrix = Derivatives(problem, term, parameters=parameters, kind=kind, precision=precision, differences=differences)
    source = Rows(matrix, Layers.of(matrix), seed)
    with keeping(out, identity_of(out, matrix, seed, probes="rademacher"), source.columns) as kept:
        estimate = hutchpp_trace if method == "hutch++" else hutchinson
        found = estimate(source, kept, rel_error=rel_error, most=max_products, label=label)
        kept.finish(provenance(matrix, seed) | {"trace": found.value, "trace_sem": found.sem})
    warn_unless_converged("trace", found.converged, found.rel_error, rel_error, found.products)
    found.attrs.update(provenance(matrix, seed) | {"method": method})
    return found


def hutchinson(source: Rows, kept: Kept, *, rel_error: float, most: int, label: str = "trace") -> Trace:
    """The trace of any symmetric matrix, as `trace` does it."""
    supply = Supply(source.take, kept, 3 * source.matrix.size, label)
    rows, converged = supply.until(rel_error, most, totals)
    by_layer = {name: mean_of(rows[:, i]) for i, name in enumerate(source.layers.names)}
    return Trace(*mean_of(totals(rows)), len(rows), totals(rows), converged, by_layer)


def hutchpp_trace(source: Rows, kept: Kept, *, rel_error: float, most: int, label: str = "trace") -> Trace:
    """The same by `hutchpp`."""
    found = hutchpp(source, kept, rel_error=rel_error, most=most, label=label)
    return Trace(found.value, found.sem, found.low, found.high, found.products, found.samples, found.converged)
