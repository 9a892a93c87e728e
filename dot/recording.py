"""Gradient conflict recorded while training, without changing what is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dot.config import RunConfig
from dot.data.drawing import upload
from dot.data.images import ImageSet
from dot.distillation import Distillation, observe
from dot.journal import Journal
from dot.losses import cross_entropy
from dot.per_loss import PerLossMomentum
from dot.teaching import Teacher
from dot.world import ALONE, World
from landscape import conflict
from landscape.conflict_result import Conflict

TERMS = ("ce", "kd")
Grams = list[list[list[float]]]
"""``[L, 2, 2]``, as the side files hold them."""

_SIDE_FILES = ("conflict.jsonl", "heldout.jsonl")


def discard(folder: Path) -> None:
    """Remove the side files of a run that has ended: nothing is resumed from them."""
    for name in _SIDE_FILES:
        (folder / name).unlink(missing_ok=True)


class ConflictRecorder:
    """Records how the task and the distillation gradient agree.

    Every ``record.every`` steps on the training batch, of the gradients and, where the optimizer has one for each loss,
    of the momentum buffers; and once an epoch on a fixed held-out batch, in eval mode. The gradients are weighted as in
    the distilled loss (``w_ce``, ``w_kd``), for every method, so that methods can be compared.

    Args:
        folder: Where the records grow, as ``conflict.jsonl`` and ``heldout.jsonl``, until `discard`.
        model: The student.
        teacher: The teacher.
        distillation: How the student imitates it.
        data: Whose first ``record.heldout`` test examples are the held-out batch.
        config: Of the run.
        world: The processes that train together: gradients are those of the whole batch, and the first one writes.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        teacher: Teacher,
        distillation: Distillation,
        data: ImageSet,
        config: RunConfig,
        world: World = ALONE,
    ) -> None:
        self._steps, self._epochs = (Journal(folder / name, at="step") for name in _SIDE_FILES)
        self._config, self._world, self._distillation = config, world, distillation
        parameters = dict(model.named_parameters())
        owner = conflict.layers_of(model)
        self._parameters = list(parameters.values())
        self._layers = list(dict.fromkeys(owner.values()))
        self._index = [self._layers.index(owner[name]) for name in parameters]
        heldout = torch.arange(min(config.record.heldout, len(data.test)))
        mine = heldout[world.part(len(heldout))]
        self._heldout, self._labels = len(heldout), data.test.labels[upload(mine, data.test.labels.device)]
        self._inputs = data.inputs_of(data.test, mine)
        self._taught = teacher(self._inputs)

    def wants(self, step: int) -> bool:
        """Whether this step is recorded."""
        return self._config.record.every > 0 and step % self._config.record.every == 0

    def step(self, step: int, losses: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Record the gradients of a training batch, before its update."""
        record: dict[str, Any] = {"step": step, "gradients": self._gram(losses)}
        if isinstance(optimizer, PerLossMomentum):
            own = len(self._parameters)  # the first ones; those of the distillation loss come after them
            task, distill = (optimizer.momentum_buffers(name)[:own] for name in optimizer.losses)
            if all(buffer is not None for buffer in [*task, *distill]):
                record["momentum"] = self._inner(task, distill)  # type: ignore[arg-type]
        self._keep(self._steps, record)

    def epoch(self, step: int, model: nn.Module) -> None:
        """Record the gradients on the held-out batch."""
        was_training = model.training
        student = observe(model.eval(), self._distillation.student_layers, self._inputs)
        losses = {
            "ce": cross_entropy(student.logits, self._labels, reduction="sum") / self._heldout,
            "kd": self._distillation(student, self._taught, self._labels).sum() / self._heldout,
        }
        self._keep(self._epochs, {"step": step, "gradients": self._gram(losses)})
        model.train(was_training)

    def _keep(self, journal: Journal, record: dict[str, Any]) -> None:
        if self._world.first:
            journal.append(record)

    def cut(self, step: int) -> None:
        """Forget what was recorded after so many whole steps."""
        self._steps.cut(step - 1)  # a step is recorded before its update, under its own number from 0
        self._epochs.cut(step)

    def sync(self) -> None:
        """Have the records on the disk."""
        self._steps.sync()
        self._epochs.sync()

    def consolidate(self, path: Path, attrs: Mapping[str, Any]) -> None:
        """Write all records into one HDF5 file; the side files stay for a run to be resumed.

        Raises:
            OSError: The file cannot be written.
        """
        steps = self._steps.read()
        result = self._conflict(steps, "gradients")
        result.attrs = dict(attrs) | {"w_ce": self._config.losses.w_ce, "w_kd": self._config.losses.w_kd}
        result.groups = {"heldout": self._conflict(self._epochs.read(), "gradients")}
        buffered = [record for record in steps if "momentum" in record]
        if buffered:
            result.groups["momentum"] = self._conflict(buffered, "momentum")
        result.save(path)

    def _conflict(self, records: list[dict[str, Any]], kind: str) -> Conflict:
        grams = [record[kind] for record in records]
        return conflict.from_gram(TERMS, [record["step"] for record in records], self._layers, grams)

    def _gram(self, losses: Mapping[str, Tensor]) -> Grams:
        weights = (self._config.losses.w_ce, self._config.losses.w_kd)
        gradients = []
        for name, weight in zip(TERMS, weights, strict=True):
            found = torch.autograd.grad(
                weight * losses[name], self._parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            gradients.append(self._world.total(found))
        return self._inner(*gradients)

    def _inner(self, a: list[Tensor], b: list[Tensor]) -> Grams:
        products: Grams = conflict.gram((a, b), self._index, len(self._layers)).tolist()
        return products
