"""The mean over all examples from a sample of two phases, by regression, with an honest error."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from landscape.results import Array
from landscape.sampling.order import spread, variance_of_mean

LOOKS = 1.5
"""Among how many looks the chance of a miss is shared out; see `quantile`."""

TOP, SKEWNESS = 0.5, 0.7
"""The share of the variance that one example may have, and the skewness of the estimate, before more are drawn."""


class Estimate(NamedTuple):
    """Of one term's mean over all N examples at a cell.

    Attributes:
        mean: The estimate.
        sem: Its standard error as an estimate of the mean over the N examples: 0 where all were evaluated.
        half: Half the width of the 95 % interval.
        deviation: Standard deviation of the examples' values, estimated.
        deviation_diff: That of their differences from the origin; NaN without an origin.
        heavy: Whether a few examples may carry the variance, so that ``sem`` is not to be trusted yet.
        residual: Variance of what the predictors leave, among the examples that were drawn.
        total: Variance that the first phase is a sample of: of the values, or of what the origin's leave of them.
        first: The part of ``sem`` squared that comes from the first phase.
    """

    mean: float
    sem: float
    half: float
    deviation: float
    deviation_diff: float
    heavy: bool
    residual: float
    total: float
    first: float


class Origin(NamedTuple):
    """A term at the origin, known for all examples: ``[n1]`` values of the first phase, and the mean of all N."""

    values: Array
    mean: float


class Frame(NamedTuple):
    """What is known before a cell's own examples are evaluated.

    Attributes:
        population: N.
        columns: ``[n1, p]``, predictors of the examples of the first phase.
        certain: ``[n1]`` bool: these are all evaluated.
        sampled: Indices of the drawn ones among the others, in random order, ``[m]``.
        size: ``[n1]``, proportional to the expected magnitude of a residual; None where nothing is known.
        origin: The term at the origin; None where not known.
        labels: ``[n1]``, of an order stratified by them.
        binary: Whether the term is 0 or 1.
    """

    population: int
    columns: Array
    certain: NDArray[np.bool_]
    sampled: NDArray[np.int64]
    size: Array | None = None
    origin: Origin | None = None
    labels: NDArray[np.int64] | None = None
    binary: bool = False


def quantile(free: float, skewness: float = 0.0, level: float = 0.95) -> float:
    """What the standard error is multiplied with for an interval that has been looked at in every round.

    Sampling stops where the estimated error is small enough, which favours errors estimated too small. The chance of a
    miss is therefore spent on 1.5 looks: one that the plan aims to be the last, and half a one for all others.
    Bonferroni would spend it on every look, for any rule at all; this rule sees the estimated error, and hardly the
    estimate. That this is enough is no theorem: ``scripts/check_coverage.py`` measures it.

    The quantile is Student's, corrected to second order for the skewness of the mean, by Hall (1992), section 2.6: a
    studentised mean of n values of skewness g misses more often, by 2 phi(x) x (x^4 + 2 x^2 - 3) g^2 / (18 n).

    Args:
        free: Degrees of freedom.
        skewness: Of the estimate's sampling distribution: g / sqrt(n) for a mean.
        level: Of the interval.
    """
    tail = (1 - level) / LOOKS / 2
    x = -float(special.ndtri(tail))
    return -float(special.stdtrit(max(free, 1.0), tail)) + x * (x**4 + 2 * x**2 - 3) / 18 * skewness**2


class _Fit(NamedTuple):
    """A regression on the drawn examples: the mean of the others and what the error of that is."""

    fitted: Array  # [n1]
    mean: float  # over all that could be drawn
    variance: float  # of the mean of as many residuals, without the finite population's correction
    errors: Array  # [m], each residual as if its example had been left out
    weights: Array  # [m], of each example in the mean
    free: int


def _fit(frame: Frame, drawn: Array, pool: NDArray[np.int64], columns: Array) -> _Fit:
    """Least squares; Sarndal et al., 6.4 to 6.6, for the estimate and its g weights.

    The variance is that of the weighted residuals, each divided by 1 minus its leverage (the jackknife's value), which
    repairs both the fitted coefficients and the small sample.
    """
    m = len(drawn)
    x = columns[frame.sampled]
    centre, scale = x.mean(0), x.std(0)
    kept = scale > 1e-12 * np.abs(x).max(0, initial=0.0)
    z = (x[:, kept] - centre[kept]) / scale[kept]
    axes = np.zeros((z.shape[1], 0))
    if z.size:
        _, lengths, rows = np.linalg.svd(z, full_matrices=False)
        good = lengths > 1e-6 * lengths[0]
        axes = rows[good].T / lengths[good]
    z = z @ axes  # orthonormal columns
    everyone = (columns[:, kept] - centre[kept]) / scale[kept] @ axes
    slope = z.T @ drawn
    fitted = drawn.mean() + everyone @ slope
    residuals = drawn - fitted[frame.sampled]
    leverage = 1 / m + np.square(z).sum(1)
    g = 1 / m + z @ everyone[pool].mean(0)
    errors = residuals / np.maximum(1 - leverage, 1 / m)
    return _Fit(
        fitted=fitted,
        mean=float(fitted[pool].mean()),
        variance=float(np.square(g * errors).sum()),
        errors=errors,
        weights=g,
        free=max(m - 1 - z.shape[1], 1),
    )


def estimate(frame: Frame, certain: Array, drawn: Array) -> Estimate:
    """The two-phase regression estimate of a mean over N examples.

    The first phase is a random sample of n1 of the N, for which predictors are known. Of it the examples marked as
    certain are all evaluated; of the n_L others a random sample of m. With e the residuals of the regression, the
    variance is (Cochran, 12.6; Sarndal et al., 9.7)

        (1/n1 - 1/N) S_y^2  +  (n_L / n1)^2 (1/m - 1/n_L) S_e^2

    where S_y is replaced by the deviation from a multiple of the origin's loss, if that is known for all N examples.
    S_e^2 is the larger of two estimates: from the residuals themselves, and from their ratio to ``frame.size``, which
    is known for the examples that were not drawn too. Without gain from the predictors it is the plain mean. To a 0/1
    term's squared residuals half a 1 is added, as Jeffreys' prior does: none seen does not mean that there is none.

    Args:
        frame: What is known beforehand.
        certain: ``[h]``, the values of the certain examples, in their order, finite.
        drawn: ``[m]``, the values of ``frame.sampled``, finite; at least 2, unless it is all of the others.
    """
    n1, n = len(frame.certain), frame.population
    pool = np.flatnonzero(~frame.certain)
    m, left = len(drawn), len(pool)
    known = np.empty(n1)
    known[frame.certain] = certain
    if m == left:
        known[frame.sampled] = drawn
        second, residual, free, skewness, top = 0.0, 0.0, math.inf, 0.0, 0.0
    else:
        columns = frame.columns
        fit = _fit(frame, drawn, pool, columns)
        plain = _fit(frame, drawn, pool, columns[:, :0]) if columns.shape[1] else fit
        if plain.variance <= fit.variance:
            fit = plain
        squares = np.square(fit.weights * fit.errors)
        variance = fit.variance
        if frame.size is not None:
            variance = max(variance, _by_size(frame.size, frame.sampled, pool, fit.errors))
        if frame.binary:
            variance += 0.5 / m**2
        free, residual = fit.free, variance * m
        known[pool] = fit.fitted[pool]
        known[frame.sampled] = drawn
        known[pool] += fit.mean - known[pool].mean()  # the mean of the pool is the regression estimate
        second = (left / n1) ** 2 * (1 - m / left) * variance
        top = float(squares.max() / squares.sum()) if squares.any() else 0.0
        cubes = float(((fit.weights * fit.errors) ** 3).sum())
        skewness = abs(cubes) / squares.sum() ** 1.5 if squares.any() else 0.0
    mean = float(known.mean())
    missing = (left - m) / n1 * residual
    first, total, deviation, difference = 0.0, 0.0, math.sqrt(spread(known) + missing), math.nan
    if frame.origin is not None:
        difference = math.sqrt(spread(known - frame.origin.values) + missing)
    if n1 < n:
        away = known
        if frame.origin is not None:
            start = frame.origin.values
            slope = _slope(start, known)
            away = known - slope * start
            mean += slope * (frame.origin.mean - float(start.mean()))
        total = spread(away, frame.labels) + missing
        first = variance_of_mean(total, n1, n)
        if first > 0:
            of_first, of_second = (part / (first + second) for part in (first, second))
            skewness = math.hypot(skewness * of_second**1.5, skew(away) / math.sqrt(n1) * of_first**1.5)
            free = (first + second) ** 2 / (first**2 / (n1 - 1) + (second**2 / free if second else 0.0))
    sem = math.sqrt(first + second)
    return Estimate(
        mean=mean,
        sem=sem,
        half=sem and sem * quantile(free, skewness),
        deviation=deviation,
        deviation_diff=difference,
        heavy=bool(sem) and (top > TOP or skewness > SKEWNESS),
        residual=residual,
        total=total,
        first=first,
    )


def widened(found: Estimate, error: float) -> Estimate:
    """With another independent error added to ``sem`` and the interval; an exact estimate stays exact."""
    if not found.sem:
        return found
    sem = math.hypot(found.sem, error)
    return found._replace(sem=sem, half=found.half * sem / found.sem)


def exact(values: Array, origin: Array | None = None) -> Estimate:
    """The mean of all N values, which may be infinite or NaN; its error is 0, or NaN where it is not finite."""
    mean = float(values.mean())
    if not math.isfinite(mean):
        return Estimate(mean, math.nan, math.nan, math.nan, math.nan, False, 0.0, 0.0, 0.0)
    difference = math.nan if origin is None else math.sqrt(spread(values - origin))
    return Estimate(mean, 0.0, 0.0, math.sqrt(spread(values)), difference, False, 0.0, 0.0, 0.0)


def skew(values: Array) -> float:
    """Third central moment over the variance to the power of 3/2; 0 for constant values."""
    centred = values - values.mean()
    squares = float(np.square(centred).mean())
    return float((centred**3).mean()) / squares**1.5 if squares > 0 else 0.0


def _by_size(size: Array, sampled: NDArray[np.int64], pool: NDArray[np.int64], errors: Array) -> float:
    """The variance of the mean that the sizes of all, drawn or not, let expect, by the ratio of errors to sizes."""
    seen = float(np.square(size[sampled]).mean())
    return float(np.square(errors).mean() / seen * np.square(size[pool]).mean() / len(errors)) if seen > 0 else 0.0


def _slope(x: Array, y: Array) -> float:
    centred = x - x.mean()
    squares = float(centred @ centred)
    return float(centred @ y) / squares if squares > 0 else 0.0
