"""Directions from one trained network to others."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from landscape import modules
from landscape.directions.axes import Directions
from landscape.directions.normalisation import Units, inner
from landscape.directions.weights import like, read


def interpolation(start: nn.Module, end: modules.Weights) -> Directions:
    """The direction from the weights of ``start`` (at 0) to those of ``end`` (at 1).

    Unlike a random direction it moves the buffers too (running statistics), so that both ends are the two networks,
    ``end`` up to rounding; beyond them a running variance may turn negative, and the cell not finite.

    Args:
        start: The network at the origin.
        end: Another of the same kind, or its state dict; a buffer that state dicts leave out stays that of ``start``.

    Raises:
        TypeError: ``end`` is neither.
        ValueError: The two differ in the names or shapes of their parameters or buffers (named).
    """
    start = modules.unwrap(start)
    modules.check(start)
    starts, kept = modules.state(start), start.state_dict()
    ends = read(start, end, "end", [name for name, t in starts.items() if name in kept and modules.is_continuous(t)])
    axis: dict[str, Tensor] = {}
    for name, value in starts.items():
        if name in ends:
            there = ends[name].to(value)
            axis[name] = (there - value).where(there != value, 0)  # a mask of -inf in both stays what it is
    return Directions((axis,), normalize="none", ignore="none", kind="interpolation")


def plane(a: nn.Module, b: modules.Weights, c: modules.Weights) -> Directions:
    """The plane through three networks: ``a`` at (0, 0), ``b`` at (1, 0), ``c`` above or below the line between them.

    The first direction is b - a; the second is the part of c - a orthogonal to it, with the norm of the first, so that
    a distance in the plane is the same in both directions. Only parameters move: the buffers stay those of ``a``, and
    a network with batch norm needs statistics of its own at each point (``bn_mode="recalibrate"``).

    Args:
        a: The network at the origin, the problem's.
        b: Another of the same kind, or its state dict.
        c: Likewise.

    Returns:
        Two directions; ``points`` are the places of ``"a"``, ``"b"`` and ``"c"``, each ``[1, 2]``. ``c`` is reached up
        to rounding.

    Raises:
        TypeError: ``b`` or ``c`` is neither a module nor a state dict.
        ValueError: They are not of one kind (what differs is named), ``b`` equals ``a``, or all three are on a line: to
            half of the digits of their dtype, since a mean of two networks is on their line up to rounding only.
    """
    a = modules.unwrap(a)
    modules.check(a)
    moved = modules.parameters(a)
    to_b, to_c = _difference(a, b, "b"), _difference(a, c, "c")
    length = inner(to_b, to_b).sqrt()
    if length == 0:
        raise ValueError("a and b must differ. Got the same parameters: pass another network as b.")
    whole = Units(to_b, "model", {})
    beside = whole.orthogonalized(to_c, [to_b])
    height = inner(beside, beside).sqrt()
    if height <= _half_the_digits(moved) * inner(to_c, to_c).sqrt():
        raise ValueError(
            "a, b and c must span a plane. Got c on the line through a and b. "
            "Use interpolation(a, b) for the line, or pass another network as c."
        )
    axes = tuple(like(axis, moved) for axis in (to_b, whole.normalized(beside)))
    place = [float(inner(to_b, to_c) / length**2), float(height / length)]
    points = {"a": np.zeros((1, 2)), "b": np.array([[1.0, 0.0]]), "c": np.array([place])}
    return Directions(axes, normalize="none", ignore="none", kind="plane", points=points)


def _difference(origin: nn.Module, other: modules.Weights, what: str) -> dict[str, Tensor]:
    """``other`` - ``origin`` for every parameter, in double precision on the CPU."""
    moved = modules.parameters(origin)
    there = read(origin, other, what, moved)
    return {name: modules.wide(there[name]) - modules.wide(p) for name, p in moved.items()}


def _half_the_digits(parameters: dict[str, Tensor]) -> float:
    return math.sqrt(max(torch.finfo(p.dtype).eps for p in parameters.values()))
