"""The error of a flatness number of several minima: over their seeds, and over the directions of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from landscape.results import Array
from landscape.sharpness.measure import Measure

_RESAMPLES = 1000


class Interval(NamedTuple):
    """A mean over minima and its 95 % interval; NaN where it has none."""

    value: float
    low: float
    high: float


def over_seeds(members: Sequence[Measure], *, log: bool, seed: int = 0) -> Interval:
    """Mean of a measure over minima that differ in their seed of training, with the interval over seeds and directions.

    A two-level bootstrap: seeds are resampled, then the samples (directions, draws) of each. Taken as it is, it counts
    the noise of the directions twice, since the values of the seeds differ by it already (Davison and Hinkley,
    "Bootstrap Methods and their Application", 1997, section 3.8), and its first level is too narrow by a factor of
    ``(n - 1) / n``. Here each level has its unbiased variance: the second w, the mean over the seeds of what resampling
    the m samples of a seed gives, times ``m / (m - 1)``; the first what is left of the variance s^2 of the values,
    ``max(0, s^2 - w)``. Resampled infinitely often, the mean of n seeds then has the variance ``max(s^2, w) / n``, for
    which no seed needs to be drawn.

    The interval is ``mean -+ t`` standard errors, Student's t of n - 1 degrees (Hesterberg, "What teachers should know
    about the bootstrap", The American Statistician 69, 2015, 371-386). His other correction, expanded percentiles,
    cannot hold 95 % here: no percentile of resampled seeds lies beyond the smallest and the largest value, between
    which lies the mean of a normal law in 75 % of samples of 3, and in 94 % of samples of 5. Where directions are most
    of the noise, the interval holds more than 95 %.

    Of a single minimum the interval is that over its samples: it says nothing of other seeds. Where only one of several
    has a value there is none.

    Args:
        members: A measure of each minimum; those whose value is not finite are left out.
        log: Whether to take the mean of logarithms, and return to the scale of the values; all must be positive.
        seed: Of the resampling of samples.

    Returns:
        NaN without a member.
    """
    known = [member for member in members if math.isfinite(member.value)]
    if not known:
        return Interval(math.nan, math.nan, math.nan)
    if len(members) == 1:
        return Interval(known[0].value, known[0].low, known[0].high)
    if len(known) == 1:
        return Interval(known[0].value, math.nan, math.nan)
    values = scaled([member.value for member in known], log=log)
    within = float(np.mean([noise([member], log=log, seed=seed + i) for i, member in enumerate(known)]))
    n, mean = len(values), float(values.mean())
    half = float(special.stdtrit(n - 1, 0.975)) * math.sqrt(max(float(values.var(ddof=1)), within) / n)
    ends = np.array([mean, mean - half, mean + half])
    return Interval(*(float(end) for end in (np.exp(ends) if log else ends)))


def noise(members: Sequence[Measure], *, log: bool, seed: int = 0) -> float:
    """Variance that the directions alone give a value, or the difference of two.

    From resampling the samples; 0 where nothing is random. On a logarithmic scale it is to first order, since a
    resampled value may be negative where the value itself is not.

    Args:
        members: One measure, or two whose difference it is: of as many samples, each of the same direction in both.
        log: Whether of logarithms.
        seed: Of the resampling.
    """
    n = members[0].n
    if n < 2:
        return 0.0
    drawn = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))
    first, *other = (_resampled(member, drawn) / (member.value if log else 1.0) for member in members)
    return float((first - other[0] if other else first).var() * n / (n - 1))


def scaled(values: Sequence[float], *, log: bool) -> Array:
    """The values, or their logarithms."""
    array = np.asarray(values, dtype=np.float64)
    return np.log(array) if log else array


def _resampled(member: Measure, drawn: NDArray[np.int64]) -> Array:
    """The centre of each resample ``[R]``. A sample that is only known to be larger counts as the largest known one."""
    samples = np.minimum(member.samples, member.samples[np.isfinite(member.samples)].max())
    center = np.median if member.center == "median" else np.mean
    return np.asarray(center(samples[drawn], axis=1))
