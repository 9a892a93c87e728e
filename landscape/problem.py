"""What is measured: a model, an objective and the data, held together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from landscape import modules

Objective = Callable[[nn.Module, Any], Mapping[str, Tensor]]
"""``objective(model, batch)`` gives each term per example: ``{"ce": [N], "kd": [N], "correct": [N]}``."""

Loss = Callable[[Any, Any], Tensor]
"""``loss(outputs, targets)`` per example, ``[N]`` (``reduction="none"``)."""


@dataclass(frozen=True)
class Problem:
    """A model, an objective over its outputs, and the batches to average over.

    Args:
        model: Any module; of ``DataParallel``, ``DistributedDataParallel`` and ``torch.compile`` the network inside
            counts. It is never written to: measurements run on a private copy, in eval mode.
        objective: Gives each term per example, ``{"ce": [N], ...}``, so that uneven batches average exactly and
            several terms cost one forward pass. It must use the model it is given.
        batches: Whatever can be iterated more than once (a ``DataLoader``, a list), or a function without arguments
            that starts a new iteration. Tensors in a batch, nested ones too, are moved to the model's device.
        split: What the examples are, such as ``"train"``; kept as provenance.

    Raises:
        TypeError: An argument is of another kind; or ``batches`` is a generator, which could be read only once.
        ValueError: The model has no parameters, or lazy ones.
    """

    model: nn.Module
    objective: Objective
    batches: Iterable[Any] | Callable[[], Iterable[Any]] = field(repr=False)
    split: str = "unnamed"

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", modules.unwrap(self.model))
        modules.check(self.model)
        if not callable(self.objective):
            raise TypeError(f"objective must be a function of a model and a batch. Got {self.objective!r}.")
        if not (isinstance(self.batches, Iterable) or callable(self.batches)):
            raise TypeError(f"batches must be iterable, or a function. Got {type(self.batches).__name__}.")
        if isinstance(self.batches, Iterator):
            raise TypeError(
                "batches must be iterable more than once: a DataLoader, a list, or a function that starts a new "
                "iteration. Got a generator. Pass the function that makes it, or list(...) of it."
            )

    @classmethod
    def from_loss(
        cls,
        model: nn.Module,
        losses: Mapping[str, Loss],
        batches: Iterable[Any] | Callable[[], Iterable[Any]],
        split: str = "unnamed",
    ) -> Problem:
        """A problem of ordinary supervised losses.

        Args:
            model: A module that returns a tensor, a tuple (its first item counts) or an object with ``.logits``.
            losses: Per-example losses by name, such as ``{"ce": lambda out, y: F.cross_entropy(out, y,
                reduction="none")}``.
            batches: Yields ``(inputs, targets)``, or mappings whose ``"labels"`` are the targets and whose other
                entries are keyword arguments of the model.
            split: What the examples are.
        """
        if not isinstance(losses, Mapping) or not losses or not all(map(callable, losses.values())):
            raise TypeError(f'losses must be {{name: function}}, such as {{"ce": loss}}. Got {losses!r}.')
        frozen = dict(losses)

        def objective(module: nn.Module, batch: Any) -> dict[str, Tensor]:
            outputs, targets = _supervised(module, batch)
            return {name: loss(outputs, targets) for name, loss in frozen.items()}

        return cls(model, objective, batches, split)

    @property
    def device(self) -> torch.device:
        """The device of the model's first parameter."""
        return next(self.model.parameters()).device

    def iterate(self) -> Generator[Any]:
        """Each batch once, on the model's device; generators that the loader owns are put back afterwards.

        A loader without a generator of its own draws from the global ones: call this inside `preserve_rng`, and close
        it where it may not be read to its end.

        Raises:
            ValueError: There are no batches.
        """
        states = [(generator, generator.get_state()) for generator in _generators(self.batches)]
        empty = True
        try:
            for batch in self.batches() if callable(self.batches) else self.batches:
                empty = False
                yield to_device(batch, self.device)
        finally:
            for generator, state in states:
                generator.set_state(state)
        if empty:
            raise ValueError("batches must hold at least one batch. Got none: is the loader empty?")

    def private_copy(self) -> nn.Module:
        """A deep copy of the model in eval mode that needs no gradients; the one that measurements write to."""
        return modules.private_copy(self.model)


def _generators(loader: Any) -> list[torch.Generator]:
    """The random generators of a loader and of its samplers, each once."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (loader, getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None))
    found = [getattr(owner, "generator", None) for owner in owners]
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())


def to_device(batch: Any, device: torch.device) -> Any:
    """``batch`` with every tensor in it, nested ones too, on ``device``; the caller's containers stay as they are."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=batch.is_pinned())
    if isinstance(batch, Mapping):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(to_device(value, device) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_device(value, device) for value in batch)
    return copy.copy(batch).to(device) if hasattr(batch, "to") else batch


def _supervised(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            raise ValueError(f"a batch that is a mapping must have 'labels'. Got {', '.join(map(str, batch))}.")
        outputs = model(**{key: value for key, value in batch.items() if key != "labels"})
        return _logits(outputs), batch["labels"]
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError(f"a batch must be (inputs, targets) or a mapping with 'labels'. Got {type(batch).__name__}.")
    inputs, targets = batch
    return _logits(model(inputs)), targets


def _logits(outputs: Any) -> Any:
    if hasattr(outputs, "logits"):
        return outputs.logits
    return outputs[0] if isinstance(outputs, tuple) else outputs


def per_example(terms: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
    """The terms of one batch, checked to be one value for each example (or for each token, say).

    Raises:
        TypeError: The objective did not return a mapping of tensors.
        ValueError: A term is not of shape ``[N]``, or is a single value of a batch of several examples.
    """
    if not isinstance(terms, Mapping) or not terms:
        raise TypeError(f"objective must return {{name: tensor of shape [N]}}, at least one. Got {terms!r}.")
    size = _batch_size(batch)
    for name, value in terms.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"term {name!r} must be a tensor of shape [N]. Got {type(value).__name__}.")
        if value.ndim != 1 or (len(value) == 1 and size > 1):
            of = f" for a batch of {size}" if size > 1 else ""
            raise ValueError(
                f"term {name!r} must have one value per example, shape [N]. Got shape {list(value.shape)}{of}. "
                'Use reduction="none" and average over everything but the examples.'
            )
    return dict(terms)


def _batch_size(batch: Any) -> int:
    """Length of the first tensor in a batch; 0 where there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 0
    items = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (tuple, list)) else ()
    return next((size for size in map(_batch_size, items) if size), 0)
