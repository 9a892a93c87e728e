"""Random directions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from landscape import modules
from landscape.directions.axes import Directions
from landscape.directions.normalisation import Ignore, Normalize, Units, one_of
from landscape.directions.weights import like, moving


def random(
    model: nn.Module,
    n: int = 2,
    *,
    normalize: Normalize = "filter",
    ignore: Ignore = "biasbn",
    orthogonal: bool = False,
    seed: int = 0,
) -> Directions:
    """``n`` independent Gaussian directions for the parameters of ``model``.

    Direction ``i`` depends on the seed and ``i`` only: not on ``n``, the device or the global generators.

    Args:
        model: Whose weights are moved; read, never written to. A tied parameter is moved once, a frozen one
            (``requires_grad=False``) like any other; integers stay put.
        n: How many directions, at least 1.
        normalize: ``"filter"``: each filter (output unit) gets the norm of the filter it moves; ``"layer"``: each
            parameter tensor gets the norm of its parameter; ``"model"``: the whole direction gets the norm of all the
            weights that move; ``"none"``: as drawn. The output axis is known from the module: 0, except 1 for
            transposed convolutions and for GPT-2's ``Conv1D``.
        ignore: ``"biasbn"``: parameters of one or no dimension (biases, normalisation layers) and the gains of weight
            normalisation stay put; ``"none"``: all move. A one-dimensional parameter counts as a single filter.
        orthogonal: Whether each direction is made orthogonal to those before it, in float64, within every filter (or
            every tensor, or as a whole, as ``normalize`` says), so that it keeps its norms. A filter with fewer
            weights than directions has no room for all of them: it stays put along the later ones. By default
            they are independent, and nearly orthogonal where there are many weights.
        seed: Of the draw.

    Raises:
        ValueError: An argument is not one of those named, or nothing is left to move.
    """
    one_of("normalize", normalize, Normalize)
    one_of("ignore", ignore, Ignore)
    if seed < 0:
        raise ValueError(f"seed must be 0 or more. Got {seed}.")
    if n < 1:
        raise ValueError(f"n must be at least 1. Got {n}.")
    model = modules.unwrap(model)
    modules.check(model)
    moved = moving(model, ignore)
    weights = {name: modules.wide(p) for name, p in moved.items()}  # the same bits whatever the device
    units = Units(weights, normalize, modules.filter_layouts(model))
    axes: list[dict[str, Tensor]] = []
    for i in range(n):
        drawn = _gaussian(weights, seed, i)
        axes.append(units.normalized(units.orthogonalized(drawn, axes) if orthogonal else drawn))
    return Directions(tuple(like(axis, moved) for axis in axes), normalize, ignore, seed)


def _gaussian(weights: Mapping[str, Tensor], seed: int, index: int) -> dict[str, Tensor]:
    entropy = np.random.SeedSequence([seed, index]).generate_state(2, np.uint32)
    generator = torch.Generator().manual_seed(int(entropy[0]) << 31 | int(entropy[1]) >> 1)
    return {name: torch.randn(w.shape, generator=generator, dtype=w.dtype) for name, w in weights.items()}
