"""What a module's tensors are: which may move, what they are called, and where their filters lie."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

Weights = nn.Module | Mapping[str, Tensor]
"""A model, or its tensors by name (a state dict)."""

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile``, however nested."""
    while True:
        if isinstance(model, _WRAPPERS):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        else:
            return model


def check(model: nn.Module) -> None:
    """Refuse what cannot be moved.

    Raises:
        TypeError: It is not a module.
        ValueError: It has no parameters, lazy ones whose shape is not known yet, or some on the meta device.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module. Got {type(model).__name__}.")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise ValueError(f"model must know its shapes. Got the lazy {name!r}: run one batch through it first.")
        if tensor.is_meta:
            raise ValueError(f"model must hold its weights. Got {name!r} on the meta device: load them first.")
    if next(model.parameters(), None) is None:
        raise ValueError(f"model must have parameters to move along. Got {type(model).__name__} without any.")


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter that can move, frozen ones too, by name and detached; a tied one once, under its first name."""
    return {name: p.detach() for name, p in model.named_parameters() if is_continuous(p)}


def state(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, detached; a tied one once."""
    return {name: t.detach() for name, t in [*model.named_parameters(), *model.named_buffers()]}


def is_continuous(tensor: Tensor) -> bool:
    """Whether a tensor holds real or complex numbers: one of integers stays put."""
    return tensor.is_floating_point() or tensor.is_complex()


def wide(tensor: Tensor) -> Tensor:
    """``tensor`` on the CPU in double precision."""
    return cast(tensor.detach().cpu(), torch.float64)


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` in a precision, complex where it is complex; integers stay as they are."""
    if not is_continuous(tensor):
        return tensor
    return tensor.to(dtype.to_complex() if tensor.is_complex() else dtype)


def private_copy(model: nn.Module) -> nn.Module:
    """A deep copy in eval mode.

    Its parameters need gradients where the model's do: torch picks kernels by that, and their last bits differ.

    Raises:
        ValueError: The module cannot be copied.
    """
    # A weight that hooks compute anew in each forward pass (the older weight_norm) is part of a graph: it is copied
    # as a plain tensor.
    memo = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        twin = copy.deepcopy(model, memo)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ValueError(
            f"model must be one that copy.deepcopy can copy, since the original is never written to. "
            f"Got {type(model).__name__}: {error}. Detach the tensors kept as attributes, or rebuild it."
        ) from error
    return twin.eval()


def owner(parameter: str) -> str:
    """Name of the module that a parameter belongs to; of a parametrised weight, the layer that uses it."""
    return parameter.partition(".parametrizations.")[0] if ".parametrizations." in parameter else _parent(parameter)


def _parent(name: str) -> str:
    if name.startswith("parametrizations."):
        return "(root)"
    return name.rpartition(".")[0] or "(root)"


def is_gain(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is the magnitude of weight normalisation: like a norm's gain, a number for each filter."""
    named = name.endswith("weight_g") or (".parametrizations." in f".{name}" and name.endswith(".original0"))
    return named and parameter.numel() == max(parameter.shape, default=1)


def filter_layouts(model: nn.Module) -> dict[str, tuple[int, int]]:
    """``(output axis, groups to split axis 0 by)`` of the parameters whose filters are not on axis 0."""
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    layouts: dict[str, tuple[int, int]] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, transposed):
            layout = (1, module.groups)
        elif type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
            layout = (1, 1)  # the layer of Hugging Face's GPT-2: weight [in, out]
        else:
            continue
        start = f"{prefix}." if prefix else ""
        names = ("weight", "weight_v", *(f"parametrizations.weight.original{i}" for i in ("", "0", "1")))
        layouts |= {start + name: layout for name in names}
    return layouts


def block(layer: str) -> str:
    """The block that a layer is part of: up to the first number in its name, ``layer1.0``, ``transformer.h.3``.

    Containers of repeated blocks (``nn.ModuleList``, ``nn.Sequential``) number their children. What is in none is one
    block with all that its outermost module holds: ``conv1``, ``transformer`` (of ``transformer.wte``).
    """
    parts = layer.split(".")
    numbered = next((i for i, part in enumerate(parts) if part.isdigit()), 0)
    return ".".join(parts[: numbered + 1])


def units(parameters: Iterable[str], by: str) -> dict[str, str]:
    """Which part of a model each parameter is counted with, ``{parameter name: part}``.

    Args:
        parameters: Their names.
        by: ``"parameter"`` (itself), ``"layer"`` (the module that owns it, see `owner`) or ``"block"`` (see `block`).

    Raises:
        ValueError: ``by`` is none of these.
    """
    ways = {"parameter": lambda name: name, "layer": owner, "block": lambda name: block(owner(name))}
    if by not in ways:
        raise ValueError(f"by must be one of {', '.join(ways)}. Got {by!r}.")
    return {name: ways[by](name) for name in parameters}
