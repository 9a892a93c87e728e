"""Whether sharper minima are those with the larger generalisation gap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats

from landscape.results import Array

_ENOUGH = 4


@dataclass(frozen=True)
class Agreement:
    """Kendall's tau of a measure and the generalisation gap.

    Attributes:
        tau: +1 where every sharper minimum has the larger gap, -1 where it has the smaller; NaN where undefined: fewer
            than two minima, or all alike.
        low: Lower end of its 95 % interval over minima; NaN where it has none.
        high: Upper end.
        p: Two-sided p value of no association, exact without ties.
        n: Minima with a measure and a gap.
    """

    tau: float
    low: float
    high: float
    p: float
    n: int

    def __str__(self) -> str:
        interval = f" [{self.low:+.2f}, {self.high:+.2f}]" if math.isfinite(self.low) else ""
        known = "undefined" if math.isnan(self.tau) else f"{self.tau:+.2f}{interval}, p {self.p:.2g}"
        return f"{known}, n = {self.n}"


def agreement(values: Sequence[float], gaps: Sequence[float], flatter: Literal["small", "large"]) -> Agreement:
    """Rank agreement of a measure with the generalisation gap (Jiang et al., ICLR 2020, section 3; tau-b with ties).

    Its interval is the jackknife's over minima, by Student's t on Fisher's scale ``atanh(tau)``. There is none for
    fewer than four minima, nor where tau is 1 or -1, since leaving out a minimum changes nothing then, nor where all
    but one are alike. Minima are taken as independent; groups that differ in both numbers make a tau by themselves,
    which tells nothing of the minima within a group.

    Args:
        values: Of the measure, one for each minimum. One that is only known to be larger (inf) is the largest; NaN is
            left out.
        gaps: Test minus training loss of the same minima, or error; NaN is left out.
        flatter: Whether a flat minimum has a small or a large value.

    Raises:
        ValueError: There are not as many values as gaps.
    """
    measured, of = np.asarray(values, dtype=np.float64), np.asarray(gaps, dtype=np.float64)
    if measured.shape != of.shape:
        raise ValueError(f"expected a gap for each value. Got {len(of)} for {len(measured)}.")
    known = ~np.isnan(measured) & np.isfinite(of)
    sharp, of = (measured if flatter == "small" else -measured)[known], of[known]
    n = len(of)
    if n < 2 or np.all(sharp == sharp[0]) or np.all(of == of[0]):
        return Agreement(math.nan, math.nan, math.nan, math.nan, n)
    found = stats.kendalltau(sharp, of)
    tau = float(found.statistic)
    low, high = _jackknife(sharp, of, tau)
    return Agreement(tau, low, high, float(found.pvalue), n)


def _jackknife(sharp: Array, gaps: Array, tau: float) -> tuple[float, float]:
    n = len(gaps)
    if n < _ENOUGH or math.isclose(abs(tau), 1.0):
        return math.nan, math.nan
    without = np.array([stats.kendalltau(np.delete(sharp, i), np.delete(gaps, i)).statistic for i in range(n)])
    error = math.sqrt((n - 1) / n * np.square(without - without.mean()).sum()) / (1 - tau**2)
    half = float(special.stdtrit(n - 1, 0.975)) * error
    return math.tanh(math.atanh(tau) - half), math.tanh(math.atanh(tau) + half)
