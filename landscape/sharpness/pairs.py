"""Every two groups of minima, in one measure of flatness."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from landscape.comparing import ALPHA, Comparison, holm, paired
from landscape.results import Array
from landscape.sharpness.measure import Measure
from landscape.sharpness.power import directions_needed, pairs_needed
from landscape.sharpness.two_levels import noise, scaled
from landscape.sharpness.verdict import Difference, Outcome

_SAME = 1e-3
"""Relative difference below which groups count as the same: it is not seen in three digits."""


@dataclass(frozen=True)
class _Pairs:
    """Two groups at the positions where both have a finite value."""

    ones: list[Measure]
    others: list[Measure]
    log: bool
    dropped: int

    def scaled(self) -> tuple[Array, Array]:
        one, other = (scaled([m.value for m in side], log=self.log) for side in (self.ones, self.others))
        return one, other

    def test(self) -> Comparison:
        one, other = (dict(enumerate(side.tolist())) for side in self.scaled())
        return paired(one, other)

    def indistinct(self) -> float:
        """The difference on the scale of the comparison that counts as none."""
        return _SAME if self.log else _SAME * max((abs(m.value) for m in self.ones + self.others), default=0.0)


def differences(of: Mapping[str, Sequence[Measure]], *, log: bool, seed: int = 0) -> list[Difference]:
    """Every two groups, the later against the earlier, over the pairs of their common positions; as one family.

    Args:
        of: ``{group: measure of each minimum}``, one measure with the same definition in all.
        log: Whether to compare logarithms; all finite values must be positive.
        seed: Of the resampling of samples.
    """
    names = [(one, other) for other, one in combinations(of, 2)]
    both = [_pairs(of[one], of[other], log) for one, other in names]
    tests = [pairs.test() for pairs in both]
    adjusted = holm([test.p for test in tests])
    level = ALPHA / max(1, sum(test.n > 1 for test in tests))
    found = []
    for (one, other), pairs, test, p in zip(names, both, tests, adjusted, strict=True):
        difference = _difference(one, other, pairs, replace(test, p_holm=p))
        if difference.outcome == "not told apart":
            difference = _with_more(difference, pairs, test, level, seed)
        found.append(difference)
    return found


def _pairs(ones: Sequence[Measure], others: Sequence[Measure], log: bool) -> _Pairs:
    common = list(zip(ones, others, strict=False))
    known = [pair for pair in common if all(math.isfinite(measure.value) for measure in pair)]
    return _Pairs([one for one, _ in known], [other for _, other in known], log, len(common) - len(known))


def _difference(one: str, other: str, pairs: _Pairs, test: Comparison) -> Difference:
    ends = (test.mean, test.low, test.high)
    value, low, high = (math.exp(end) for end in ends) if pairs.log else ends
    return Difference(
        one=one,
        other=other,
        scale="ratio" if pairs.log else "difference",
        value=value,
        low=low,
        high=high,
        p=test.p,
        p_holm=test.p_holm,
        n=test.n,
        dropped=pairs.dropped,
        outcome=_outcome(pairs, test),
    )


def _outcome(pairs: _Pairs, test: Comparison) -> Outcome:
    if test.n < 2:
        return "too few pairs" if test.n else "undefined"
    if max(abs(test.low), abs(test.high)) <= pairs.indistinct():
        return "same"
    if not test.found:
        return "not told apart"
    return "flatter" if (test.verdict == "lower") == (pairs.ones[0].what.flatter == "small") else "sharper"


def _with_more(found: Difference, pairs: _Pairs, test: Comparison, level: float, seed: int) -> Difference:
    """With what it would take to tell the groups apart."""
    needed = pairs_needed(test.effect, level)
    found = replace(found, more_seeds=None if needed is None else max(1, needed - test.n))
    sizes = {measure.n for measure in pairs.ones + pairs.others}
    if len(sizes) != 1 or test.interval != "t":
        return found
    (directions,) = sizes
    one, other = pairs.scaled()
    total = float((one - other).var(ddof=1))
    each = zip(pairs.ones, pairs.others, strict=True)
    within = float(np.mean([noise(pair, log=pairs.log, seed=seed + i) for i, pair in enumerate(each)]))
    found = replace(found, directions=directions, within=min(1.0, within / total))
    if within < total / 2:
        return found
    between = total - min(within, total)
    instead = directions_needed(test.mean, between, within, test.n, directions, level)
    return replace(found, directions_instead=instead)
