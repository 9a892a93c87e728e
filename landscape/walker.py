"""A private copy of a network that is moved to any point of a grid, and measured there."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from landscape import averages, batchnorm, fastpath, modules
from landscape.averages import Moments, PerExample
from landscape.batches import Reader
from landscape.directions import Directions
from landscape.fastpath import Shortcuts, hasten
from landscape.isolation import seed_all
from landscape.problem import Problem, Term


class Walker:
    """Moves a copy of the problem's model along directions: what is held beside the model is that copy.

    In another precision than the model's, the weights and the directions are held in that one too.

    Args:
        problem: Whose model is copied; the copy's weights start from the problem's at each point.
        directions: What the coordinates are multiples of.
        reader: Of the problem's data.
        bn_reader: Of the sample that batch-norm statistics are re-estimated on at each point; None leaves them.
        shortcuts: By which the copy is computed.
        dtype: The precision of the copy, as of the data; None for the model's own.
    """

    def __init__(
        self,
        problem: Problem,
        directions: Directions,
        reader: Reader,
        bn_reader: Reader | None,
        shortcuts: Shortcuts = Shortcuts(),  # noqa: B008
        dtype: torch.dtype | None = None,
    ) -> None:
        self._given, self.reader, self.bn_reader = problem.objective, reader, bn_reader
        self._shortcuts = shortcuts
        first = None
        if shortcuts.fold:
            with closing(reader.read()) as batches:
                first = next(batches)
        twin = _cast(problem.private_copy(), dtype)
        self._hastened = hasten(twin, lambda m: self._given(m, first), shortcuts)
        self.model = self._hastened.module
        self._modules = list(self.model.modules())
        self._slots = _slots(self.model)
        state = modules.state(self.model)
        base = {name: _like(t, state[name]) for name, t in modules.state(problem.model).items()}
        self._base, self._state = [base[name] for name in state], list(state.values())
        self._axes = [_aligned(axis, state) for axis in directions.axes]

    def at(self, point: Sequence[float], digest: hashlib._Hash | None = None) -> dict[str, Moments]:
        """The averages of the terms at a point; ``digest`` takes in the examples.

        Random numbers that the loader or the objective draw are the same at every point.
        """
        self._go_to(point)
        with fastpath.tf32(self._shortcuts.tf32):
            return averages.average(self.model, self._objective, self.reader, digest)

    def losses(self, point: Sequence[float], batch: Any) -> dict[str, PerExample]:
        """The terms at a point for some examples, in one batch that is cut as the reader's are."""
        reader = Reader([batch], self.reader.device, max_batch=self.reader.max_batch)
        self._go_to(point)
        with fastpath.tf32(self._shortcuts.tf32):
            return averages.per_example_of(self.model, self._objective, reader)

    def probe(self) -> dict[str, float]:
        """Sums of the terms over the first batch at the origin, with the statistics as they are."""
        self._move([0.0] * len(self._axes))
        seed_all(0, self.reader.device)
        with fastpath.tf32(self._shortcuts.tf32):
            return averages.probe(self.model, self._objective, self.reader)

    @property
    def folded(self) -> int:
        """How many batch norms are computed by the layers before them."""
        return self._hastened.norms

    @property
    def largest(self) -> int:
        """Examples in the largest batch that was read so far."""
        return max(self.reader.largest, 0 if self.bn_reader is None else self.bn_reader.largest)

    def _objective(self, model: nn.Module, batch: Any) -> Mapping[str, Term]:
        """The problem's, in eval mode, also after a batch that has left another."""
        if any(module.training for module in self._modules):
            model.eval()
        return self._given(model, batch)

    def _go_to(self, point: Sequence[float]) -> None:
        self._move(point)
        seed_all(0, self.reader.device)
        if self.bn_reader is not None:
            batchnorm.recalibrate(self.model, self._given, self.bn_reader)
            self._hastened.refresh()
            seed_all(0, self.reader.device)

    @torch.no_grad()
    def _move(self, point: Sequence[float]) -> None:
        for owner, name, tensor in self._slots:
            if owner[name] is not tensor:  # an objective or a forward pass has put another in its place
                owner[name] = tensor
        torch._foreach_copy_(self._state, self._base)
        for coordinate, (tensors, direction) in zip(point, self._axes, strict=True):
            if coordinate != 0:
                torch._foreach_add_(tensors, direction, alpha=coordinate)
        self._hastened.refresh()


def _slots(model: nn.Module) -> list[tuple[dict[str, Any], str, Tensor]]:
    """Where each module keeps its tensors."""
    owners = [owner for module in model.modules() for owner in (module._parameters, module._buffers)]
    return [(owner, name, tensor) for owner in owners for name, tensor in owner.items() if tensor is not None]


def _cast(model: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """In the precision asked for; complex numbers stay complex, and integers as they are."""
    return model if dtype is None else model._apply(lambda t: modules.cast(t, dtype))


def _aligned(axis: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The tensors of the copy that a direction moves, and the direction's, in one order."""
    return [state[name] for name in axis], [_like(d, state[name]) for name, d in axis.items()]


def _like(tensor: Tensor, other: Tensor) -> Tensor:
    """In the precision, on the device and in the layout of another, so that both are added in one sweep."""
    found = tensor.to(other)
    return found if found.stride() == other.stride() else torch.empty_like(other).copy_(found)
