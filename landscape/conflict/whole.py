"""What a conflict says of all the examples that were read, besides each batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landscape.conflict import inner_products
from landscape.results import Array


@dataclass
class Whole:
    """Gradients of the terms' means over all the examples read, and how much those of single batches scatter.

    A mean over many batches of the batches' cosine is not the cosine of the mean gradients: noise that the terms do
    not share pulls it towards 0, noise that they share pulls it to where that noise points. The gradients of the even
    and of the odd batches tell the two apart, since their noise is independent.

    Attributes:
        terms: Names of the terms, K.
        layers: Names of the layers, L.
        halves: ``[2, 2, L, K, K]``. With a term's gradient over all examples written as the sum of what the even
            (0) and the odd (1) batches contribute, entry ``[i, j, l, k, m]`` is the inner product, in layer l, of the
            contribution of half i to term k and that of half j to term m.
        shares: ``[2, K]``: which share of a term's examples each half has.
        spread: ``[L, K]``: variance of the gradient of one example (or token), summed over the parameters of a layer;
            unbiased, from how the batches scatter. NaN where a term has fewer than two batches.
        counts: ``[K]``: how many examples (tokens, of a `PerToken` term) each term was averaged over.
        batches: ``[K]``: how many batches had any.
    """

    terms: tuple[str, ...]
    layers: tuple[str, ...]
    halves: Array
    shares: Array
    spread: Array
    counts: Array
    batches: Array

    @property
    def gram(self) -> Array:
        """Inner products of the gradients over all the examples, ``[L, K, K]``."""
        total: Array = self.halves.sum(axis=(0, 1))
        return total

    @property
    def cosines(self) -> Array:
        """Cosine of every two terms' gradients over all the examples, ``[K, K]``."""
        return inner_products.cosines(self.gram.sum(axis=0))

    @property
    def cosine(self) -> float:
        """That of the first two terms."""
        return float(self.cosines[0, 1])

    @property
    def layer_cosine(self) -> Array:
        """That of the first two terms in each layer, ``[L]``."""
        return inner_products.cosine(self.gram)

    @property
    def norm(self) -> dict[str, float]:
        """Norm of each term's gradient over all the examples."""
        return self._of_terms(inner_products.norms(self.gram.sum(axis=0)))

    @property
    def consistent(self) -> float:
        """Norm of the part that the first two share, see `landscape.conflict.decompose`."""
        return float(inner_products.split(self.gram.sum(axis=0)).consistent)

    @property
    def inconsistent(self) -> dict[str, float]:
        """Norm of what is left of each of the first two."""
        _, a, b = inner_products.split(self.gram.sum(axis=0))
        return {self.terms[0]: float(a), self.terms[1]: float(b)}

    @property
    def split_half_cosines(self) -> Array:
        """Cosine of every two terms without the batches' noise, ``[K, K]``; see `split_half_cosine`."""
        with np.errstate(invalid="ignore", divide="ignore"):  # of the halves' means, whatever their sizes
            cross = self.halves[0, 1].sum(axis=0) / np.outer(self.shares[0], self.shares[1])
        square = np.diagonal(cross).clip(min=0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Array = (cross + cross.T) / 2 / np.sqrt(np.outer(square, square))
        return np.where(np.outer(square, square) > 0, found, np.nan)

    @property
    def split_half_cosine(self) -> float:
        """(<a1, b2> + <a2, b1>) / 2 / sqrt(<a1, a2> <b1, b2>) of the even (1) and the odd (2) batches.

        Each product is of independent halves, so that noise adds nothing to it in the mean: this estimates the cosine
        of the gradients' expectations. It may leave [-1, 1] where the noise is large; NaN where <a1, a2> or <b1, b2>
        is not positive, which means that the examples read are too few to see a gradient at all.
        """
        return float(self.split_half_cosines[0, 1])

    @property
    def variance(self) -> dict[str, float]:
        """Variance of each term's gradient over batches of the mean size, summed over the parameters, E|g - E g|^2.

        That of one example (``spread``) over the mean number of examples in a batch. Unbiased for uneven batches too:
        with n_b examples in batch b and G the mean over all, sum_b n_b |g_b - G|^2 / (batches - 1) has the
        expectation of one example's variance, if examples are independent.
        """
        return self._of_terms(self._variance().sum(axis=0))

    @property
    def signal_to_noise(self) -> dict[str, float]:
        """Signal-to-noise ratio of each term's gradient for a batch of the mean size: |E g|^2 / E|g - E g|^2.

        Both are unbiased: |E g|^2 is that of the mean over all examples less what noise adds to it, so that the ratio
        scatters around 0, below it too, where there is no signal to be seen. It is over examples at fixed weights, and
        of whole vectors; Liu et al. (ICLR 2020, arXiv 2001.07384) take the same ratio for each parameter, and DeepKD
        (arXiv 2505.15133) relates such a ratio of each term to the momentum that suits it.
        """
        noise = self._variance()
        return self._of_terms(self._ratio(self._signal().sum(axis=0), noise.sum(axis=0)))

    @property
    def layer_signal_to_noise(self) -> dict[str, Array]:
        """`signal_to_noise` in each layer, ``{term: [L]}``."""
        found = self._ratio(self._signal(), self._variance())
        return {term: found[:, k] for k, term in enumerate(self.terms)}

    def chosen(self, rows: list[int]) -> Whole:
        """Of some of the terms, by their numbers, in that order."""
        return Whole(
            tuple(self.terms[k] for k in rows),
            self.layers,
            self.halves[..., rows, :][..., rows],
            self.shares[:, rows],
            self.spread[:, rows],
            self.counts[rows],
            self.batches[rows],
        )

    def summed(self, layers: tuple[str, ...], sums: Array) -> Whole:
        """With its L layers put together into M others: ``sums`` ``[M, L]`` is 1 where one is part of the other."""
        halves = np.einsum("nl,ijlkm->ijnkm", sums, self.halves)
        return Whole(self.terms, layers, halves, self.shares, sums @ self.spread, self.counts, self.batches)

    def _variance(self) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.spread / (self.counts / self.batches)

    def _signal(self) -> Array:
        squared: Array = np.diagonal(self.gram, axis1=-2, axis2=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return squared - self.spread / self.counts

    @staticmethod
    def _ratio(signal: Array, noise: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(noise > 0, signal / noise, np.nan)

    def _of_terms(self, values: Array) -> dict[str, float]:
        return dict(zip(self.terms, values.tolist(), strict=True))


@dataclass
class Along:
    """How the terms' gradients point along named vectors, such as momentum buffers or the last update.

    Attributes:
        names: Of the vectors, A.
        products: Inner products of each batch's gradients with the vectors, ``[B, L, K, A]``.
        whole: Those of the gradients over all the examples, ``[L, K, A]``.
        squared: Squared norms of the vectors, ``[L, A]``.
    """

    names: tuple[str, ...]
    products: Array
    whole: Array
    squared: Array

    def chosen(self, rows: list[int]) -> Along:
        """Of some of the terms, by their numbers, in that order."""
        return Along(self.names, self.products[:, :, rows], self.whole[:, rows], self.squared)

    def summed(self, sums: Array) -> Along:
        """With its layers put together, see `Whole.summed`."""
        return Along(
            self.names,
            np.einsum("nl,blka->bnka", sums, self.products),
            np.einsum("nl,lka->nka", sums, self.whole),
            sums @ self.squared,
        )
