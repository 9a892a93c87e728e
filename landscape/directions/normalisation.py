"""Scaling a direction to the weights it moves, and making directions orthogonal, in units of filters or wider.

Filter normalisation is that of Li et al., "Visualizing the Loss Landscape of Neural Nets" (NeurIPS 2018), section 4:
every filter of the direction gets the norm of the filter that it moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Normalize = Literal["filter", "layer", "model", "none"]
Ignore = Literal["biasbn", "none"]

Layout = tuple[int, int]
"""``(output axis, groups to split axis 0 by)`` of a parameter's filters."""

_NOTHING_LEFT = 1e-9
"""A filter that keeps less than this part of its norm, next to those of the other directions, has no room for more."""


def one_of(argument: str, value: str, allowed: object) -> None:
    """Refuse a value that is not one of a ``Literal``'s.

    Raises:
        ValueError: With those that are.
    """
    if value not in get_args(allowed):
        raise ValueError(f"{argument} must be one of {', '.join(get_args(allowed))}. Got {value!r}.")


def inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """Inner product of two directions over all their tensors; of complex ones the real part."""
    return torch.stack([t.sum() for t in _products(a, b).values()]).sum()


class Units:
    """The parts of the weights that are scaled together: filters, tensors, or all at once.

    Args:
        weights: What moves, by name.
        normalize: ``"filter"``, ``"layer"``, or what counts as a whole.
        layouts: Of the parameters whose filters are not on axis 0.
    """

    def __init__(self, weights: Mapping[str, Tensor], normalize: Normalize, layouts: Mapping[str, Layout]) -> None:
        self.weights = weights
        self.normalize = normalize
        self._layouts = {name: layouts.get(name, (0, 1)) for name in weights} if normalize == "filter" else {}

    def normalized(self, axis: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``axis`` with the norms of the weights, unit by unit; a zero stays zero."""
        if self.normalize == "none":
            return dict(axis)
        wanted, norms = self._inner(self.weights, self.weights), self._inner(axis, axis)
        return {name: d * (wanted[name] / norms[name].where(norms[name] > 0, 1.0)).sqrt() for name, d in axis.items()}

    def orthogonalized(self, axis: Mapping[str, Tensor], others: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """``axis`` without its parts along the orthogonal ``others``, unit by unit."""
        found = dict(axis)
        for other in [*others, *others]:  # the second time takes out the rounding of the first
            along, squares = self._inner(other, found), self._inner(other, other)
            for name, d in found.items():
                found[name] = d - other[name] * (along[name] / squares[name].where(squares[name] > 0, 1.0))
        left, before = self._inner(found, found), self._inner(axis, axis)
        room = {name: left[name] > _NOTHING_LEFT**2 * before[name] for name in found}
        return {name: d.where(room[name], 0.0) for name, d in found.items()}

    def _inner(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Inner product of each unit, shaped to multiply each tensor."""
        if self.normalize in ("model", "none"):
            return dict.fromkeys(a, inner(a, b))
        products = _products(a, b)
        if self.normalize == "filter":
            return {name: _filter_sums(t, self._layouts[name]) for name, t in products.items()}
        return {name: t.sum() for name, t in products.items()}


def _products(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: (a[name].conj() * b[name]).real if a[name].is_complex() else a[name] * b[name] for name in a}


def _filter_sums(t: Tensor, layout: Layout) -> Tensor:
    """Sum over each filter, shaped to multiply ``t``; a tensor of fewer than two axes is one filter."""
    if t.ndim < 2:
        return t.sum()
    axis, groups = layout
    if groups == 1:
        return t.sum([i for i in range(t.ndim) if i != axis], keepdim=True)
    grouped = t.unflatten(0, (groups, -1))  # a grouped transposed convolution: [groups, in, out, ...]
    return grouped.sum([1, *range(3, grouped.ndim)], keepdim=True).expand_as(grouped).flatten(0, 1)
