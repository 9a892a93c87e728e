"""Directions in weight space: what the coordinates of a surface are multiples of.

Random directions are normalised as in Li et al., "Visualizing the Loss Landscape of Neural Nets" (NeurIPS 2018),
section 4: every filter of the direction gets the norm of the filter that it moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from landscape.provenance import digest_tensors

Normalize = Literal["filter", "layer", "model", "none"]
Ignore = Literal["biasbn", "none"]


@dataclass(frozen=True)
class Directions:
    """One or more directions, each a tensor for every parameter (or buffer) that moves.

    Attributes:
        axes: For each direction ``{name: tensor}``, in the shape of the parameter of that name.
        normalize: How each was scaled.
        ignore: Which parameters stay put.
        seed: What they were drawn with, or None where nothing was drawn.
    """

    axes: tuple[Mapping[str, Tensor], ...]
    normalize: str
    ignore: str
    seed: int | None = None

    def __len__(self) -> int:
        return len(self.axes)

    @property
    def sha256(self) -> str:
        """Digest of every tensor with its name, in the order of the names."""
        return digest_tensors(
            (f"{i}/{name}", tensor) for i, axis in enumerate(self.axes) for name, tensor in sorted(axis.items())
        )


def random(
    model: nn.Module,
    n: int = 2,
    *,
    normalize: Normalize = "filter",
    ignore: Ignore = "biasbn",
    seed: int = 0,
) -> Directions:
    """``n`` independent Gaussian directions for the parameters of ``model``.

    Direction ``i`` depends on the seed and ``i`` only: not on ``n``, the device or the global generators.

    Args:
        model: Whose weights are moved; read, never written to. A tied parameter is moved once.
        n: How many directions, at least 1.
        normalize: ``"filter"``: each filter (output unit) gets the norm of the filter it moves; ``"layer"``: each
            parameter tensor gets the norm of its parameter; ``"model"``: the whole direction gets the norm of all the
            weights that move; ``"none"``: as drawn. The output axis is known from the module: 0, except 1 for
            transposed convolutions and for GPT-2's ``Conv1D``.
        ignore: ``"biasbn"``: parameters of one or no dimension (biases, normalisation layers) stay put; ``"none"``:
            all move. A one-dimensional parameter counts as a single filter.
        seed: Of the draw.

    Raises:
        ValueError: An argument is not one of those named, or nothing is left to move.
    """
    _one_of("normalize", normalize, get_args(Normalize))
    _one_of("ignore", ignore, get_args(Ignore))
    if n < 1:
        raise ValueError(f"n must be at least 1. Got {n}.")
    moved = {name: p.detach() for name, p in model.named_parameters() if ignore == "none" or p.ndim > 1}
    if not moved:
        raise ValueError("model must have a parameter of two or more dimensions. Got none. Use ignore='none'.")
    layouts = _filter_layouts(model)
    weights = {name: p.cpu().double() for name, p in moved.items()}  # the same bits whatever the device
    axes = []
    for i in range(n):
        axis = _normalized(_gaussian(weights, seed, i), weights, normalize, layouts)
        axes.append({name: d.to(moved[name].dtype).to(moved[name].device) for name, d in axis.items()})
    return Directions(tuple(axes), normalize, ignore, seed)


def interpolation(start: nn.Module, end: nn.Module) -> Directions:
    """The direction from the weights of ``start`` (at 0) to those of ``end`` (at 1).

    Unlike a random direction it moves the buffers too (running statistics), so that both ends are the two networks,
    ``end`` up to rounding; beyond them a running variance may turn negative, and the cell not finite.

    Raises:
        ValueError: The two models differ in the names or shapes of their parameters or buffers.
    """
    ends = dict(end.named_parameters()) | dict(end.named_buffers())
    starts = dict(start.named_parameters()) | dict(start.named_buffers())
    if starts.keys() != ends.keys():
        odd = min(starts.keys() ^ ends.keys())
        raise ValueError(f"both models must have the same parameters and buffers. Got {odd!r} in only one of them.")
    axis: dict[str, Tensor] = {}
    for name, value in starts.items():
        if value.shape != ends[name].shape:
            raise ValueError(f"{name!r} must have one shape. Got {list(value.shape)} and {list(ends[name].shape)}.")
        if value.is_floating_point():
            axis[name] = ends[name].detach().to(value) - value.detach()
    return Directions((axis,), normalize="none", ignore="none")


def _one_of(argument: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(allowed)}. Got {value!r}.")


def _gaussian(weights: Mapping[str, Tensor], seed: int, index: int) -> dict[str, Tensor]:
    entropy = np.random.SeedSequence([seed, index]).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(entropy[0]) << 31 | int(entropy[1]) >> 1)
    return {name: torch.randn(w.shape, generator=generator, dtype=torch.float64) for name, w in weights.items()}


def _normalized(
    axis: dict[str, Tensor], weights: Mapping[str, Tensor], normalize: Normalize, layouts: Mapping[str, tuple[int, int]]
) -> dict[str, Tensor]:
    if normalize == "none":
        return axis
    if normalize == "model":
        scale = _total_norm(weights) / _total_norm(axis)
        return {name: d * scale for name, d in axis.items()}
    scaled = {}
    for name, d in axis.items():
        layout = layouts.get(name, (0, 1)) if normalize == "filter" else None
        norm = _filter_norms(d, layout)
        ratio = _filter_norms(weights[name], layout) / norm.where(norm > 0, 1.0)
        scaled[name] = d * ratio
    return scaled


def _total_norm(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([t.square().sum() for t in tensors.values()]).sum().sqrt()


def _filter_norms(t: Tensor, layout: tuple[int, int] | None) -> Tensor:
    """Norm of each filter, shaped to multiply ``t``; a tensor of fewer than two axes is one filter."""
    if layout is None or t.ndim < 2:
        return t.norm().expand_as(t)
    axis, groups = layout
    if groups == 1:
        others = [i for i in range(t.ndim) if i != axis]
        return t.square().sum(others, keepdim=True).sqrt()
    grouped = t.unflatten(0, (groups, -1))  # a grouped transposed convolution: [groups, in, out, ...]
    norms = grouped.square().sum([1, *range(3, grouped.ndim)], keepdim=True).sqrt()
    return norms.expand_as(grouped).flatten(0, 1)


def _filter_layouts(model: nn.Module) -> dict[str, tuple[int, int]]:
    """``(output axis, groups to split axis 0 by)`` of the parameters whose filters are not on axis 0."""
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    layouts = {}
    for prefix, module in model.named_modules():
        name = f"{prefix}.weight" if prefix else "weight"
        if isinstance(module, transposed):
            layouts[name] = (1, module.groups)
        elif type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
            layouts[name] = (1, 1)  # the layer of Hugging Face's GPT-2: weight [in, out]
    return layouts
