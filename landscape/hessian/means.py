"""A mean over random probes, and the interval that holds its expectation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from landscape.results import Array


class Mean(NamedTuple):
    """A mean over probes, its standard error, and its 95 % interval, see `mean_of`."""

    value: float
    sem: float
    low: float
    high: float


def mean_of(samples: Array) -> Mean:
    """Of independent samples ``[n]``; the error is NaN below two.

    The interval is Student's for samples without skewness. A skewed law is transformed to one that is not (Hall, "On
    the removal of skewness by transformation", Journal of the Royal Statistical Society B 54, 1992, 221-228): where a
    matrix has few large eigenvalues, Student's own would end too low too often.
    """
    n, value = len(samples), float(np.mean(samples))
    if n < 2:
        return Mean(value, math.nan, math.nan, math.nan)
    skewness, sem = skewness_of(samples), float(np.std(samples, ddof=1)) / math.sqrt(n)
    low, high = (value - sem * _unskewed(end, skewness, n) for end in (student(n), -student(n)))
    return Mean(value, sem, low, high)


def _unskewed(quantile: float, skewness: float, n: int) -> float:
    """Quantile of (mean - expectation) / sem for samples of this skewness, from that of samples without."""
    if abs(skewness) < 1e-6:
        return quantile
    root = 1 + skewness * (quantile / math.sqrt(n) - skewness / (6 * n))
    return float(3 * math.sqrt(n) / skewness * (np.cbrt(root) - 1))


def skewness_of(samples: Array) -> float:
    """Third central moment over the cubed deviation; 0 where the samples are alike up to rounding."""
    off = samples - np.mean(samples)
    square = float(np.mean(off**2))
    alike = math.sqrt(square) <= 1e-12 * float(np.abs(samples).max(initial=0.0))
    return 0.0 if alike else float(np.mean(off**3)) / square**1.5


def student(n: int) -> float:
    """Quantile of the 95 % interval of a mean of n samples."""
    return float(stats.t.ppf(0.975, n - 1))
