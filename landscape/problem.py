"""What is measured: a model, an objective and the data, held together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from landscape import modules
from landscape.batches import Batches, Reader, size_of
from landscape.isolation import preserve_rng

Objective = Callable[[nn.Module, Any], Mapping[str, "Term"]]
"""``objective(model, batch)`` gives each term per example: ``{"ce": [N], "kd": [N], "correct": [N]}``."""

Loss = Callable[[Any, Any], "Term"]
"""``loss(outputs, targets)`` per example, ``[N]`` (``reduction="none"``), or a `PerToken`."""


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
        epoch: After which epoch of training the model is what it is, where known; kept as provenance.

    Raises:
        TypeError: An argument is of another kind; or ``batches`` is a generator, which could be read only once.
        ValueError: The model has no parameters, or lazy ones.
    """

    model: nn.Module
    objective: Objective
    batches: Batches = field(repr=False)
    split: str = "unnamed"
    epoch: int | None = None

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
        batches: Batches,
        split: str = "unnamed",
        epoch: int | None = None,
    ) -> Problem:
        """A problem of ordinary supervised losses.

        Args:
            model: A module that returns a tensor, a tuple (its first item counts) or something with ``.logits``, or
                ``["logits"]``.
            losses: Per-example losses by name, such as ``{"ce": lambda out, y: F.cross_entropy(out, y,
                reduction="none")}``.
            batches: Yields ``(inputs, targets)``, or mappings whose ``"labels"`` are the targets and whose other
                entries are keyword arguments of the model.
            split: What the examples are.
            epoch: After which epoch of training the model is what it is, where known.
        """
        if not isinstance(losses, Mapping) or not losses or not all(map(callable, losses.values())):
            raise TypeError(f'losses must be {{name: function}}, such as {{"ce": loss}}. Got {losses!r}.')
        frozen = dict(losses)

        def objective(module: nn.Module, batch: Any) -> dict[str, Term]:
            outputs, targets = _supervised(module, batch)
            return {name: loss(outputs, targets) for name, loss in frozen.items()}

        return cls(model, objective, batches, split, epoch)

    @property
    def of_epoch(self) -> dict[str, int]:
        """``{"epoch": epoch}``, for provenance; nothing where it is not known."""
        return {} if self.epoch is None else {"epoch": self.epoch}

    @property
    def device(self) -> torch.device:
        """The device of the model's first parameter."""
        return next(self.model.parameters()).device

    def iterate(self) -> Generator[Any]:
        """Each batch once, on the model's device: see `landscape.batches.Reader`."""
        return Reader(self.batches, self.device).read()

    def data_sha256(self) -> str:
        """Digest of all the batches, as they come; random states are as before."""
        with preserve_rng(0, self.device):
            return Reader(self.batches, self.device).sha256()

    def private_copy(self) -> nn.Module:
        """A deep copy of the model in eval mode; the one that measurements write to."""
        return modules.private_copy(self.model)


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
    if isinstance(outputs, Mapping):
        if "logits" not in outputs:
            raise ValueError(f"outputs that are a mapping must have 'logits'. Got {', '.join(map(str, outputs))}.")
        return outputs["logits"]
    return outputs[0] if isinstance(outputs, tuple) else outputs


def float64(values: Tensor) -> Tensor:
    """``values`` in double precision; on the CPU for MPS, which has none."""
    return (values.cpu() if values.device.type == "mps" else values).to(torch.float64)


class PerToken(NamedTuple):
    """A term with a value for each token: averaged over the tokens, with each sequence as one cluster of its error.

    Tokens of a sequence are not independent, so the standard error counts sequences, not tokens.

    Args:
        values: ``[N, T]``.
        counted: ``[N, T]``, bool: which tokens count; such as ``labels != -100``.
    """

    values: Tensor
    counted: Tensor

    def sums(self) -> Tensor:
        """Sum over the tokens of each sequence, ``[N]``, float64."""
        return float64(self.values.where(self.counted, 0.0)).sum(1)

    def counts(self) -> Tensor:
        """Number of tokens of each sequence, ``[N]``, float64."""
        return float64(self.counted).sum(1)

    def mean(self) -> Tensor:
        """Mean over all tokens that count."""
        return self.sums().sum() / self.counts().sum()


Term = Tensor | PerToken
"""``[N]``, or a `PerToken`."""


def per_example(terms: Mapping[str, Term], batch: Any) -> dict[str, Term]:
    """Check the terms of one batch to be one value for each example, or a `PerToken`.

    Raises:
        TypeError: The objective did not return a mapping of tensors.
        ValueError: A term is not of shape ``[N]``, or is a single value of a batch of several examples.
    """
    if not isinstance(terms, Mapping) or not terms:
        raise TypeError(f"objective must return {{name: tensor of shape [N]}}, at least one. Got {terms!r}.")
    size = size_of(batch)
    for name, value in terms.items():
        if isinstance(value, PerToken):
            _check_tokens(name, value)
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"term {name!r} must be a tensor of shape [N]. Got {type(value).__name__}.")
        if value.is_complex():
            raise TypeError(f"term {name!r} must be real. Got {value.dtype}.")
        if value.ndim != 1 or (len(value) == 1 and size > 1):
            of = f" for a batch of {size}" if size > 1 else ""
            hint = " For a value of each token, return ls.PerToken." if value.ndim == 2 else ""
            raise ValueError(
                f"term {name!r} must have one value per example, shape [N]. Got shape {list(value.shape)}{of}. "
                f'Use reduction="none" and average over everything but the examples.{hint}'
            )
    return dict(terms)


def check_piece(terms: Mapping[str, Term], size: int) -> None:
    """Refuse a batch that was split along something else than its examples.

    Raises:
        ValueError: With the term.
    """
    for name, term in terms.items():
        values = term.values if isinstance(term, PerToken) else term
        if len(values) != size:
            raise ValueError(
                f"term {name!r} must have one value for each example, for a batch to be split for want of memory. Got "
                f"{len(values)} for {size}: make the loader's batches smaller."
            )


class NotReached(ValueError):
    """A term has no gradient by the parameters in question."""


def differentiable(terms: Mapping[str, Term], term: str) -> Term:
    """One of the objective's terms.

    Raises:
        ValueError: It is not among them.
        NotReached: It has no gradient.
    """
    if term not in terms:
        raise ValueError(f"term must be among those of the objective: {', '.join(terms)}. Got {term!r}.")
    found = terms[term]
    if not (found.values if isinstance(found, PerToken) else found).requires_grad:
        raise NotReached(f"term {term!r} must be differentiable. Got one without a gradient (a count or an error?).")
    return found


def reached(gradients: Sequence[Tensor | None], term: str) -> None:
    """Refuse gradients none of which is there.

    Raises:
        NotReached: With the term.
    """
    if all(g is None for g in gradients):
        raise NotReached(
            f"term {term!r} must depend on the model's parameters. Got one that does not: does the objective use the "
            "model that it is given?"
        )


def _check_tokens(name: str, term: PerToken) -> None:
    values, counted = term
    if values.ndim != 2 or counted.shape != values.shape or counted.dtype != torch.bool:
        raise ValueError(
            f"term {name!r} per token must have values [N, T] and a bool mask of that shape. "
            f"Got {list(values.shape)} and {list(counted.shape)} of {counted.dtype}."
        )
