"""Cheaper ways to compute the same pass: norms folded, another layout, lower precision, batches that fit a cache.

What is chosen depends on the network, the shapes of its data and the kind of device, never on a clock: the same call
gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from landscape import modules
from landscape.folding import Folded, fold
from landscape.tracing import Run

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions that only what is inside the network is computed in."""

_BUDGET = {"cpu": 8 << 20}
"""Bytes that the inputs and outputs of a layer may have for one batch: what a few cores' second-level caches hold."""

_LARGE = 1 << 30
"""Likewise on an accelerator, which wants much to do at once."""


class Shortcuts(NamedTuple):
    """How a pass differs from evaluating the module as it is.

    Attributes:
        fold: Whether batch norms are computed by the layers before them, where that can be.
        channels_last: Whether the weights of 2-D and 3-D convolutions lie so, which their outputs follow.
        inside: What the network computes in, its weights, inputs and outputs aside; None for its own precision.
        tf32: Whether products of matrices on CUDA may be computed in TF32.
    """

    fold: bool = False
    channels_last: bool = False
    inside: torch.dtype | None = None
    tf32: bool = False


class Hastened(NamedTuple):
    """A private copy to evaluate; `folded` must be told when its tensors have changed."""

    module: nn.Module
    folded: Folded | None

    @property
    def norms(self) -> int:
        """How many were folded."""
        return 0 if self.folded is None else len(self.folded.pairs)

    def refresh(self) -> None:
        """Take in the tensors of `module` as they are now."""
        if self.folded is not None:
            self.folded.refresh()


def hasten(model: nn.Module, run: Run | None, shortcuts: Shortcuts) -> Hastened:
    """Have a private copy computed by shortcuts.

    Its parameters stay in their precision, and so do its inputs and outputs: only what is in between is rounded, by
    autocast, so that a step too small for the lower precision still moves the weights.

    Args:
        model: A private copy, which is changed or copied again.
        run: Evaluates a module as it will be used; needed for folding, see `landscape.folding.fold`.
        shortcuts: Which.
    """
    folded = fold(model, run) if shortcuts.fold and run is not None else None
    module = model if folded is None else folded.module
    if shortcuts.channels_last:
        for parameter in module.parameters():
            if parameter.ndim in (4, 5):
                last = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
                parameter.data = parameter.data.contiguous(memory_format=last)
    if folded is not None:
        folded.hold(shortcuts.inside, channels_last=shortcuts.channels_last)
    if shortcuts.inside is not None:
        device = next(module.parameters()).device.type
        vars(module)["forward"] = _rounding(module.forward, shortcuts.inside, device)
    return Hastened(module, folded)


def has_convolutions(model: nn.Module) -> bool:
    """Whether there is a 2-D or 3-D convolution, whose layout matters."""
    return any(p.ndim in (4, 5) for p in model.parameters())


def batch_size(model: nn.Module, run: Run, examples: int, inside: torch.dtype | None) -> int:
    """How many examples to evaluate at a time: as many as a cache holds; 0 where nobody can tell.

    Args:
        model: A private copy.
        run: Evaluates it on some examples.
        examples: How many those are.
        inside: What the network computes in.
    """
    each = _largest_layer(model, run) / examples
    if inside is not None:
        each *= inside.itemsize / next(model.parameters()).dtype.itemsize
    budget = _BUDGET.get(next(model.parameters()).device.type, _LARGE)
    return max(1, int(budget / each)) if each else 0


def _largest_layer(model: nn.Module, run: Run) -> int:
    """Bytes of the inputs and outputs of the layer that has most of them."""
    largest = 0

    def note(_: nn.Module, inputs: Any, outputs: Any) -> None:
        nonlocal largest
        tensors = [t for t in tree_leaves((inputs, outputs)) if isinstance(t, Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    leaves = [m for m in model.modules() if next(m.children(), None) is None]
    hooks = [m.register_forward_hook(note) for m in leaves]
    try:
        with torch.no_grad():
            run(model)
    finally:
        for hook in hooks:
            hook.remove()
    return largest


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """With matrix products and convolutions of CUDA in TF32, or as the process is set up."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        if allowed:
            matmul.allow_tf32 = cudnn.allow_tf32 = True
        yield
    finally:
        if allowed:
            matmul.allow_tf32, cudnn.allow_tf32 = before


def _rounding(forward: Callable[..., Any], dtype: torch.dtype, device: str) -> Callable[..., Any]:
    def widened(value: Any) -> Any:
        rounded = isinstance(value, Tensor) and value.dtype == dtype
        return modules.cast(value, torch.float32) if rounded else value

    def rounding(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(device, dtype):
            outputs = forward(*args, **kwargs)
        return tree_map(widened, outputs)

    return rounding
