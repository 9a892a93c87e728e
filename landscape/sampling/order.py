"""One random order of the examples for all cells: each sample is a prefix, so that cells share their examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from landscape.results import Array


def nested_order(n: int, seed: int, labels: ArrayLike | None = None) -> NDArray[np.int64]:
    """A random permutation of n examples; with labels, each prefix holds them in the proportions of the whole.

    A prefix is a simple random sample without replacement. With labels the r-th of the N_h examples of a label (in
    random order) has the key (r - 1 + u) / N_h, with u uniform in [0, 1): every example's key is uniform, which gives
    all the same chance, and a prefix is a stratified sample with proportional allocation, up to one example a label.

    Args:
        n: Number of examples, at least 1.
        seed: Of the permutation.
        labels: ``[n]``, of any type that sorts.

    Raises:
        ValueError: There is no example, or not a label for each.
    """
    if n < 1:
        raise ValueError(f"expected at least one example. Got {n}.")
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(n)
    if labels is None:
        return shuffled
    of = np.asarray(labels)
    if of.shape != (n,):
        raise ValueError(f"expected a label for each of {n} examples. Got an array of shape {of.shape}.")
    keys = np.empty(n)
    for label in np.unique(of):
        members = shuffled[of[shuffled] == label]
        keys[members] = (np.arange(len(members)) + generator.random(len(members))) / len(members)
    return np.argsort(keys, kind="stable")


def variance_of_mean(variance: float, n: int, population: int) -> float:
    """Of the mean of n examples drawn without replacement: (1/n - 1/N) S^2, with S^2 of divisor N - 1.

    Cochran, theorem 2.2; n = N gives 0.
    """
    return (1 / n - 1 / population) * variance


def spread(values: Array, labels: NDArray[np.int64] | None = None) -> float:
    """The variance of values; within labels where they are given, which is what a stratified sample's error has.

    Labels with a single value have no spread of their own and are compared with the mean of all. Cochran, 5.6.
    """
    if len(values) < 2:
        return 0.0
    if labels is None:
        return float(values.var(ddof=1))
    counts = np.bincount(labels)
    means = np.bincount(labels, values) / np.maximum(counts, 1)
    means[counts == 1] = values.mean()
    free = len(values) - int((counts > 1).sum())
    return float(np.square(values - means[labels]).sum() / free) if free > 0 else float(values.var(ddof=1))
