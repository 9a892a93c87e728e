"""Gradients of single terms, their inner products, and their sums over the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from landscape.problem import PerToken, Term, differentiable, reached

_CHUNK = 1 << 15
"""Elements taken at a time on the CPU, so that they are still in its cache when they are multiplied."""


def gram(vectors: Sequence[Sequence[Tensor]], layer: Sequence[int], n_layers: int) -> Tensor:
    """Inner products of any number of gradients in each layer, ``[L, K, K]``, float64 (float32 on MPS).

    Args:
        vectors: For each of K gradients, a tensor for each parameter, all in the same order and shapes.
        layer: The layer's index for each parameter.
        n_layers: L.
    """
    device = vectors[0][0].device
    wide = torch.float32 if device.type == "mps" else torch.float64
    products = torch.zeros(n_layers, len(vectors), len(vectors), dtype=wide, device=device)
    flat = [[_flat(tensor) for tensor in vector] for vector in vectors]
    step = _CHUNK if device.type == "cpu" else max(1, *(len(tensor) for tensor in flat[0]))
    # A float32 dot product of a million weights is off by 1e-6, which an inconsistent norm, the root of a difference
    # of squares, would show as 1e-3. Converting into one buffer that stays in the cache halves the cost of float64.
    buffer = torch.empty(len(vectors), step, dtype=wide, device=device)
    for row, *tensors in zip(layer, *flat, strict=True):
        for start in range(0, len(tensors[0]), step):
            pieces = [tensor[start : start + step] for tensor in tensors]
            part = buffer[:, : len(pieces[0])]
            for line, piece in zip(part, pieces, strict=True):
                line.copy_(piece)
            products[row].addmm_(part, part.T)
    return products


def _flat(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).reshape(-1)


class Taken:
    """The gradients of some terms' means over one batch.

    Attributes:
        gradients: For each term a tensor for each parameter, zeros where the term does not depend on it.
        sizes: How many examples (tokens, of a `PerToken` term) each mean is over; without any the gradient is zero.
        reached: For each term, which parameters it depends on.
    """

    def __init__(self, losses: Mapping[str, Term], terms: Sequence[str], parameters: Sequence[Tensor]) -> None:
        self.gradients: list[list[Tensor]] = []
        self.sizes: list[float] = []
        self.reached: list[set[int]] = []
        for term in terms:
            loss = differentiable(losses, term)
            # A mean over nothing is NaN; its gradient is zero all the same, since no value has a part in it.
            found = torch.autograd.grad(loss.mean(), parameters, retain_graph=term != terms[-1], allow_unused=True)
            reached(found, term)
            self.gradients.append(
                [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
            )
            self.sizes.append(float(loss.counted.sum()) if isinstance(loss, PerToken) else float(len(loss)))
            self.reached.append({i for i, gradient in enumerate(found) if gradient is not None})


class HalfSums:
    """Sums of K terms' gradients over the examples of the even and of the odd batches.

    They take the memory of 2 K gradients of the model, in its precision (float32 for shorter ones).

    Args:
        parameters: What the gradients are by.
        terms: K.
    """

    def __init__(self, parameters: Sequence[Tensor], terms: int) -> None:
        self.sums = [
            [torch.zeros_like(p, dtype=torch.promote_types(p.dtype, torch.float32)) for p in parameters]
            for _ in range(2 * terms)
        ]
        self._terms = terms

    def add(self, batch: int, taken: Taken) -> None:
        """Take in the gradients of a batch."""
        first = batch % 2 * self._terms
        for total, gradient, size in zip(self.sums[first:], taken.gradients, taken.sizes, strict=False):
            torch._foreach_add_(total, gradient, alpha=size)
