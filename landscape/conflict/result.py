"""What a measurement of gradient conflict returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landscape import modules
from landscape.conflict import inner_products
from landscape.conflict.whole import Along, Whole
from landscape.results import Array

if TYPE_CHECKING:
    from landscape.conflict.intervals import Interval


@dataclass
class Conflict:
    """How the gradients of two or more terms agree, batch by batch, for the whole network and for each layer.

    It holds their inner products; all the rest follows from these. What compares two gradients compares the first two
    terms: `pair` gives any others. ``consistent`` and ``inconsistent`` are the norms of the parts in which
    ``landscape.conflict.decompose`` splits the two. NaN stands for what a zero gradient leaves undefined.

    Attributes:
        terms: The names, K of them.
        step: Step (or batch number) of each record, ``[B]``.
        layers: Name of each layer, ``[L]``.
        gram: Inner products of the terms' gradients in each layer, ``[B, L, K, K]``, float64.
        sizes: How many examples (tokens, of a `PerToken` term) each term was averaged over, ``[B, K]``; None where
            nobody counted, as while training.
        whole: What holds for all the examples together; None where only single batches were recorded.
        along: How the gradients point along other vectors; None where none were given.
        by: What ``layers`` are: ``"parameter"``, ``"layer"`` (the module that owns the parameters) or ``"block"``.
        attrs: Provenance; the root attributes of the file.
        groups: Other recordings of the same run by name: ``momentum`` (of the momentum buffers); ``motion`` (of the
            gradients, those of the record before, what each buffer moves the weights by, and the update); ``heldout``
            (on a fixed held-out batch, once an epoch) and ``heldout-motion``.
        spread: Variance of the gradient of one example, summed over the parameters, ``[B, K]``; None where nobody
            measured it, NaN where it is not known.
    """

    terms: tuple[str, ...]
    step: NDArray[np.int64]
    layers: tuple[str, ...]
    gram: Array
    sizes: Array | None = None
    whole: Whole | None = None
    along: Along | None = None
    by: str = "layer"
    attrs: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, Conflict] = field(default_factory=dict)
    spread: Array | None = None

    @property
    def total(self) -> Array:
        """Inner products of the gradients of the whole network, ``[B, K, K]``."""
        found: Array = self.gram.sum(axis=1)
        return found

    @property
    def cosines(self) -> Array:
        """Cosine of every two terms' gradients, ``[B, K, K]``."""
        return inner_products.cosines(self.total)

    @property
    def cosine(self) -> Array:
        """Cosine of the first two gradients, ``[B]``."""
        return inner_products.cosine(self.total)

    @property
    def norm(self) -> dict[str, Array]:
        """Norm of each term's gradient, ``{term: [B]}``."""
        return self._of_terms(inner_products.norms(self.total))

    @property
    def ratio(self) -> Array:
        """Norm of the first gradient over that of the second, ``[B]``."""
        return inner_products.ratio(self.total)

    @property
    def magnitude_similarity(self) -> Array:
        """2 |a| |b| / (|a|^2 + |b|^2), ``[B]``: 1 for equal norms (Yu et al. 2020, arXiv 2001.06782)."""
        return inner_products.magnitude_similarity(self.total)

    @property
    def consistent(self) -> Array:
        """Norm of the part that both share, ``[B]``."""
        return inner_products.split(self.total).consistent

    @property
    def inconsistent(self) -> dict[str, Array]:
        """Norm of what is left of each, ``{term: [B]}``."""
        return self._of_pair(*inner_products.split(self.total)[1:])

    @property
    def inconsistent_share(self) -> dict[str, Array]:
        """Which share of the squared norm of each is inconsistent, ``{term: [B]}``."""
        return self._of_pair(*inner_products.inconsistent_share(self.total))

    @property
    def layer_cosine(self) -> Array:
        """Cosine of the two in each layer, ``[B, L]``."""
        return inner_products.cosine(self.gram)

    @property
    def layer_norm(self) -> dict[str, Array]:
        """Norm of each term's gradient in each layer, ``{term: [B, L]}``."""
        return self._of_terms(inner_products.norms(self.gram))

    @property
    def layer_consistent(self) -> Array:
        """Norm of what both share in each layer, ``[B, L]``."""
        return inner_products.split(self.gram).consistent

    @property
    def layer_inconsistent(self) -> dict[str, Array]:
        """Norm of what is left of each in each layer, ``{term: [B, L]}``."""
        return self._of_pair(*inner_products.split(self.gram)[1:])

    @property
    def per_layer(self) -> dict[str, Array]:
        """Cosine of the two gradients in each layer, ``{layer: [B]}``."""
        return dict(zip(self.layers, self.layer_cosine.T, strict=True))

    @property
    def fraction_negative(self) -> float:
        """Share of the records whose cosine is negative; records without a cosine are left out (NaN if all are)."""
        cosine = self.cosine
        known = cosine[~np.isnan(cosine)]
        return float((known < 0).mean()) if known.size else float("nan")

    @property
    def signal_to_noise(self) -> dict[str, Array]:
        """|E g|^2 / E|g - E g|^2 of each term, for one example, ``{term: [B]}``; NaN where no spread was measured.

        For a batch of n examples it is n times this. Unbiased above and below, as `Whole.signal_to_noise`.
        """
        if self.spread is None or self.sizes is None:
            return self._of_terms(np.full((len(self.step), len(self.terms)), np.nan))
        signal = np.diagonal(self.total, axis1=-2, axis2=-1) - self.spread / self.sizes
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._of_terms(np.where(self.spread > 0, signal / self.spread, np.nan))

    def cosine_along(self, name: str) -> dict[str, Array]:
        """Cosine of each term's gradients with a vector of ``along``, ``{term: [B]}``.

        Raises:
            KeyError: There is no such vector.
        """
        along, a = self._along(name)
        size = inner_products.norms(self.total) * np.sqrt(along.squared[:, a].sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            return self._of_terms(along.products[..., a].sum(axis=1) / size)

    def whole_cosine_along(self, name: str) -> dict[str, float]:
        """Cosine of each term's gradient over all the examples with a vector of ``along``.

        Raises:
            KeyError: There is no such vector.
            ValueError: Only single batches were recorded.
        """
        along, a = self._along(name)
        if self.whole is None:
            raise ValueError("whole must be there. Got a recording of single batches only: use conflict.measure.")
        size = inner_products.norms(self.whole.gram.sum(axis=0)) * np.sqrt(along.squared[:, a].sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            return dict(zip(self.terms, (along.whole[..., a].sum(axis=0) / size).tolist(), strict=True))

    def pair(self, a: str, b: str) -> Conflict:
        """That of two of the terms, in this order.

        Raises:
            KeyError: One of them was not measured.
            ValueError: They are the same.
        """
        for term in (a, b):
            if term not in self.terms:
                raise KeyError(f"expected a term of this conflict, one of {', '.join(self.terms)}. Got {term!r}.")
        if a == b:
            raise ValueError(f"a and b must be two different terms. Got {a!r} twice.")
        rows = [self.terms.index(term) for term in (a, b)]
        return Conflict(
            (a, b),
            self.step,
            self.layers,
            self.gram[..., rows, :][..., rows],
            None if self.sizes is None else self.sizes[:, rows],
            None if self.whole is None else self.whole.chosen(rows),
            None if self.along is None else self.along.chosen(rows),
            self.by,
            self.attrs,
            {name: group.pair(a, b) for name, group in self.groups.items()},
            None if self.spread is None else self.spread[:, rows],
        )

    def grouped(self, by: str) -> Conflict:
        """With its layers put together into larger parts: ``"layer"`` (of parameters) or ``"block"``.

        Raises:
            ValueError: ``by`` is something else, or finer than what was measured.
        """
        order = ("parameter", "layer", "block")
        if by not in order or order.index(by) < order.index(self.by):
            raise ValueError(
                f"by must be {self.by} or coarser, of {', '.join(order)}. Got {by!r}: measure it with by={by!r}."
            )
        if by == self.by:
            return self
        part = modules.units(self.layers, by) if self.by == "parameter" else {n: modules.block(n) for n in self.layers}
        names = tuple(dict.fromkeys(part.values()))
        sums = np.array([[part[layer] == name for layer in self.layers] for name in names], dtype=np.float64)
        return Conflict(
            self.terms,
            self.step,
            names,
            np.einsum("nl,blkm->bnkm", sums, self.gram),
            self.sizes,
            None if self.whole is None else self.whole.summed(names, sums),
            None if self.along is None else self.along.summed(sums),
            by,
            self.attrs,
            {name: group.grouped(by) for name, group in self.groups.items()},
            self.spread,
        )

    def intervals(self, seed: int = 0) -> dict[str, Interval]:
        """95 % intervals for means over batches, see `landscape.conflict.intervals.intervals`."""
        from landscape.conflict import intervals

        return intervals.intervals(self, seed)

    def summary(self) -> str:
        """The main numbers with their intervals, and what they leave out, in a few lines of text."""
        from landscape.conflict import summary

        return summary.text(self)

    def save(self, path: str | Path) -> None:
        """Write to an HDF5 file, replacing one that is there.

        Raises:
            OSError: The file cannot be written.
        """
        from landscape import store

        store.save_conflict(path, self)

    def show(self) -> None:
        """Show the records to be read and compared: in a notebook below the cell, elsewhere in the web browser."""
        from landscape import notebook

        notebook.show(self)

    def _along(self, name: str) -> tuple[Along, int]:
        names = () if self.along is None else self.along.names
        if self.along is None or name not in names:
            raise KeyError(f"expected a vector of along, one of {', '.join(names) or 'none'}. Got {name!r}.")
        return self.along, names.index(name)

    def _of_terms(self, values: Array) -> dict[str, Array]:
        return {term: values[..., k] for k, term in enumerate(self.terms)}

    def _of_pair(self, a: Array, b: Array) -> dict[str, Array]:
        return {self.terms[0]: a, self.terms[1]: b}

    def __repr__(self) -> str:
        known = self.cosine[~np.isnan(self.cosine)]
        agree = (
            f"mean cosine {known.mean():+.3f}, {self.fraction_negative:.0%} negative"
            if known.size
            else "mean cosine undefined"
        )
        of = "" if len(self.terms) == 2 else f"{self.terms[0]} and {self.terms[1]}: "
        names = " and ".join([", ".join(self.terms[:-1]), self.terms[-1]])
        return f"<Conflict of {names}: {len(self.step)} records, {len(self.layers)} {self.by}s, {of}{agree}>"

    def _repr_html_(self) -> str:
        from landscape import notebook
        from landscape.conflict import summary

        return summary.html(self) + notebook.conflict_picture(self)
