"""The weights on both ends of a direction: those that it moves, and those of another network of the same kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from landscape import modules
from landscape.directions.normalisation import Ignore


def moving(model: nn.Module, ignore: Ignore) -> dict[str, Tensor]:
    """The parameters that move, by name.

    Raises:
        ValueError: None is left.
    """
    moved = modules.parameters(model)
    if not moved:
        raise ValueError("model must have real or complex parameters to move along. Got integers only.")
    if ignore == "biasbn":
        moved = {name: p for name, p in moved.items() if p.ndim > 1 and not modules.is_gain(name, p)}
    if not moved:
        raise ValueError("model must have a parameter of two or more dimensions. Got none. Use ignore='none'.")
    return moved


def like(axis: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A direction in the dtypes and on the devices of the parameters it moves."""
    return {name: d.to(parameters[name].dtype).to(parameters[name].device) for name, d in axis.items()}


def check_fit(model: nn.Module, axes: Sequence[Mapping[str, Tensor]]) -> None:
    """Refuse directions that do not belong to the model.

    Raises:
        ValueError: A tensor is unknown, of another shape, or would move integers. It is named.
    """
    state = modules.state(model)
    for axis in axes:
        if not axis:
            raise ValueError("each direction must move something. Got an empty one.")
        for name, direction in axis.items():
            if name not in state:
                raise ValueError(f"directions must belong to the model. Got {name!r}, which the model does not have.")
            if direction.shape != state[name].shape:
                raise ValueError(
                    f"the direction of {name!r} must have the parameter's shape {list(state[name].shape)}. "
                    f"Got {list(direction.shape)}."
                )
            if not modules.is_continuous(state[name]):
                raise ValueError(f"only real and complex numbers can move. Got {name!r} of {state[name].dtype}.")


def read(model: nn.Module, other: modules.Weights, what: str, required: Iterable[str] = ()) -> dict[str, Tensor]:
    """The tensors of another network under the names that they have in ``model``; those of integers are left out.

    A tied tensor may come under each of its names, as in a state dict, or under one of them.

    Args:
        model: What the other network must be like.
        other: A module or a state dict.
        what: What errors call it.
        required: Names that must be among them.

    Raises:
        TypeError: It is neither a module nor a state dict, or an entry is no tensor.
        ValueError: A tensor is missing, unknown, of another shape, complex where the model's is real, not finite (of a
            parameter), or differs from the one that it is tied to. It is named.
    """
    first, own, parameters = _first_names(model), modules.state(model), modules.parameters(model)
    found: dict[str, Tensor] = {}
    for name, value in _by_name(other, what).items():
        if name not in first:
            if name.endswith("_extra_state"):  # what a module adds to its state dict beside tensors
                continue
            raise ValueError(f"{what} must have the model's tensors only. Got {name!r}, which the model does not have.")
        wanted = own[first[name]]
        if not modules.is_continuous(wanted):
            continue
        _check(name, value, wanted, what, finite=first[name] in parameters)
        if first[name] in found and not torch.equal(found[first[name]], value):
            raise ValueError(f"{what} must have one value for the tied {first[name]!r} and {name!r}. Got two.")
        found[first[name]] = value
    for name in required:
        if name not in found:
            raise ValueError(f"{what} must have every tensor of the model. Got no {name!r}.")
    return found


def _check(name: str, value: object, wanted: Tensor, what: str, *, finite: bool) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name!r} of {what} must be a tensor. Got {type(value).__name__}.")
    if value.shape != wanted.shape:
        raise ValueError(f"{name!r} of {what} must have the shape {list(wanted.shape)}. Got {list(value.shape)}.")
    if value.is_complex() and not wanted.is_complex():
        raise ValueError(f"{name!r} of {what} must be real, as in the model. Got {value.dtype}.")
    if finite and not value.isfinite().all():
        raise ValueError(f"{name!r} of {what} must be finite. Got NaN or infinity.")


def _by_name(weights: modules.Weights, what: str) -> Mapping[str, Tensor]:
    if isinstance(weights, nn.Module):
        return {name: tensor.detach() for name, tensor in _every_name(modules.unwrap(weights))}
    if isinstance(weights, Mapping):
        return weights
    raise TypeError(f"{what} must be a module or a state dict. Got {type(weights).__name__}.")


def _first_names(model: nn.Module) -> dict[str, str]:
    """For every name of a tensor the first one, under which directions move it."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in _every_name(model)}


def _every_name(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    return chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
