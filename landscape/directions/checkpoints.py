"""Directions from one trained network to others."""

from __future__ import annotations

from torch import Tensor, nn

from landscape import modules
from landscape.directions.axes import Directions


def interpolation(start: nn.Module, end: nn.Module) -> Directions:
    """The direction from the weights of ``start`` (at 0) to those of ``end`` (at 1).

    Unlike a random direction it moves the buffers too (running statistics), so that both ends are the two networks,
    ``end`` up to rounding; beyond them a running variance may turn negative, and the cell not finite.

    Raises:
        ValueError: The two models differ in the names or shapes of their parameters or buffers.
    """
    starts, ends = modules.state(modules.unwrap(start)), modules.state(modules.unwrap(end))
    if starts.keys() != ends.keys():
        odd = min(starts.keys() ^ ends.keys())
        raise ValueError(f"both models must have the same parameters and buffers. Got {odd!r} in only one of them.")
    axis: dict[str, Tensor] = {}
    for name, value in starts.items():
        if value.shape != ends[name].shape:
            raise ValueError(f"{name!r} must have one shape. Got {list(value.shape)} and {list(ends[name].shape)}.")
        if modules.is_continuous(value):
            axis[name] = ends[name].to(value) - value
    return Directions((axis,), normalize="none", ignore="none", kind="interpolation")
