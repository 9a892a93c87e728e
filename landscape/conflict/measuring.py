"""Gradients of terms, batch by batch and over all examples, and the split of two into what they share and what not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import combinations, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from landscape import modules
from landscape.batches import count
from landscape.conflict.gradients import HalfSums, Taken, gram
from landscape.conflict.result import Conflict
from landscape.conflict.whole import Along, Whole
from landscape.isolation import preserve_rng
from landscape.problem import Problem, per_example
from landscape.progress import bar
from landscape.provenance import digest_model, stamp
from landscape.results import Array


class Parts(NamedTuple):
    """Two vectors split into what they share and what is left of each."""

    consistent: Tensor
    inconsistent_a: Tensor
    inconsistent_b: Tensor


def decompose(a: Tensor, b: Tensor) -> Parts:
    """Split two vectors into the consistent part shared by both and an inconsistent part of each.

    With the bisector u = (a/|a| + b/|b|), normalised: consistent = max(0, min(a.u, b.u)) u, inconsistent = the rest.
    So a = b leaves nothing inconsistent, a = 2b shares b, and opposite vectors share nothing. It is symmetric and the
    same in any basis. The paper (section 3.3) names the two parts and leaves their definition open.

    Args:
        a: ``[D]``.
        b: ``[D]``.

    Raises:
        ValueError: The two are not vectors of one length.
    """
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"a and b must be vectors of one length. Got shapes {list(a.shape)} and {list(b.shape)}.")
    norm_a, norm_b = a.norm(), b.norm()
    bisector = a / norm_a + b / norm_b if norm_a > 0 and norm_b > 0 else torch.zeros_like(a)
    length = bisector.norm()
    if length <= 8 * torch.finfo(a.dtype).eps:  # opposite, or one is zero: no direction is shared
        return Parts(torch.zeros_like(a), a.clone(), b.clone())
    unit = bisector / length
    consistent = torch.clamp(torch.minimum(a @ unit, b @ unit), min=0) * unit
    return Parts(consistent, a - consistent, b - consistent)


def layers_of(model: nn.Module) -> dict[str, str]:
    """The module that owns each parameter, ``{parameter name: module name}``; a tied one counts once."""
    return modules.units((name for name, _ in model.named_parameters()), "layer")


def from_gram(
    terms: Sequence[str], step: Sequence[int], layers: Sequence[str], grams: ArrayLike, *, by: str = "layer"
) -> Conflict:
    """The conflict that inner products tell.

    Args:
        terms: Names of the K gradients.
        step: ``[B]``.
        layers: ``[L]``.
        grams: ``[B, L, K, K]``, see `gram`.
        by: What the layers are, see `measure`.

    Raises:
        ValueError: The terms are fewer than two or not different, or the inner products are of another shape.
    """
    terms = _checked(terms)
    shape = (len(step), len(layers), len(terms), len(terms))
    products = np.asarray(grams, np.float64)
    if products.size == 0:
        products = products.reshape(shape)  # of no records
    if products.shape != shape:
        raise ValueError(f"grams must be of shape [B, L, K, K], {list(shape)}. Got {list(products.shape)}.")
    return Conflict(terms, np.asarray(step, np.int64), tuple(layers), products, by=by)


@torch.inference_mode(mode=False)  # the private copy too must be able to have gradients
def measure(
    problem: Problem,
    terms: Sequence[str] = ("ce", "kd"),
    batches: int | None = None,
    label: str = "conflict",
    *,
    by: str = "layer",
    along: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Conflict:
    """Gradients of terms on each batch of a problem and on all of them, in eval mode, and how they agree.

    A batch costs one forward pass, and one backward pass for each term. Of K terms, 2 K gradients of the model are
    kept in memory besides.

    Args:
        problem: Model, objective and data. Parameters that do not require gradients are left out.
        terms: Names of two or more differentiable terms; each gradient is of the term's mean over the batch. A batch
            without examples of a term (a mask that leaves out every token) has no cosine, and no weight in the whole.
        batches: How many batches to read; all by default.
        label: Name on the progress bar.
        by: What a layer is: ``"parameter"``, ``"layer"`` (the module that owns the parameters) or ``"block"``, see
            `landscape.modules.block`.
        along: Other vectors to compare the gradients with, by name: each has a tensor for every parameter that
            requires gradients, by the parameter's name.

    Returns:
        One record a batch, and ``whole``: what holds for all the examples that were read.

    Raises:
        ValueError: A term is missing, is not of shape ``[N]``, has no gradient, or is not finite (the batch is named);
            or a vector of ``along`` does not fit the model.
    """
    terms = _checked(terms)
    if batches is not None and batches < 1:
        raise ValueError(f"batches must be at least 1, or None for all. Got {batches}.")
    model = problem.private_copy()
    for copy, original in zip(model.parameters(), problem.model.parameters(), strict=True):
        copy.requires_grad_(original.requires_grad)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("model must have parameters that require gradients. Got none: all are frozen.")
    vectors = _vectors(along or {}, parameters)
    taking = _Pass(terms, modules.units(parameters, by), list(parameters.values()), list(vectors.values()))
    source = problem.iterate()
    total = batches or count(problem.batches)
    with (
        preserve_rng(0, problem.device),
        torch.enable_grad(),
        closing(source),
        bar(total, label, "batch") as progress,
    ):
        for batch in islice(source, batches):
            model.eval()  # an objective may have left it in another mode
            taking.add(Taken(per_example(problem.objective(model, batch), batch), terms, taking.parameters))
            progress.update()
    result = taking.result(by, tuple(vectors))
    result.attrs = _provenance(problem) | {"share_no_parameter": taking.apart()}
    return result


class _Pass:
    """What is gathered while the batches go by."""

    def __init__(
        self, terms: tuple[str, ...], unit: Mapping[str, str], parameters: list[Tensor], vectors: list[list[Tensor]]
    ) -> None:
        self.terms, self.parameters = terms, parameters
        self._layers = list(dict.fromkeys(unit.values()))
        self._index = [self._layers.index(name) for name in unit.values()]
        self._vectors = vectors
        self._halves = HalfSums(parameters, len(terms))
        self._grams: list[Tensor] = []
        self._sizes: list[list[float]] = []
        self._reached: list[set[int]] = [set() for _ in terms]

    def add(self, taken: Taken) -> None:
        """Take in a batch."""
        number = len(self._grams)
        products = self._products([*taken.gradients, *self._vectors])
        for term, squared in zip(self.terms, products.sum(0).diagonal(), strict=False):
            if not squared.isfinite():
                raise ValueError(
                    f"the gradient of term {term!r} must be finite. Got one that is not, in batch {number}."
                )
        self._halves.add(number, taken)
        self._grams.append(products)
        self._sizes.append(taken.sizes)
        for known, found in zip(self._reached, taken.reached, strict=True):
            known |= found

    def result(self, by: str, names: tuple[str, ...]) -> Conflict:
        """The conflict, once all batches have been taken in."""
        products, sizes, k = torch.stack(self._grams).double().numpy(), np.array(self._sizes), len(self.terms)
        found = from_gram(self.terms, range(len(products)), self._layers, products[..., :k, :k], by=by)
        found.sizes = sizes
        sums = self._products([*self._halves.sums, *self._vectors]).double().numpy()
        # A term that has no example in any batch has the sum 0: divided by 1, it stays that.
        scale = 1 / np.maximum(sizes.sum(axis=0), 1.0)
        found.whole = self._whole(found, sums[:, : 2 * k, : 2 * k], scale)
        if names:
            onto = sums[:, : 2 * k, 2 * k :].reshape(-1, 2, k, len(names)).sum(axis=1) * scale[:, None]
            squared: Array = np.diagonal(sums[:, 2 * k :, 2 * k :], axis1=1, axis2=2)
            found.along = Along(names, products[..., :k, k:], onto, squared.copy())
        return found

    def apart(self) -> list[list[str]]:
        """Pairs of terms that do not depend on any common parameter."""
        reached = dict(zip(self.terms, self._reached, strict=True))
        return [[a, b] for a, b in combinations(self.terms, 2) if not reached[a] & reached[b]]

    def _whole(self, found: Conflict, sums: Array, scale: Array) -> Whole:
        k, sizes = len(self.terms), np.asarray(found.sizes)
        halves = sums.reshape(-1, 2, k, 2, k).transpose(1, 3, 0, 2, 4) * np.outer(scale, scale)
        counts = sizes.sum(axis=0)
        shares = np.stack([sizes[half::2].sum(axis=0) for half in (0, 1)]) / np.maximum(counts, 1.0)
        whole = Whole(self.terms, found.layers, halves, shares, np.empty(0), counts, (sizes > 0).sum(axis=0))
        squared = np.einsum("blkk,bk->lk", found.gram, sizes) - whole.counts * np.einsum("lkk->lk", whole.gram)
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.maximum(squared, 0.0) / (whole.batches - 1)
        whole.spread = np.where(whole.batches > 1, spread, np.nan)
        return whole

    def _products(self, vectors: Sequence[Sequence[Tensor]]) -> Tensor:
        return gram(vectors, self._index, len(self._layers)).cpu()


def _checked(terms: Sequence[str]) -> tuple[str, ...]:
    if isinstance(terms, str) or len(terms) < 2 or len(set(terms)) < len(terms):
        raise ValueError(f"terms must be two or more different names, such as ('ce', 'kd'). Got {terms!r}.")
    return tuple(terms)


def _vectors(along: Mapping[str, Mapping[str, Tensor]], parameters: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    for name, vector in along.items():
        for parameter, p in parameters.items():
            if parameter not in vector or vector[parameter].shape != p.shape:
                got = list(vector[parameter].shape) if parameter in vector else "none"
                raise ValueError(
                    f"along[{name!r}] must have a tensor of shape {list(p.shape)} for {parameter}. Got {got}."
                )
    return {
        name: [vector[n].to(p.device, torch.promote_types(p.dtype, torch.float32)) for n, p in parameters.items()]
        for name, vector in along.items()
    }


def _provenance(problem: Problem) -> dict[str, Any]:
    measured = {"checkpoint_sha256": digest_model(problem.model), "split": problem.split}
    return stamp(problem.device) | measured | problem.of_epoch
