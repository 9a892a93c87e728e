"""Exact averages of an objective's terms over all the examples of a problem."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from landscape.isolation import preserve_rng
from landscape.problem import Problem, per_example
from landscape.provenance import update_digest


class Average(NamedTuple):
    """The mean of a term, its standard error over the examples, and their number."""

    mean: float
    sem: float
    n: int


@dataclass
class _Running:
    """Sums in float64 on the device, so that a pass over the data waits for the device only once."""

    n: int
    total: Tensor
    pivot: Tensor
    squares: Tensor

    @classmethod
    def start(cls, values: Tensor) -> _Running:
        zero = values.new_zeros(())
        return cls(0, zero, values.mean(), zero)

    def add(self, values: Tensor) -> None:
        self.n += len(values)
        self.total = self.total + values.sum()
        self.squares = self.squares + (values - self.pivot).square().sum()

    def finish(self) -> Average:
        total, pivot, squares = (float(t) for t in torch.stack([self.total, self.pivot, self.squares]).cpu())
        mean = total / self.n
        if self.n < 2:
            return Average(mean, math.nan, self.n)
        variance = (squares - self.n * (mean - pivot) ** 2) / (self.n - 1)
        return Average(mean, math.sqrt(max(variance, 0.0) / self.n) if math.isfinite(variance) else math.nan, self.n)


def average(model: nn.Module, problem: Problem, batches: Generator[Any] | None = None) -> dict[str, Average]:
    """Average each term of ``problem`` over all its examples, at the weights of ``model``.

    Args:
        model: A private copy of the problem's model, moved to where the terms are wanted.
        problem: Gives the objective and the batches.
        batches: The problem's batches, where the caller reads along; by default they are iterated here.

    Raises:
        TypeError, ValueError: The objective returns something else than terms of shape ``[N]``, see `per_example`; or
            there is no example.
    """
    running: dict[str, _Running] = {}
    # Closed at once, also where an error keeps this frame alive: the loader's own generator is put back then.
    source = problem.iterate() if batches is None else batches
    with preserve_rng(0, problem.device), torch.no_grad(), closing(source):
        for batch in source:
            for name, term in per_example(problem.objective(model, batch), batch).items():
                values = _float64(term)
                if not len(values):
                    continue
                if name not in running:
                    running[name] = _Running.start(values)
                running[name].add(values)
    if not running:
        raise ValueError("the terms must have at least one example. Got none: are all batches empty?")
    return {name: sums.finish() for name, sums in running.items()}


def average_and_digest(model: nn.Module, problem: Problem) -> tuple[dict[str, Average], str]:
    """`average`, and the SHA-256 of the examples that it read, from one pass over the data."""
    digest = hashlib.sha256()
    averages = average(model, problem, _reading_along(problem, digest))
    return averages, digest.hexdigest()


def _reading_along(problem: Problem, digest: hashlib._Hash) -> Generator[Any]:
    with closing(problem.iterate()) as source:
        for number, batch in enumerate(source):
            update_digest(digest, str(number), batch)
            yield batch


def _float64(values: Tensor) -> Tensor:
    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64)  # MPS has no float64
