"""Whether sharper minima are those with the larger generalisation gap."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, permutations, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from landscape.results import Array

_ENOUGH = 4
_MOST, _DRAWN = 1000, 999
"""Orders up to which all are tried, and how many are drawn where there are more."""

_Order = NDArray[np.int64]
_Signs = NDArray[np.int64]

Ranked = tuple[Sequence[float], Sequence[float]]
"""The values of a measure and the gaps of a group's minima."""


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau of a measure and the generalisation gap, within groups of minima.

    Attributes:
        tau: +1 where of every two minima of a group the sharper one has the larger gap, -1 where it has the smaller;
            NaN where undefined: no group has two minima that differ in both.
        low: Lower end of its 95 % interval over seeds; NaN where it has none.
        high: Upper end.
        p: Two-sided p value of no association within groups, of a permutation test; NaN where tau is.
        n: Minima with a measure and a gap.
        overall: Kendall's tau of all the minima, of one group or not. It mixes what groups differ in with what minima
            within a group do, so that it has neither a p value nor an interval. NaN where undefined.
    """

    tau: float
    low: float
    high: float
    p: float
    n: int
    overall: float

    def __str__(self) -> str:
        interval = f" [{self.low:+.2f}, {self.high:+.2f}]" if math.isfinite(self.low) else ""
        known = "undefined" if math.isnan(self.tau) else f"{self.tau:+.2f}{interval}, p {self.p:.2g}"
        overall = "undefined" if math.isnan(self.overall) else f"{self.overall:+.2f}"
        return f"{known}, n = {self.n}; overall {overall}"


def agreement(groups: Mapping[str, Ranked] | Sequence[Ranked], flatter: Literal["small", "large"]) -> Agreement:
    """Rank agreement of a measure with the generalisation gap (Jiang et al., ICLR 2020, section 3), within groups.

    Groups that differ in both numbers make a tau by themselves, which tells nothing of the minima within a group. So
    tau counts the pairs of minima of one group alone: those that agree minus those that do not, over
    ``sqrt(pairs without a tie in the measure * pairs without a tie in the gap)``, all summed over the groups (tau-b,
    stratified).

    Its p value is that of a permutation test: the gaps are exchanged among seeds, in the same way in all groups, since
    minima at the same position of several groups share a seed, and whatever comes with it. Seeds are exchanged where
    the same groups have a value. With up to 1000 orders all are tried, and p is exact, with ties, too; else 999 are
    drawn (always the same), the order that was found counts as one more, and p is valid, with an error of drawing: of
    0.007 at 0.05. What is exact is the test of seeds that are independent of each other, and of measures that are
    independent of gaps within groups. Three seeds have 6 orders, so that p is 1/6 or more; of one group, it takes five
    for a p below 0.05.

    The interval is the jackknife's over seeds, by Student's t on Fisher's scale ``atanh(tau)``, an approximation. There
    is none for fewer than four seeds, nor where tau is 1 or -1, since leaving out a seed changes nothing then, nor
    where leaving one out makes it undefined.

    Args:
        groups: Of each group the values of the measure and the gaps (test minus training loss, or error), one for each
            minimum, those at the same position of the same seed. A value that is only known to be larger (inf) is the
            largest. Where either is NaN, the minimum is left out.
        flatter: Whether a flat minimum has a small or a large value.

    Raises:
        ValueError: A group has not as many values as gaps, or there is none.
    """
    sharp, gaps = _table(list(groups.values()) if isinstance(groups, Mapping) else groups)
    sharp = sharp if flatter == "small" else -sharp
    known = ~np.isnan(sharp)
    n, overall = int(known.sum()), _tau(_signs(sharp[known][None]), _signs(gaps[known][None]))
    ours, theirs = _signs(sharp), _signs(gaps)
    tau = _tau(ours, theirs)
    if math.isnan(tau):
        return Agreement(tau, math.nan, math.nan, math.nan, n, overall)
    return Agreement(tau, *_jackknife(ours, theirs, tau), _p_value(ours, theirs, known), n, overall)


def _table(groups: Sequence[Ranked]) -> tuple[Array, Array]:
    """Values and gaps ``[groups, seeds]``, both NaN where a minimum has not both."""
    if not groups:
        raise ValueError("groups must have a group of minima. Got none.")
    for values, gaps in groups:
        if len(values) != len(gaps):
            raise ValueError(f"expected a gap for each value. Got {len(gaps)} for {len(values)}.")
    table = np.full((2, len(groups), max(len(values) for values, _ in groups)), math.nan)
    for i, (values, gaps) in enumerate(groups):
        table[0, i, : len(values)], table[1, i, : len(gaps)] = values, gaps
    table[:, np.isnan(table[0]) | ~np.isfinite(table[1])] = math.nan
    return table[0], table[1]


def _signs(values: Array) -> _Signs:
    """Whether the first of every two of a group is the larger, ``[groups, seeds, seeds]``: 1, 0 or -1."""
    one, other = values[:, :, None], values[:, None, :]
    return (one > other).astype(np.int64) - (one < other)


def _tau(ours: _Signs, theirs: _Signs) -> float:
    both = np.abs(ours).sum() * np.abs(theirs).sum()
    return float((ours * theirs).sum() / math.sqrt(both)) if both else math.nan


def _p_value(ours: _Signs, theirs: _Signs, known: NDArray[np.bool_]) -> float:
    """The share of orders of the seeds that agree as much, with either sign; ties are the same in all of them."""
    found = abs(int((ours * theirs).sum()))
    _, pattern = np.unique(known, axis=1, return_inverse=True)
    alike = [np.flatnonzero(pattern.reshape(-1) == i) for i in range(pattern.max() + 1)]
    every = math.prod(math.factorial(len(seeds)) for seeds in alike) <= _MOST
    as_much = [
        abs(int((ours * theirs[:, order][:, :, order]).sum())) >= found for order in (_all if every else _drawn)(alike)
    ]
    return sum(as_much) / len(as_much) if every else (1 + sum(as_much)) / (1 + len(as_much))


def _all(alike: Sequence[_Order]) -> Iterator[_Order]:
    """Every order in which seeds stay among those that are like them."""
    first = np.concatenate(alike)
    for orders in product(*(permutations(seeds.tolist()) for seeds in alike)):
        yield _placed(first, np.array(list(chain(*orders))))


def _drawn(alike: Sequence[_Order]) -> Iterator[_Order]:
    draw, first = np.random.default_rng(0), np.concatenate(alike)
    for _ in range(_DRAWN):
        yield _placed(first, np.concatenate([draw.permutation(seeds) for seeds in alike]))


def _placed(first: _Order, then: _Order) -> _Order:
    order = np.empty_like(first)
    order[first] = then
    return order


def _jackknife(ours: _Signs, theirs: _Signs, tau: float) -> tuple[float, float]:
    """Over the seeds that have a minimum in a pair."""
    seeds = np.flatnonzero((np.abs(ours) + np.abs(theirs)).sum((0, 2)))
    n = len(seeds)
    if n < _ENOUGH or math.isclose(abs(tau), 1.0):
        return math.nan, math.nan
    without = np.array([_tau(*(np.delete(np.delete(s, i, 1), i, 2) for s in (ours, theirs))) for i in seeds])
    error = math.sqrt((n - 1) / n * np.square(without - without.mean()).sum()) / (1 - tau**2)
    half = float(special.stdtrit(n - 1, 0.975)) * error
    return math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half)
