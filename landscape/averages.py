"""Exact averages of an objective's terms over examples, and what is needed to put averages of parts together."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from landscape.batches import Reader
from landscape.isolation import seed_all
from landscape.problem import Objective, PerToken, Term, per_example


class Moments(NamedTuple):
    """The mean of a term over n values in clusters, and the sums that its standard error comes from.

    An example is a cluster of one value; of a `PerToken` term each sequence is a cluster of its tokens. With S the sum
    and m the size of a cluster, ``squares`` is the sum of (S - mean m)^2, ``cross`` that of (S - mean m) m, and
    ``sizes`` that of m^2, over all clusters. ``mean``, ``squares`` and ``cross`` are numbers, or arrays of many cells.
    """

    mean: Any
    squares: Any
    cross: Any
    n: int
    clusters: int
    sizes: float

    @property
    def sem(self) -> Any:
        """Standard error of the mean, from the spread of the clusters (the ratio estimator's); NaN for one cluster.

        Cochran, "Sampling Techniques" (3rd ed., 1977), section 2.11; for single values the usual s / sqrt(n).
        """
        if self.clusters < 2:
            return np.full_like(np.asarray(self.mean), np.nan)[()]
        with np.errstate(invalid="ignore"):
            spread = np.sqrt(np.maximum(self.squares, 0.0) * (self.clusters / (self.clusters - 1))) / self.n
        return np.where(np.isfinite(spread), spread, np.nan)[()]


def pool(parts: list[Moments]) -> Moments:
    """The moments of all the examples, from those of parts without a common cluster."""
    n = sum(part.n for part in parts)
    with np.errstate(invalid="ignore"):
        mean = sum(part.mean * part.n for part in parts) / n
        shifts = [mean - part.mean for part in parts]
        squares = sum(p.squares - 2 * d * p.cross + d * d * p.sizes for p, d in zip(parts, shifts, strict=True))
        cross = sum(p.cross - d * p.sizes for p, d in zip(parts, shifts, strict=True))
    return Moments(mean, squares, cross, n, sum(p.clusters for p in parts), sum(p.sizes for p in parts))


@dataclass
class _Running:
    """Sums in float64 on the device, so that a pass over the data waits for the device only once."""

    pivot: Tensor
    n: Any = 0
    clusters: int = 0
    total: Any = 0.0
    squares: Any = 0.0
    cross: Any = 0.0
    sizes: Any = 0.0

    def add(self, term: Term) -> None:
        if isinstance(term, PerToken):
            sums, counts = term.sums(), term.counts()
            centred = sums - self.pivot * counts
            self.n, self.clusters = self.n + counts.sum(), self.clusters + len(sums)
            self.cross = self.cross + centred.dot(counts)
            self.sizes = self.sizes + counts.dot(counts)
        else:
            sums = _float64(term)
            centred = sums - self.pivot
            self.n, self.clusters = self.n + len(sums), self.clusters + len(sums)
        self.total = self.total + sums.sum()
        self.squares = self.squares + centred.dot(centred)

    def finish(self) -> Moments:
        tensors = (self.total, self.pivot, self.squares, self.n, self.cross, self.sizes)
        wide = [torch.as_tensor(t, dtype=self.pivot.dtype, device=self.pivot.device) for t in tensors]
        total, pivot, squares, n, cross, sizes = torch.stack(wide).tolist()
        if n == 0:
            raise ValueError("a term must count at least one token. Got a mask that leaves out all of them.")
        mean = total / n
        shift = mean - pivot
        if not sizes:  # single values: each a cluster of one
            return Moments(mean, squares - n * shift * shift, 0.0, int(n), self.clusters, n)
        squares, cross = squares - 2 * shift * cross + shift * shift * sizes, cross - shift * sizes
        return Moments(mean, squares, cross, int(n), self.clusters, sizes)


def average(
    model: nn.Module, objective: Objective, reader: Reader, digest: hashlib._Hash | None = None
) -> dict[str, Moments]:
    """Average each term over all the examples of a reader, at the weights of ``model``.

    Random draws inside are the same at every call; call it inside `preserve_rng`.

    Args:
        model: A private copy of the problem's model, moved to where the terms are wanted.
        objective: Of the problem.
        reader: Gives the batches.
        digest: Takes in the examples on the way.

    Raises:
        TypeError, ValueError: The objective returns something else than terms of shape ``[N]``, see `per_example`; or
            there is no example.
    """
    running: dict[str, _Running] = {}
    seed_all(0, reader.device)
    # Closed at once, also where an error keeps this frame alive: the loader's own generator is put back then.
    with torch.no_grad(), closing(reader.read(digest)) as batches:
        for terms in _terms(model, objective, batches):
            for name, term in terms.items():
                if name not in running:
                    running[name] = _Running(_pivot(term))
                running[name].add(term)
    if not running:
        raise ValueError("the terms must have at least one example. Got none: are all batches empty?")
    return {name: sums.finish() for name, sums in running.items()}


def probe(model: nn.Module, objective: Objective, reader: Reader) -> dict[str, float]:
    """Sum of each term over the first batch that has examples: a cheap sign of what the objective is."""
    seed_all(0, reader.device)
    with torch.no_grad(), closing(reader.read()) as batches:
        terms = next(_terms(model, objective, batches), {})
        return {name: float((t.sums() if isinstance(t, PerToken) else _float64(t)).sum()) for name, t in terms.items()}


def _terms(model: nn.Module, objective: Objective, batches: Generator[Any]) -> Generator[Mapping[str, Term]]:
    """The terms of each batch, checked, without those that are empty."""
    for batch in batches:
        terms = per_example(objective(model, batch), batch)
        found = {name: t for name, t in terms.items() if len(t.values if isinstance(t, PerToken) else t)}
        if found:
            yield found


def _pivot(term: Term) -> Tensor:
    """Something near the mean, to sum squares around: of the values as they are, for the sake of rounding."""
    if isinstance(term, PerToken):
        return (term.sums().sum() / term.counts().sum()).nan_to_num(0.0)
    return _float64(term).mean()


def _float64(values: Tensor) -> Tensor:
    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64)  # MPS has no float64


def as_pairs(moments: Mapping[str, Moments]) -> dict[str, tuple[float, float]]:
    """``{term: (mean, standard error)}``."""
    return {name: (float(m.mean), float(m.sem)) for name, m in moments.items()}
