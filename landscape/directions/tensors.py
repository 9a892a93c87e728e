"""Directions that a user brings: eigenvectors, differences of checkpoints, whatever has the shapes of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from landscape import modules
from landscape.directions.axes import Directions
from landscape.directions.normalisation import Normalize, Units, one_of
from landscape.directions.weights import like, read


def from_tensors(
    model: nn.Module,
    axes: Mapping[str, Tensor] | Sequence[Mapping[str, Tensor]],
    *,
    normalize: Normalize = "none",
    partial: bool = False,
) -> Directions:
    """Directions from the user's own tensors, which are copied.

    Args:
        model: Whose weights are moved.
        axes: For one direction or several ``{name: tensor}``, by the names of parameters and buffers, in their shapes.
            Buffers may be left out; entries of integers stay put.
        normalize: How they are scaled to the weights that they move, see `random`.
        partial: Whether parameters may be left out; they stay put.

    Raises:
        TypeError: It is no mapping of tensors, nor a sequence of such.
        ValueError: There is none, or a tensor is missing, unknown, of another shape or not finite (named).
    """
    one_of("normalize", normalize, Normalize)
    model = modules.unwrap(model)
    modules.check(model)
    every = [axes] if isinstance(axes, Mapping) else list(axes)
    required = () if partial else modules.parameters(model)
    found = [read(model, axis, f"axis {i}", required) for i, axis in enumerate(every)]
    if not found or not all(found):
        raise ValueError("axes must hold at least one direction, each with at least one tensor. Got none.")
    return Directions(tuple(_scaled(model, axis, normalize) for axis in found), normalize, "none", kind="tensors")


def _scaled(model: nn.Module, axis: Mapping[str, Tensor], normalize: Normalize) -> dict[str, Tensor]:
    state = modules.state(model)
    units = Units({name: modules.wide(state[name]) for name in axis}, normalize, modules.filter_layouts(model))
    return like(units.normalized({name: modules.wide(d).clone() for name, d in axis.items()}), state)
