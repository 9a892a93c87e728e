"""Gradient conflict recorded while training, without changing what is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dot.config import RunConfig
from dot.data.drawing import drawn, upload
from dot.data.images import ImageSet
from dot.distillation import Distillation, Outputs, observe
from dot.journal import Journal
from dot.losses import cross_entropy
from dot.per_loss import PerLossMomentum
from dot.teaching import Teacher
from dot.world import ALONE, World
from landscape import conflict
from landscape.conflict.result import Conflict

TERMS = ("ce", "kd")
_SIDE_FILES = ("conflict.jsonl", "heldout.jsonl")
_CHUNKS = 8
"""Of the held-out batch."""


def discard(folder: Path) -> None:
    """Remove the side files of a run that has ended: nothing is resumed from them."""
    for name in _SIDE_FILES:
        (folder / name).unlink(missing_ok=True)


class ConflictRecorder:
    """Records how the task and the distillation gradient agree.

    Every ``record.every`` steps on the training batch: of the gradients; where the optimizer has one for each loss, of
    the momentum buffers; and how gradients lie to those of the record before, to what each buffer moves the weights by,
    and to the update. Once an epoch on a fixed held-out batch, in eval mode, in chunks, whose scatter tells the noise.
    The gradients are weighted as in the distilled loss (``w_ce``, ``w_kd``), for every method, so that methods can be
    compared. Two gradients are kept from one record to the next, in checkpoints too (`state`).

    Args:
        folder: Where the records grow, as ``conflict.jsonl`` and ``heldout.jsonl``, until `discard`.
        model: The student.
        teacher: The teacher.
        distillation: How the student imitates it.
        data: ``record.heldout`` of its test examples are the held-out batch, the same ones for every run.
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
        self._before: dict[str, list[Tensor]] = {}
        self._heldout = min(config.record.heldout, len(data.test))
        self._chunks = [self._chunk(data, teacher, chosen) for chosen in self._split(len(data.test))]

    def wants(self, step: int) -> bool:
        """Whether this step is recorded."""
        return self._config.record.every > 0 and step % self._config.record.every == 0

    def step(self, step: int, losses: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Record the gradients of a training batch, before its update."""
        now = self._gradients(losses)
        before = {f"{name} before": vectors for name, vectors in self._before.items()}
        made = self._steps_made(optimizer)
        rate = optimizer.param_groups[0]["lr"]
        self._keep(self._steps, {"step": step} | self._products(now | before | made, rate))
        self._before = now

    def epoch(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Record the gradients on the held-out batch."""
        was_training = model.training
        model.eval()
        total = {name: [torch.zeros_like(p) for p in self._parameters] for name in TERMS}
        squared = dict.fromkeys(TERMS, 0.0)
        for chunk in self._chunks:
            found = self._gradients(self._heldout_losses(model, chunk))
            for name, vectors in found.items():
                torch._foreach_add_(total[name], vectors)
                squared[name] += _squared(vectors) / chunk.share
        model.train(was_training)
        products = self._products(total | self._steps_made(optimizer), optimizer.param_groups[0]["lr"])
        self._keep(self._epochs, {"step": step, "spread": self._spread(squared, total)} | products)

    def _keep(self, journal: Journal, record: dict[str, Any]) -> None:
        if self._world.first:
            journal.append(record)

    def state(self) -> dict[str, Any]:
        """What a run that goes on needs, besides the side files: plain containers and tensors."""
        return {"before": self._before}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved `state`."""
        device = self._parameters[0].device
        self._before = {name: [vector.to(device) for vector in kept] for name, kept in state["before"].items()}

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
        steps, epochs = self._steps.read(), self._epochs.read()
        result = self._conflict(steps, "gradients")
        result.attrs = dict(attrs) | {"w_ce": self._config.losses.w_ce, "w_kd": self._config.losses.w_kd}
        heldout = self._conflict(epochs, "gradients")
        heldout.sizes = np.full((len(epochs), len(TERMS)), float(self._heldout))
        heldout.spread = np.array([record["spread"] for record in epochs], np.float64).reshape(heldout.sizes.shape)
        result.groups = {"heldout": heldout}
        buffered = [record for record in steps if "momentum" in record]
        if buffered:
            result.groups["momentum"] = self._conflict(buffered, "momentum")
        for name, records in (("motion", steps), ("heldout-motion", epochs)):
            moving = [record for record in records if len(record["motion"]["of"]) == len(records[-1]["motion"]["of"])]
            if moving and len(moving[0]["motion"]["of"]) > len(TERMS):
                result.groups[name] = _motion(moving)
        result.save(path)

    def _conflict(self, records: list[dict[str, Any]], kind: str) -> Conflict:
        grams = [record[kind] for record in records]
        return conflict.from_gram(TERMS, [record["step"] for record in records], self._layers, grams)

    def _gradients(self, losses: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Of both weighted losses, over all processes."""
        weights = {"ce": self._config.losses.w_ce, "kd": self._config.losses.w_kd}
        return {
            name: self._world.total(
                torch.autograd.grad(
                    weight * losses[name],
                    self._parameters,
                    retain_graph=True,
                    allow_unused=True,
                    materialize_grads=True,
                )
            )
            for name, weight in weights.items()
        }

    def _steps_made(self, optimizer: torch.optim.Optimizer) -> dict[str, list[Tensor]]:
        """What each buffer moves the weights by at the rate of now, and all of them; nothing before the first step.

        A parameter that a loss does not reach has no buffer of it, which counts as zeros.
        """
        group, own = optimizer.param_groups[0], len(self._parameters)  # those of the distillation loss come after them
        if isinstance(optimizer, PerLossMomentum):
            buffers = {
                f"step of {term}": optimizer.momentum_buffers(name)[:own]
                for term, name in zip(TERMS, optimizer.losses, strict=True)
            }
        else:
            buffers = {"update": [optimizer.state[p].get("momentum_buffer") for p in group["params"][:own]]}
        steps = {}
        for name, found in buffers.items():
            if all(buffer is None for buffer in found):
                return {}
            whole = [torch.zeros_like(p) if b is None else b for b, p in zip(found, self._parameters, strict=True)]
            steps[name] = list(torch._foreach_mul(whole, group["lr"]))
        if "update" not in steps:
            steps["update"] = list(torch._foreach_add(*steps.values()))
        return steps

    def _products(self, vectors: Mapping[str, list[Tensor]], rate: float) -> dict[str, Any]:
        """Inner products: layer by layer of the gradients and of the buffers, of everything for the whole network."""
        names = list(vectors)
        all_of = conflict.gram(list(vectors.values()), self._index, len(self._layers)).cpu()
        found = {"gradients": all_of[:, :2, :2].tolist()}
        if "step of ce" in names:
            first = names.index("step of ce")
            found["momentum"] = (all_of[:, first : first + 2, first : first + 2] / rate**2).tolist()
        return found | {"motion": {"of": names, "gram": all_of.sum(0).tolist()}}

    def _split(self, n: int) -> tuple[Tensor, ...]:
        """Which of n test examples are in each chunk of the held-out batch: some for each process."""
        chunks = max(1, min(_CHUNKS, self._heldout // self._world.size))
        return drawn(n, self._heldout, seed=0).tensor_split(chunks)

    def _chunk(self, data: ImageSet, teacher: Teacher, chosen: Tensor) -> _Chunk:
        """This process's part of a chunk."""
        mine = chosen[self._world.part(len(chosen))]
        inputs = data.inputs_of(data.test, mine)
        labels = data.test.labels[upload(mine, data.test.labels.device)]
        return _Chunk(inputs, labels, teacher(inputs), len(chosen) / self._heldout)

    def _heldout_losses(self, model: nn.Module, chunk: _Chunk) -> dict[str, Tensor]:
        """What a chunk adds to the means over the held-out batch."""
        student = observe(model, self._distillation.student_layers, chunk.inputs)
        return {
            "ce": cross_entropy(student.logits, chunk.labels, reduction="sum") / self._heldout,
            "kd": self._distillation(student, chunk.taught, chunk.labels).sum() / self._heldout,
        }

    def _spread(self, squared: Mapping[str, float], gradients: Mapping[str, list[Tensor]]) -> list[float]:
        """Variance of one example's gradient, for each term, from how the chunks scatter; see `Conflict.spread`."""
        chunks = len(self._chunks)
        if chunks < 2:
            return [math.nan] * len(TERMS)
        whole = {name: _squared(vectors) for name, vectors in gradients.items()}
        return [max(self._heldout * (squared[t] - whole[t]) / (chunks - 1), 0.0) for t in TERMS]


@dataclass(frozen=True)
class _Chunk:
    """Held-out examples of this process with the teacher's answers, and the share that the whole chunk has."""

    inputs: Tensor
    labels: Tensor
    taught: Outputs
    share: float


def _squared(vectors: list[Tensor]) -> float:
    return float(conflict.gram([vectors], [0] * len(vectors), 1))


def _motion(records: list[dict[str, Any]]) -> Conflict:
    """Gradients, the steps made and the update, of the whole network."""
    steps, grams = zip(*((record["step"], [record["motion"]["gram"]]) for record in records), strict=True)
    return conflict.from_gram(records[0]["motion"]["of"], steps, ["(all)"], grams)
