"""Hutch++: the trace exactly on a subspace that holds most of it, and by random probes on the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from landscape.hessian.kept import Kept
from landscape.hessian.means import mean_of
from landscape.hessian.probes import LEAST, Done, Estimate, Matrix, Supply, blocks, needed, rademacher
from landscape.hessian.rows import Rows, totals
from landscape.progress import bar
from landscape.results import Array

_FIRST = 8
"""Directions of the first subspace; each further step doubles it."""

_NUMBERS = 2**28
"""Of 8 bytes, that the directions, their products and those that are being added may take."""


def hutchpp(source: Rows, kept: Kept, *, rel_error: float, most: int, label: str) -> Estimate:
    """The trace of a symmetric matrix by Hutch++ (Meyer et al., SOSA 2021, algorithm 1), to a relative standard error.

    tr H = tr(Q^T H Q) + tr((1 - Q Q^T) H (1 - Q Q^T)), with Q a basis of H S for random signs S. The first part is
    exact; the second is the mean over probes that are independent of S, and the error is theirs. Given the products H Q
    the second part of a probe g follows from g . H g without another product, so that probes are never wasted while Q
    grows. The paper gives a third of a fixed budget to each of H S, H Q and the probes. Here Q is doubled as long as
    the probes that are still needed cost more than doubling it and the last doubling saved what it cost; where they
    are more than ``most``, until a third of that is left to the probes. It ends at 2 GB of directions.

    Args:
        source: The matrix and its probes.
        kept: Probes of an earlier call.
        rel_error: Standard error over the absolute trace.
        most: Products at most.
        label: Name on the progress bar.
    """
    space = _Subspace(source)
    supply = Supply(source.take, kept, 3 * source.matrix.size, label)
    supply.fill(min(LEAST, most))
    with bar(None, f"{label}, subspace", "product") as progress:
        space.done = progress.update
        _grow(space, totals(np.array(supply.rows)), rel_error, most)

    def samples(rows: Array) -> Array:
        return space.samples(totals(rows))

    rows, converged = supply.until(rel_error, most - space.products, samples)
    return Estimate(*mean_of(samples(rows)), len(rows) + space.products, samples(rows), converged)


def _grow(space: _Subspace, whole: Array, rel_error: float, most: int) -> None:
    """Take directions as long as they cost fewer products than they save."""
    n, step, saved, cost = len(whole), _FIRST, math.inf, 0
    need = needed(space.samples(whole), rel_error)
    while (
        need - n > 2 * step
        and space.memory(step) <= _NUMBERS
        and space.products + 2 * step <= min(2 * most / 3, most - n)
        and (saved >= cost or need > most)
    ):
        before, cost = need, 2 * step
        if not space.grow(step):
            return
        need = needed(space.samples(whole), rel_error)
        saved, step = before - need, space.count


class _Subspace:
    """Orthonormal directions Q, their products H Q, and what is left of the probes beside them."""

    def __init__(self, source: Rows) -> None:
        self._source, self._seed = source, source.seed
        self._matrix: Matrix = source.matrix
        self._basis = torch.zeros(0, source.matrix.size, dtype=torch.float64, device=source.matrix.device)
        self._images = self._basis
        self._drawn = 0
        self._rest: list[float] = []
        self.products = 0
        self.done: Done = lambda _: None

    @property
    def count(self) -> int:
        """How many directions there are."""
        return len(self._basis)

    def memory(self, more: int) -> int:
        """Numbers that it takes to add so many directions."""
        return (2 * self.count + 6 * more) * self._matrix.size

    def grow(self, count: int) -> bool:
        """Add directions from the images of ``count`` more random vectors; False where none are left."""
        drawn = [rademacher(self._matrix, self._seed, b, 1) for b in self._blocks(self._drawn, self._drawn + count)]
        self._drawn += count
        new = _orthonormal(torch.cat([self._multiply(vectors) for vectors in drawn]), self._basis)
        if not len(new):
            return False
        self._images = torch.cat([self._images, *(self._multiply(part) for part in new.split(8))])
        self._basis = torch.cat([self._basis, new])
        self._rest = []
        return True

    def samples(self, whole: Array) -> Array:
        """The trace as each probe g tells it, ``[n]``, from its g . H g."""
        inner = self._basis @ self._images.T  # Q^T H Q
        for block in self._blocks(len(self._rest), len(whole)):
            vectors = self._source.vectors(block)
            along, images = vectors @ self._basis.T, vectors @ self._images.T
            known = 2 * (along * images).sum(1) - ((along @ inner) * along).sum(1)
            self._rest += (torch.from_numpy(whole[block.start : block.stop]) - known.cpu()).tolist()
        return float(inner.trace()) + np.array(self._rest[: len(whole)])

    def _blocks(self, first: int, end: int) -> Iterator[range]:
        return blocks(first, end, 3 * self._matrix.size)

    def _multiply(self, vectors: Tensor) -> Tensor:
        self.products += len(vectors)
        self.done(len(vectors))
        return self._matrix.multiply(vectors)


def _orthonormal(vectors: Tensor, basis: Tensor) -> Tensor:
    """A basis of what vectors have beside an orthonormal basis; directions of rounding are left out."""
    length = float(vectors.norm())
    for _ in range(2):  # once more, for what rounding has left
        vectors = vectors - (vectors @ basis.T) @ basis
        _, sizes, vectors = torch.linalg.svd(vectors, full_matrices=False)
        vectors = vectors[sizes > 1e-12 * (length or 1.0)]
        length = 1.0
    return vectors
