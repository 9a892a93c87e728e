"""The copy of a network that derivatives are taken of, and what has to hold of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from landscape import modules
from landscape.problem import Problem


@contextmanager
def twice_attention() -> Iterator[None]:
    """Attention by its formula: the fused kernels have no second derivative."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def chosen(model: nn.Module, parameters: Collection[str] | None) -> set[str]:
    """Names of the parameters that count, all that require gradients by default.

    Raises:
        TypeError: ``parameters`` is a text, or empty.
        ValueError: One is unknown, frozen or complex, or there is none.
    """
    if isinstance(parameters, str) or (parameters is not None and not parameters):
        raise TypeError(f"parameters must be a list of names, at least one. Got {parameters!r}.")
    known = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = set(known) if parameters is None else set(parameters)
    for name in sorted(found - known.keys()):
        raise ValueError(f"parameters must be names of the model's that require gradients. Got {name!r}.")
    if not found:
        raise ValueError("model must have parameters that require gradients. Got none: all are frozen.")
    for name in sorted(found):
        if known[name].is_complex():
            raise ValueError(f"parameters must be real to have a curvature. Got {name!r} of {known[name].dtype}.")
    return found


def copied(problem: Problem, dtype: torch.dtype | None) -> nn.Module:
    """A private copy in a precision.

    Raises:
        ValueError: A batch norm has no running statistics, or, in a forward pass, is in train mode: the loss would not
            be a mean over examples.
    """
    model = problem.private_copy()
    for name, module in model.named_modules():
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            continue
        if module.running_mean is None:
            raise ValueError(
                f"batch norm must have running statistics, for the loss to be a mean over examples. Got {name!r} "
                "without any, which norms by the batch: make it with track_running_stats=True."
            )
        module.register_forward_pre_hook(_refuse_train_mode(name))
    return model if dtype is None else model._apply(lambda t: modules.cast(t, dtype))


def _refuse_train_mode(name: str) -> Callable[[nn.Module, Any], None]:
    def refuse(module: nn.Module, _: Any) -> None:
        if module.training:
            raise ValueError(
                f"batch norm must be in eval mode, for the loss to be a mean over examples. Got {name!r} in train "
                "mode: the objective must leave the model in the mode that it comes in."
            )

    return refuse
