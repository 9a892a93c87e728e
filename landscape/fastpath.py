"""Cheaper ways to compute the same module: layout and precision, and which of some candidates is the quickest."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from landscape import modules
from landscape.folding import Folded

T = TypeVar("T")


def hasten(model: nn.Module | Folded, *, channels_last: bool = False, dtype: torch.dtype | None = None) -> nn.Module:
    """Have a private copy computed in another layout, and in lower precision inside.

    Its parameters stay in their precision, and so do its inputs and outputs: only what is in between is rounded, by
    autocast, so that a step too small for the lower precision still moves the weights.

    Args:
        model: A private copy, which is changed; or one with norms folded, whose `Folded.follow` comes after this.
        channels_last: Whether the weights of 2-D and 3-D convolutions lie so, which their outputs follow.
        dtype: ``torch.bfloat16`` or ``torch.float16``; None for the module's own.

    Returns:
        The module to evaluate.
    """
    module = model.module if isinstance(model, Folded) else model
    if channels_last:
        for parameter in module.parameters():
            if parameter.ndim in (4, 5):
                last = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
                parameter.data = parameter.data.contiguous(memory_format=last)
    if isinstance(model, Folded):
        model.hold(dtype, channels_last=channels_last)
    if dtype is not None:
        vars(module)["forward"] = _rounding(module.forward, dtype, next(module.parameters()).device.type)
    return module


def quickest(candidates: Sequence[T], seconds: Callable[[T], float], repeats: int = 3) -> T:
    """The candidate of the least median time, each measured in turn, so that a busy machine slows all alike.

    Args:
        candidates: Such as batch sizes; of equals the first.
        seconds: Runs one and says how long that took, for the same amount of work.
        repeats: Rounds that count, after one that does not.
    """
    for candidate in candidates:
        seconds(candidate)
    rounds = [[seconds(candidate) for candidate in candidates] for _ in range(repeats)]
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    return candidates[medians.index(min(medians))]


def _rounding(forward: Callable[..., Any], dtype: torch.dtype, device: str) -> Callable[..., Any]:
    def widened(value: Any) -> Any:
        rounded = isinstance(value, Tensor) and value.dtype == dtype
        return modules.cast(value, torch.float32) if rounded else value

    def rounding(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype):
            outputs = forward(*args, **kwargs)
        return tree_map(widened, outputs)

    return rounding
