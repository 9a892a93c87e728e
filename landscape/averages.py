"""Exact averages of an objective's terms over examples, and what is needed to put averages of parts together."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Mapping
from contextlib import closing
from functools import reduce
from itertools import islice
from operator import add
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from landscape.batches import Reader, size_of
from landscape.isolation import preserve_rng
from landscape.problem import Objective, PerToken, Problem, Term, check_piece, float64, per_example
from landscape.results import Array


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
        if isinstance(self.squares, float):  # a single cell, in every pass: without numpy's weight
            finite = math.isfinite(self.squares)
            factor = self.clusters / (self.clusters - 1)
            return math.sqrt(max(self.squares, 0.0) * factor) / self.n if finite else math.nan
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


class _Sums:
    """A term's sums over each batch, in float64 on the device: few operations, and one transfer for a whole pass.

    Squares are taken around the mean of the first batch that has values, so that they do not drown in a large mean.
    """

    def __init__(self) -> None:
        self.clustered = False
        self.clusters = 0
        self.batches: list[Tensor] = []

    def add(self, term: Term) -> None:
        if isinstance(term, PerToken):
            self._add_clusters(term)
            return
        values = float64(term)
        if not self.batches:
            self.batches = [values.mean()]
        centred = values - self.batches[0]
        self.batches += [values.sum(), centred.dot(centred)]
        self.clusters += len(values)

    def _add_clusters(self, term: PerToken) -> None:
        self.clustered = True
        self.clusters += len(term.values)
        if not self.batches:
            if not term.counted.any():
                return
            self.batches = [term.mean()]
        values, counts = term.sums(), term.counts()
        centred = values - self.batches[0] * counts
        spread = [centred.dot(counts), counts.dot(counts), counts.sum()]
        self.batches += [*spread, values.sum(), centred.dot(centred)]

    def finish(self, pivot: float, *batches: float) -> Moments:
        """The moments, from ``batches`` once they are on the host; added up in order, as a plain loop would."""
        kinds = 5 if self.clustered else 2
        *of_tokens, total, squares = (reduce(add, batches[kind::kinds]) for kind in range(kinds))
        if not self.clustered:  # each value is a cluster of one
            mean = total / self.clusters
            squares -= self.clusters * (mean - pivot) ** 2
            return Moments(mean, squares, 0.0, self.clusters, self.clusters, self.clusters)
        cross, sizes, n = of_tokens
        shift = total / n - pivot
        squares += shift * (shift * sizes - 2 * cross)
        return Moments(total / n, squares, cross - shift * sizes, int(n), self.clusters, sizes)


def average(
    model: nn.Module, objective: Objective, reader: Reader, digest: hashlib._Hash | None = None
) -> dict[str, Moments]:
    """Average each term over all the examples of a reader, at the weights of ``model``.

    Call it inside `preserve_rng`: the loader and the objective may draw random numbers.

    Args:
        model: A private copy of the problem's model, moved to where the terms are wanted.
        objective: Of the problem.
        reader: Gives the batches.
        digest: Takes in the examples on the way.

    Raises:
        TypeError, ValueError: The objective returns something else than terms of shape ``[N]``, see `per_example`; or
            there is no example.
    """
    found: dict[str, _Sums] = {}
    # Closed at once, also where an error keeps this frame alive: the loader's own generator is put back then.
    with torch.no_grad(), closing(reader.read(digest)) as batches:
        for terms in _terms(model, objective, reader, batches):
            for name, term in terms.items():
                found.setdefault(name, _Sums()).add(term)
    if not found:
        raise ValueError("the terms must have at least one example. Got none: are all batches empty?")
    for name, sums in found.items():
        if not sums.batches:
            raise ValueError(f"term {name!r} must count at least one token. Got a mask that leaves out all of them.")
    device = next(iter(found.values())).batches[0].device  # an objective may leave a term on the CPU
    numbers = iter(torch.stack([number.to(device) for sums in found.values() for number in sums.batches]).tolist())
    return {name: sums.finish(*islice(numbers, len(sums.batches))) for name, sums in found.items()}


def means(problem: Problem) -> dict[str, tuple[float, float]]:
    """``{term: (mean, standard error)}`` over all the examples of a problem, at its weights, in eval mode.

    Raises:
        TypeError, ValueError: As `average`.
    """
    with preserve_rng(0, problem.device), torch.inference_mode(mode=False):
        reader = Reader(problem.batches, problem.device)
        return as_pairs(average(problem.private_copy(), problem.objective, reader))


class PerExample(NamedTuple):
    """A term at each example.

    Attributes:
        values: ``[N]`` float64; of a `PerToken` term, the sum over the tokens of each sequence.
        counts: ``[N]``, how many tokens of each sequence count; None where the term has one value for each example.
    """

    values: Array
    counts: Array | None

    def moments(self) -> Moments:
        """Of all of them."""
        if self.counts is None:
            n, mean = len(self.values), float(self.values.mean())
            return Moments(mean, float(np.square(self.values - mean).sum()), 0.0, n, n, n)
        mean = float(self.values.sum() / self.counts.sum())
        rest = self.values - mean * self.counts
        squares, cross, sizes = (float(x) for x in (rest @ rest, rest @ self.counts, self.counts @ self.counts))
        return Moments(mean, squares, cross, int(self.counts.sum()), len(self.values), sizes)


def per_example_of(model: nn.Module, objective: Objective, reader: Reader) -> dict[str, PerExample]:
    """Each term at all the examples of a reader, at the weights of ``model``; as `average`."""
    found: dict[str, list[Term]] = {}
    with torch.no_grad(), closing(reader.read()) as batches:
        for terms in _terms(model, objective, reader, batches):
            for name, term in terms.items():
                found.setdefault(name, []).append(term)
    return {name: _at_each(terms) for name, terms in found.items()}


def _at_each(terms: list[Term]) -> PerExample:
    sums = [term.sums() if isinstance(term, PerToken) else float64(term) for term in terms]
    counts = [term.counts() for term in terms if isinstance(term, PerToken)]
    return PerExample(torch.cat(sums).cpu().numpy(), torch.cat(counts).cpu().numpy() if counts else None)


def probe(model: nn.Module, objective: Objective, reader: Reader) -> dict[str, float]:
    """Sum of each term over the first batch that has examples: a cheap sign of what the objective is."""
    with torch.no_grad(), closing(reader.read()) as batches:
        terms = next(_terms(model, objective, reader, batches), {})
        return {name: float((t.sums() if isinstance(t, PerToken) else float64(t)).sum()) for name, t in terms.items()}


def _terms(
    model: nn.Module, objective: Objective, reader: Reader, batches: Generator[Any]
) -> Generator[Mapping[str, Term]]:
    """The terms of each batch, checked, without those that are empty."""
    kinds: dict[str, type] = {}
    for batch in batches:
        terms = per_example(objective(model, batch), batch)
        now = {name: type(term) for name, term in terms.items()}
        kinds = kinds or now
        if now != kinds:
            raise ValueError(f"every batch must give the same terms: {', '.join(kinds)}. Got {', '.join(now)}.")
        if reader.in_pieces:
            check_piece(terms, size_of(batch))
        found = {name: t for name, t in terms.items() if len(t.values if isinstance(t, PerToken) else t)}
        if found:
            yield found


def as_pairs(moments: Mapping[str, Moments]) -> dict[str, tuple[float, float]]:
    """``{term: (mean, standard error)}``."""
    return {name: (float(m.mean), float(m.sem)) for name, m in moments.items()}
