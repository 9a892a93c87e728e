"""What inner products tell of vectors: norms, cosines, and what two of them share.

Every function takes Gram matrices ``[..., K, K]``, float64, whose entry ``[..., k, m]`` is the inner product of vectors
k and m. Those of two vectors look at the first two. NaN stands for what a zero vector leaves undefined.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from landscape.results import Array


def norms(grams: Array) -> Array:
    """Of each vector, ``[..., K]``."""
    squared: Array = np.diagonal(grams, axis1=-2, axis2=-1)
    return np.sqrt(squared)


def cosines(grams: Array) -> Array:
    """Of every pair of vectors, ``[..., K, K]``; NaN where one of the two is zero."""
    size = norms(grams)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.clip(grams / (size[..., :, None] * size[..., None, :]), -1.0, 1.0)
    return found


def cosine(grams: Array) -> Array:
    """Of the first two, ``[...]``; NaN where one is zero."""
    return cosines(grams[..., :2, :2])[..., 0, 1]


def ratio(grams: Array) -> Array:
    """Norm of the first over that of the second, ``[...]``; NaN where one of the two is zero."""
    a, b = _two_norms(grams)
    return a / b


def magnitude_similarity(grams: Array) -> Array:
    """2 |a| |b| / (|a|^2 + |b|^2) of the first two, ``[...]``: 1 for equal norms; NaN where one of the two is zero.

    Definition 2 of Yu et al., "Gradient Surgery for Multi-Task Learning" (NeurIPS 2020, arXiv 2001.06782).
    """
    a, b = _two_norms(grams)
    larger = np.maximum(a, b)
    quotient = np.minimum(a, b) / larger  # squares of tiny norms would vanish
    return 2 * quotient / (1 + quotient**2)


class Split(NamedTuple):
    """Norms of the parts that `landscape.conflict.decompose` makes of two vectors, each ``[...]``."""

    consistent: Array
    inconsistent_a: Array
    inconsistent_b: Array


def split(grams: Array) -> Split:
    """`landscape.conflict.decompose` in terms of inner products: a.u = |a| sqrt((1 + cos) / 2).

    Of nearly parallel vectors the inconsistent norm is a difference of squares, and right to 1e-8 of the norm only.
    """
    size = norms(grams)
    a, b = size[..., 0], size[..., 1]
    half = np.sqrt((1 + np.nan_to_num(cosine(grams), nan=-1.0)) / 2)  # a zero vector shares nothing
    shared = np.minimum(a, b) * half
    left = [np.sqrt(np.maximum(n**2 - 2 * n * half * shared + shared**2, 0.0)) for n in (a, b)]
    return Split(shared, left[0], left[1])


def inconsistent_share(grams: Array) -> tuple[Array, Array]:
    """Which share of the squared norm of each of the first two is inconsistent, each ``[...]``; NaN for a zero one."""
    parts, size = split(grams), norms(grams)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = ((left / size[..., k]) ** 2 for k, left in enumerate(parts[1:]))
    return np.minimum(a, 1.0), np.minimum(b, 1.0)


def _two_norms(grams: Array) -> tuple[Array, Array]:
    size = norms(grams)[..., :2]
    size = np.where((size > 0).all(-1, keepdims=True), size, np.nan)
    return size[..., 0], size[..., 1]
