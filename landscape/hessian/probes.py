"""Random probes of a matrix that is only known by its products, and how many of them are enough."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from landscape.hessian.kept import Kept
from landscape.hessian.means import skewness_of, student
from landscape.progress import bar
from landscape.results import Array

LEAST = 24
"""Probes before anything is said: a variance of fewer is too uncertain to stop by."""

GROWTH = 1.5
"""Between two looks at the error the number of probes grows by this factor at most: few looks, few lucky ones."""

SKEWED = 25.0
"""Probes for each unit of squared skewness: with fewer, the interval of a skewed mean holds too little (Cochran,
"Sampling Techniques", 3rd ed., 1977, section 2.15). A matrix with few large eigenvalues has skewed probes."""

_TOGETHER, _NUMBERS = 8, 2**26
"""How many products share a graph, and how many numbers (of 8 bytes) they may take."""


Done = Callable[[int], object]
"""Is told of products that are done."""


class Matrix(Protocol):
    """A symmetric matrix ``[D, D]`` by its products, such as `landscape.derivatives.Derivatives`."""

    @property
    def size(self) -> int:
        """D."""

    @property
    def device(self) -> torch.device:
        """Of the vectors."""

    def multiply(self, vectors: Tensor) -> Tensor:
        """``[K, D]`` to ``[K, D]``, float64."""


@dataclass(frozen=True)
class Estimate:
    """A number of a matrix, estimated from random probes.

    Attributes:
        value: The estimate.
        sem: Its standard error.
        low: Lower end of its 95 % interval, see `landscape.hessian.means`.
        high: Upper end.
        products: How many products with the matrix it is made of.
        samples: The estimate of each probe, ``[n]``.
        converged: Whether ``sem`` is as small as was asked for.
    """

    value: float
    sem: float
    low: float
    high: float
    products: int
    samples: Array = field(repr=False)
    converged: bool

    @property
    def rel_error(self) -> float:
        """The standard error over the absolute value."""
        return self.sem / abs(self.value) if self.value else math.inf


def rademacher(curvature: Matrix, seed: int, numbers: Sequence[int], stream: int = 0) -> Tensor:
    """Probes of +1 and -1, ``[K, D]`` float64: the one of a number is the same in any block, on any device."""
    words = -(-curvature.size // 64)
    rows = [
        np.unpackbits(np.random.PCG64([seed, stream, n]).random_raw(words).astype("<u8").view(np.uint8))[
            : curvature.size
        ]
        for n in numbers
    ]
    return torch.from_numpy(np.stack(rows)).to(curvature.device, torch.float64).mul_(2).sub_(1)


def blocks(first: int, end: int, numbers_of_each: int) -> Iterator[range]:
    """The probes from ``first`` to ``end``, as many at a time as should share a graph.

    Args:
        first: Number of the first probe.
        end: That of the first one that is not taken.
        numbers_of_each: How much memory a probe takes, in numbers of 8 bytes.
    """
    size = max(1, min(_TOGETHER, _NUMBERS // numbers_of_each))
    for start in range(first, end, size):
        yield range(start, min(start + size, end))


def needed(samples: Array, rel_error: float) -> float:
    """How many probes it takes until the standard error over the absolute mean is ``rel_error``, judged by n >= 3.

    A standard error of n samples is itself uncertain: it is enlarged by Student's quantile over the normal one.
    """
    deviation = float(np.std(samples, ddof=1))
    if deviation == 0:
        return LEAST
    mean, n = float(np.mean(samples)), len(samples)
    target = rel_error * abs(mean) * stats.norm.ppf(0.975) / student(n)
    by_error = (deviation / target) ** 2 if target > 0 else math.inf
    return max(LEAST, by_error, SKEWED * skewness_of(samples) ** 2)


def next_count(n: int, need: float, most: int) -> int:
    """How many probes to take before the next look; n itself where they are enough, or ``most``."""
    return n if need <= n else min(most, max(n + 4, math.ceil(min(need, GROWTH * n))))


@dataclass
class Supply:
    """Where rows come from: what is kept of an earlier call, then new probes.

    Attributes:
        take: What is kept of these probes, a row each; tells how many products it has done.
        kept: Rows of an earlier call; takes those that are new.
        size: How much memory a probe takes, in numbers of 8 bytes.
        label: Name on the progress bar, which counts products.
        cost: How many products a probe takes.
        rows: Those taken so far, in order.
    """

    take: Callable[[range, Done], Array]
    kept: Kept
    size: int
    label: str
    cost: int = 1
    rows: list[Array] = field(default_factory=list)

    def fill(self, goal: int) -> Array:
        """The rows of the first probes, at least ``goal`` of them, ``[n, columns]``."""
        rows, kept = self.rows, self.kept
        with bar(goal * self.cost, self.label, "product") as progress:
            progress.update(len(rows) * self.cost)
            while len(rows) < goal and len(rows) in kept.rows:
                rows.append(kept.rows[len(rows)])
                progress.update(self.cost)
            for block in blocks(len(rows), goal, self.size):
                for number, row in zip(block, self.take(block, progress.update), strict=True):
                    kept.add(number, row)
                    rows.append(row)
        return np.array(rows)

    def until(self, rel_error: float, most: int, samples: Callable[[Array], Array]) -> tuple[Array, bool]:
        """Take probes until the mean of their samples is known to a relative error, or ``most`` of them.

        When to look at the error depends on the samples alone: neither the size of a block nor an interruption changes
        the result.

        Args:
            rel_error: Standard error over the absolute mean.
            most: Probes.
            samples: What is averaged, ``[n]``, of the rows so far.

        Returns:
            The rows, and whether the error is as asked for.
        """
        rows = self.fill(min(LEAST, most))
        while True:
            need = needed(samples(rows), rel_error)
            following = next_count(len(rows), need, most)
            if following == len(rows):
                return rows, bool(need <= len(rows))
            rows = self.fill(following)


def check(rel_error: float, max_products: int, seed: int) -> None:
    """Refuse what cannot be asked for.

    Raises:
        ValueError: Which argument, and why.
    """
    if not 0 < rel_error < math.inf:
        raise ValueError(f"rel_error must be a positive number, such as 0.02. Got {rel_error}.")
    if max_products < 3:
        raise ValueError(f"max_products must be at least 3, for an error to be known. Got {max_products}.")
    check_seed(seed)


def check_seed(seed: int) -> None:
    """Refuse a seed that numpy has not.

    Raises:
        ValueError: It is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must be 0 or more. Got {seed}.")


def warn_unless_converged(what: str, converged: bool, error: float, rel_error: float, products: int) -> None:
    """Say that an estimate is not as good as was asked for."""
    if not converged:
        warnings.warn(
            f"the standard error of the {what} is {error:.2g} of it after {products} products, not yet {rel_error:g}. "
            "Give more max_products; where positive and negative curvature cancel, no number of them may do.",
            stacklevel=3,
        )
