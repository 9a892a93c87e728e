"""The diagonal of a term's curvature from random probes, with the error of every entry."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import h5py
import torch
from scipy import stats
from torch import Tensor

from landscape.derivatives import Derivatives, Kind
from landscape.files import claim
from landscape.hdf5 import read_attrs, reading, write_attrs, write_new
from landscape.hessian import probes
from landscape.hessian.kept import identity_of, provenance, refuse_another
from landscape.hessian.means import student
from landscape.hessian.probes import LEAST, Matrix, blocks, next_count, rademacher, warn_unless_converged
from landscape.problem import Problem
from landscape.progress import bar

SCHEMA = "dot-landscape/diagonal"
"""Of the HDF5 file."""


@dataclass(frozen=True)
class Diagonal:
    """The diagonal of a matrix, estimated from random probes.

    Attributes:
        values: ``{parameter name: tensor}``, float64.
        sem: Standard error of every entry, alike.
        error: The root of the sum of the squared standard errors, over the length of the diagonal.
        products: How many products with the matrix it is made of.
        converged: Whether ``error`` is as small as was asked for.
        attrs: Provenance.
    """

    values: dict[str, Tensor]
    sem: dict[str, Tensor]
    error: float
    products: int
    converged: bool
    attrs: dict[str, Any] = field(default_factory=dict, repr=False)


def diagonal(
    problem: Problem,
    term: str | None = None,
    rel_error: float = 0.1,
    *,
    max_products: int = 1000,
    kind: Kind = "hessian",
    parameters: Collection[str] | None = None,
    precision: Literal["as given", "float64"] = "as given",
    differences: bool = False,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    label: str = "diagonal",
) -> Diagonal:
    """The diagonal of a term's curvature, with the standard error of every entry.

    The mean of v * (H v), entry by entry, over probes v of +1 and -1 (Bekas, Kokiopoulou and Saad, "An estimator for
    the diagonal of a matrix", Applied Numerical Mathematics 57, 2007, equation 3). An entry's error is that of the
    other entries of its row, so that small ones beside large ones are known badly: look at ``sem``.

    Args:
        problem: Model, objective and data, all of which count.
        term: A differentiable term; the objective's first one by default.
        rel_error: Of the diagonal as a vector: the root of the sum of its squared standard errors over its length.
        max_products: Products with the curvature at most; it warns where they do not do.
        kind: Which matrix stands for the curvature.
        parameters: Names of those that count; all by default.
        precision: ``"float64"`` computes in double precision.
        differences: Whether products are differences of gradients, see `Derivatives`.
        out: An HDF5 file that holds the sums over the finished probes after every few of them: a killed call goes on
            from there, and so does one with a smaller ``rel_error``. It is no result file, such as `landscape.load`
            reads: the same call with it returns its result at once.
        seed: Of the probes.
        label: Name on the progress bar.

    Raises:
        ValueError: An argument is out of its range; ``out`` is of another measurement; or as `Derivatives.multiply`.
        OSError: ``out`` cannot be written.
    """
    probes.check(rel_error, max_products, seed)
    matrix = Derivatives(problem, term, parameters=parameters, kind=kind, precision=precision, differences=differences)
    identity = identity_of(out, matrix, seed, probes="rademacher")
    with claim(Path(out)) if out is not None else nullcontext():
        sums = Sums(matrix, None if out is None else Path(out), identity or {})
        converged = collect(matrix, sums, rel_error=rel_error, most=max_products, seed=seed, label=label)
        sums.save()
    warn_unless_converged("diagonal", converged, sums.error, rel_error, sums.n)
    values, errors = matrix.split(sums.mean), matrix.split(sums.sem)
    return Diagonal(values, errors, sums.error, sums.n, converged, provenance(matrix, seed))


def collect(matrix: Matrix, sums: Sums, *, rel_error: float, most: int, seed: int, label: str = "diagonal") -> bool:
    """Take probes until the diagonal is known to ``rel_error``, and say whether it is."""
    goal = min(sums.goal or LEAST, most)
    with bar(goal, label, "product") as progress:
        progress.update(sums.n)
        while True:
            sums.goal = goal
            for block in blocks(sums.n, goal, 4 * matrix.size):
                vectors = rademacher(matrix, seed, block)
                for row in vectors * matrix.multiply(vectors):
                    sums.add(row)
                sums.save_now_and_then()
                progress.update(len(block))
            need = max(LEAST, sums.n * (sums.error / rel_error * student(sums.n) / stats.norm.ppf(0.975)) ** 2)
            goal = next_count(sums.n, need, most)
            if goal == sums.n:
                return bool(need <= goal)
            progress.total = goal


class Sums:
    """Running mean and squares of every entry (Welford, Technometrics 4, 1962), kept in a file where one is given.

    Args:
        matrix: Whose diagonal it is.
        path: Of the file, which may be there.
        identity: What must be the same for it to be of the same measurement.

    Raises:
        ValueError: The file is of another measurement.
    """

    def __init__(self, matrix: Matrix, path: Path | None = None, identity: Mapping[str, Any] | None = None) -> None:
        self.mean, self._squares = torch.zeros(2, matrix.size, dtype=torch.float64, device=matrix.device)
        self.n = self.goal = 0
        self._path, self._identity = path, {"schema": SCHEMA, "schema_version": 1} | dict(identity or {})
        self._took, self._saved = 0.0, time.monotonic()
        if path is not None and path.exists():
            with reading(path) as file:
                attrs = read_attrs(file)
                refuse_another(attrs, self._identity, path)
                self.n, self.goal = int(attrs["n"]), int(attrs["goal"])
                for name, tensor in (("mean", self.mean), ("squares", self._squares)):
                    tensor.copy_(torch.from_numpy(file[name][()]))

    @property
    def sem(self) -> Tensor:
        """Standard error of every entry, ``[D]``."""
        return (self._squares / (self.n * (self.n - 1))).sqrt()

    @property
    def error(self) -> float:
        """Of the diagonal as a vector, over its length."""
        length, error = float(self.mean.norm()), float(self.sem.norm())
        return error / length if length else math.inf if error else 0.0

    def add(self, row: Tensor) -> None:
        """Take in the entries that a probe tells, ``[D]``."""
        self.n += 1
        off = row - self.mean
        self.mean += off / self.n
        self._squares += off * (row - self.mean)

    def save_now_and_then(self) -> None:
        """`save`, for not more than a twentieth of the time."""
        if time.monotonic() - self._saved >= 20 * self._took:
            self.save()

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            OSError: It cannot be written.
        """
        if self._path is None:
            return
        start = time.monotonic()

        def write(file: h5py.File) -> None:
            write_attrs(file, self._identity | {"n": self.n, "goal": self.goal})
            file["mean"], file["squares"] = self.mean.cpu().numpy(), self._squares.cpu().numpy()

        write_new(self._path, write)
        self._saved = time.monotonic()
        self._took = self._saved - start
