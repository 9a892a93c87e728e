"""The centre of a number's samples, with its 95 % interval."""

from __future__ import annotations

import math

import numpy as np
from scipy import special, stats

from landscape.results import Array
from landscape.sharpness.measure import Definition, Measure

ENOUGH = 5
"""Fewer samples than this do not tell how samples vary: there is no interval."""


def single(what: Definition, value: float, note: str = "", *, at_least: bool = False) -> Measure:
    """A number in which nothing is random."""
    return Measure(what, value, math.nan, math.nan, np.array([value]), note=note, at_least=at_least)


def mean(what: Definition, samples: Array, note: str = "") -> Measure:
    """The mean of samples ``[n]``, with Student's interval from five samples on."""
    n, centre = len(samples), float(samples.mean())
    half = float(special.stdtrit(n - 1, 0.975) * samples.std(ddof=1) / math.sqrt(n)) if n >= ENOUGH else math.nan
    return Measure(what, centre, centre - half, centre + half, samples, note=note)


def median(what: Definition, reached: Array, censored: np.ndarray, note: str = "") -> Measure:
    """The median of samples ``[n]``, some only known to be larger, with the interval between two order statistics.

    The interval holds for any continuous law (David and Nagaraja, "Order Statistics", 2003, section 7.1); below six
    samples there is none. The median is known while fewer than half of the samples are censored; else that of what was
    reached is a lower bound.

    Args:
        what: The number.
        reached: Each sample, or how far it is known to reach.
        censored: ``[n]`` bool: which of them are larger than that.
        note: What else a reader must know.
    """
    samples = np.where(censored, np.inf, reached)
    n, missing = len(samples), int(censored.sum())
    known = 2 * missing < n
    value = float(np.median(samples if known else reached))
    low, high = _between(np.sort(samples if known else reached))[0], _between(np.sort(samples))[1]
    ended = f"{missing} of {n} lines end before" if missing else ""
    note = "; ".join(part for part in (ended, note) if part)
    return Measure(what, value, low, high, samples, "median", missing, note, at_least=not known)


def _between(ordered: Array) -> tuple[float, float]:
    """The order statistics that hold the median between them in at least 95 % of all cases; NaN where none do."""
    n = len(ordered)
    k = int(stats.binom.ppf(0.025, n, 0.5))  # P(B < k) <= 0.025 < P(B <= k)
    return (float(ordered[k - 1]), float(ordered[n - k])) if k else (math.nan, math.nan)
