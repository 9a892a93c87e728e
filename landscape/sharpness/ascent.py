"""The largest loss in a ball around the weights, searched for by projected gradient ascent from several starts."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from landscape.derivatives import Derivatives
from landscape.results import Array

Ball = Literal["l2", "linf"]
"""Which norm is bounded: of the offset ``e`` in scaled coordinates ``z``, ``e = scale * z`` with ``|z| <= radius``."""

_FIRST = 4.0
"""First step, in radii: nearly as far as the slope points, which for a convex loss always leads up."""


def highest(
    derivatives: Derivatives, scale: Tensor, radius: float, ball: Ball, *, starts: int, steps: int, seed: int
) -> Array:
    """By how much each start gets above the loss at the weights, ``[starts]``; each is a lower bound of the maximum.

    The first start is as far as the ball reaches along the gradient, the others are random points of its surface. A
    step goes along the gradient, of length 1 in the ball's norm, and is projected onto the ball; one that does not lead
    up is taken back and halved.

    Args:
        derivatives: Of the term.
        scale: How far each weight moves for a coordinate of 1, ``[D]``, at least 0.
        radius: Of the ball.
        ball: Its norm.
        starts: How many.
        steps: Of each; each costs a gradient.
        seed: Of the random starts.

    Raises:
        ValueError: The term has no gradient, or is not finite somewhere in the ball.
    """
    here = derivatives.slope()
    draw = torch.Generator().manual_seed(seed)
    first = _steepest(here.gradient * scale, ball)
    drawn = [torch.randn(len(scale), generator=draw, dtype=torch.float64).to(scale) for _ in range(starts)]
    along = [first if i == 0 and first.any() else _steepest(z * (scale > 0), ball) for i, z in enumerate(drawn)]
    try:
        return np.array([_climb(derivatives, scale, radius * z, radius, ball, steps) - here.value for z in along])
    finally:
        derivatives.move()


def _climb(derivatives: Derivatives, scale: Tensor, start: Tensor, radius: float, ball: Ball, steps: int) -> float:
    """The loss at the end of one ascent."""
    z, step = start, _FIRST * radius
    derivatives.move(scale * z)
    top = derivatives.slope()
    for _ in range(steps):
        further = _projected(z + step * _steepest(top.gradient * scale, ball), radius, ball)
        derivatives.move(scale * further)
        found = derivatives.slope()
        if found.value > top.value:
            z, top = further, found
        else:
            step /= 2
    return top.value


def _steepest(gradient: Tensor, ball: Ball) -> Tensor:
    """The point of the unit ball that the gradient points to most; 0 of a zero gradient."""
    if ball == "linf":
        return gradient.sign()
    length = gradient.norm()
    return gradient / length if length > 0 else gradient


def _projected(z: Tensor, radius: float, ball: Ball) -> Tensor:
    if ball == "linf":
        return z.clamp(-radius, radius)
    return z * (radius / z.norm().clamp(min=radius))
