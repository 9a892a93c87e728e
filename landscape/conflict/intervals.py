"""How sure the means of a conflict are: 95 % intervals over its records."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from landscape.conflict.result import Conflict
from landscape.results import Array

_RESAMPLES = 2000
_AT_A_TIME = 100
"""Resamples that are in memory at once."""


class Interval(NamedTuple):
    """A mean over the records that have a value, and the ends of its 95 % interval.

    ``low`` and ``high`` are NaN where fewer than two records have a value: one batch does not tell how batches differ.

    Attributes:
        mean: Over ``records``; NaN without any.
        low: Lower end.
        high: Upper end.
        records: How many records have a value.
    """

    mean: float
    low: float
    high: float
    records: int


def intervals(conflict: Conflict, seed: int = 0) -> dict[str, Interval]:
    """Means over the records with percentile-bootstrap intervals (Efron and Tibshirani 1993, chapter 13).

    They are for batches that were drawn independently, as `landscape.conflict.measure` reads them from a shuffled
    loader; records of one training run follow each other, and their intervals are too narrow, as are those of fewer
    than 20 batches: the bootstrap knows no value that it has not seen. The mean cosine of
    batches is not the cosine over all examples: see `landscape.conflict.whole.Whole`.

    Args:
        conflict: Its first two terms count; see `Conflict.pair` for others.
        seed: Of the resampling.

    Returns:
        ``cosine``, ``fraction negative``, ``ratio of norms``, ``magnitude similarity``, and ``inconsistent share of
        <term>`` for each of the two.
    """
    cosine = conflict.cosine
    values = {
        "cosine": cosine,
        "fraction negative": np.where(np.isnan(cosine), np.nan, cosine < 0),
        "ratio of norms": conflict.ratio,
        "magnitude similarity": conflict.magnitude_similarity,
    }
    values |= {f"inconsistent share of {term}": share for term, share in conflict.inconsistent_share.items()}
    return {name: interval(found, seed) for name, found in values.items()}


def interval(values: Array, seed: int = 0) -> Interval:
    """Of the mean of ``values`` ``[B]``, those that are NaN left out."""
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return Interval(float(known[0]) if len(known) else np.nan, np.nan, np.nan, len(known))
    found = stats.bootstrap(
        (known,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=_AT_A_TIME,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(known.mean()), float(found.low), float(found.high), len(known))
