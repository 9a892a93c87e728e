"""Gradient conflict: how two terms of an objective pull at the same weights.

Zhao et al., "DOT: A Distillation-Oriented Trainer" (ICCV 2023, arXiv 2307.08436), section 3, finds the task and the
distillation gradients of a student in conflict. Everything here follows from three numbers for each layer, the inner
products of the two gradients with themselves and with each other (their Gram matrix).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from landscape import modules
from landscape.batches import count
from landscape.isolation import preserve_rng
from landscape.problem import Problem, Term, differentiable, per_example, reached
from landscape.progress import bar
from landscape.provenance import digest_model, stamp
from landscape.results import Array, Conflict


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
    return {name: modules.owner(name) for name, _ in model.named_parameters()}


def gram(a: Sequence[Tensor], b: Sequence[Tensor], layer: Sequence[int], n_layers: int) -> Tensor:
    """Inner products of two gradients, layer by layer: ``[L, 3]`` of a.a, b.b and a.b, float64.

    Args:
        a: A tensor for each parameter.
        b: Likewise, in the same order and shapes.
        layer: The layer's index for each parameter.
        n_layers: L.
    """
    wide = torch.float32 if a[0].device.type == "mps" else torch.float64
    products = []
    for x, y in zip(a, b, strict=True):
        x, y = x.detach().reshape(-1).to(wide), y.detach().reshape(-1).to(wide)
        products.append(torch.stack([x.dot(x), y.dot(y), x.dot(y)]))
    index = torch.as_tensor(layer, device=a[0].device)
    return torch.zeros(n_layers, 3, dtype=wide, device=a[0].device).index_add_(0, index, torch.stack(products))


def from_gram(terms: tuple[str, str], step: Sequence[int], layers: Sequence[str], grams: ArrayLike) -> Conflict:
    """The conflict that inner products tell.

    Args:
        terms: Names of the two gradients.
        step: ``[B]``.
        layers: ``[L]``.
        grams: ``[B, L, 3]``: a.a, b.b, a.b of each layer; see `gram`. Of nearly parallel gradients the inconsistent
            norm is a difference of squares, and right to 1e-8 of the gradient's norm only.
    """
    products = np.asarray(grams, np.float64).reshape(len(step), len(layers), 3)
    whole, each = _measures(products.sum(axis=1), terms), _measures(products, terms)
    return Conflict(
        terms=terms,
        step=np.asarray(step, np.int64),
        layers=tuple(layers),
        cosine=whole.cosine,
        norm=whole.norm,
        consistent=whole.consistent,
        inconsistent=whole.inconsistent,
        layer_cosine=each.cosine,
        layer_norm=each.norm,
        layer_consistent=each.consistent,
        layer_inconsistent=each.inconsistent,
    )


class _Measures(NamedTuple):
    cosine: Array
    norm: dict[str, Array]
    consistent: Array
    inconsistent: dict[str, Array]


def _measures(grams: Array, terms: tuple[str, str]) -> _Measures:
    """`decompose` in terms of the Gram matrix: a.u = |a| sqrt((1 + cos) / 2)."""
    a, b = np.sqrt(grams[..., 0]), np.sqrt(grams[..., 1])
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.clip(grams[..., 2] / (a * b), -1.0, 1.0)
    half = np.sqrt((1 + np.nan_to_num(cosine, nan=-1.0)) / 2)  # a zero gradient shares nothing
    consistent = np.minimum(a, b) * half
    left = {}
    for term, norm in zip(terms, (a, b), strict=True):
        left[term] = np.sqrt(np.maximum(norm**2 - 2 * norm * half * consistent + consistent**2, 0.0))
    return _Measures(cosine, dict(zip(terms, (a, b), strict=True)), consistent, left)


def measure(
    problem: Problem, terms: tuple[str, str] = ("ce", "kd"), batches: int | None = None, label: str = "conflict"
) -> Conflict:
    """Gradients of two terms on each batch of a problem, in eval mode, and how they agree.

    Args:
        problem: Model, objective and data. Parameters that do not require gradients are left out.
        terms: Names of two differentiable terms; each gradient is of the term's mean over the batch.
        batches: How many batches to read; all by default.
        label: Name on the progress bar.

    Returns:
        One record a batch.

    Raises:
        ValueError: A term is missing, is not of shape ``[N]``, has no gradient, or is not finite (the batch is named).
    """
    if len(terms) != 2 or terms[0] == terms[1]:
        raise ValueError(f"terms must be two different names, such as ('ce', 'kd'). Got {terms!r}.")
    if batches is not None and batches < 1:
        raise ValueError(f"batches must be at least 1, or None for all. Got {batches}.")
    model = problem.private_copy()
    for copy, original in zip(model.parameters(), problem.model.parameters(), strict=True):
        copy.requires_grad_(original.requires_grad)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError("model must have parameters that require gradients. Got none: all are frozen.")
    owner = layers_of(model)
    layers = list(dict.fromkeys(owner[name] for name in parameters))
    index = [layers.index(owner[name]) for name in parameters]
    grams: list[Tensor] = []
    source = problem.iterate()
    total = batches or count(problem.batches)
    with (
        preserve_rng(0, problem.device),
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        closing(source),
        bar(total, label, "batch") as progress,
    ):
        for number, batch in enumerate(islice(source, batches)):
            model.eval()  # an objective may have left it in another mode
            losses = per_example(problem.objective(model, batch), batch)
            a, b = (_gradient(losses, term, list(parameters.values())) for term in terms)
            grams.append(gram(a, b, index, len(layers)).cpu())
            for term, squared in zip(terms, grams[-1].sum(0)[:2], strict=True):
                if not squared.isfinite():
                    raise ValueError(
                        f"the gradient of term {term!r} must be finite. Got one that is not, in batch {number}."
                    )
            progress.update()
    result = from_gram(terms, range(len(grams)), layers, torch.stack(grams).numpy())
    result.attrs = _provenance(problem)
    return result


def _gradient(losses: Mapping[str, Term], term: str, parameters: list[Tensor]) -> list[Tensor]:
    mean = differentiable(losses, term).mean()
    gradients = torch.autograd.grad(mean, parameters, retain_graph=True, allow_unused=True)
    reached(gradients, term)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]


def _provenance(problem: Problem) -> dict[str, Any]:
    return stamp(problem.device) | {"checkpoint_sha256": digest_model(problem.model), "split": problem.split}
