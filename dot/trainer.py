"""The training loop, one for all methods: same schedule, data order and augmentation for a seed.

The order of the examples and their augmentation are functions of (seed, epoch, step), not of a generator's state, so
that methods are compared pairwise and a resumed run meets the same batches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dot.config import Optimisation, RunConfig
from dot.data.images import ImageSet, Split, batches, generator, shift, upload
from dot.losses import cross_entropy, kd_loss
from dot.strategies import Strategy, strategy

_CHECK_EVERY = 50
_EVALUATION_BATCH = 1024
_ADVICE = (
    "the loss must be finite. Got {value} {where}. The checkpoint of the last good epoch, if any, is kept: lower "
    "train.lr, add train.warmup_epochs, or (DOT) use a smaller train.delta."
)


class Diverged(RuntimeError):
    """A loss is not finite; the message names epoch and step, and says what to try."""


class Recorder(Protocol):
    """What is told about training. It must leave weights, buffers and random states as they are."""

    def wants(self, step: int) -> bool:
        """Whether `step` is to be called at this step, with both losses."""
        ...

    def step(self, step: int, losses: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Called before an update, the losses' graph still there."""
        ...

    def epoch(self, step: int, model: nn.Module) -> None:
        """Called after an epoch."""
        ...


@dataclass
class Place:
    """Where training stands: so many whole epochs, and steps of the one under way with what they summed up."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    sums: dict[str, Tensor] = field(default_factory=dict)


class Trainer:
    """A student in training.

    Args:
        model: On the device, trained in place.
        teacher: Gives logits for the distillation loss; None where there is none (method ``ce`` only).
        data: On the device.
        config: Of the run.
        recorder: Told about steps and epochs.

    Raises:
        ValueError: The method distils and there is no teacher, or the two have different numbers of classes.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: nn.Module | None,
        data: ImageSet,
        config: RunConfig,
        recorder: Recorder | None = None,
    ) -> None:
        self.model, self.data, self.config = model, data, config
        self.strategy: Strategy = strategy(model.parameters(), config)
        if teacher is None and "kd" in self.strategy.needs:
            raise ValueError(f"teacher must be a network for method {config.method!r}. Got none.")
        self.teacher = None if teacher is None else teacher.eval().requires_grad_(False)
        self.recorder = recorder
        self.place = Place()
        self._teacher_logits = {
            name: None if self.teacher is None else logits_of(self.teacher, data, split)
            for name, split in self._splits()
        }
        self._check_classes()

    def state(self) -> dict[str, Any]:
        """Everything that training needs to go on from here, of plain containers and tensors."""
        device = next(self.model.parameters()).device
        return {
            "model": self.model.state_dict(),
            "optimizer": self.strategy.optimizer.state_dict(),
            "place": vars(self.place).copy(),
            "rng": torch.get_rng_state(),
            "device_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved `state`."""
        self.model.load_state_dict(state["model"])
        self.strategy.optimizer.load_state_dict(state["optimizer"])
        self.place = Place(**state["place"])
        torch.set_rng_state(state["rng"].cpu())
        device = next(self.model.parameters()).device
        if state["device_rng"] is not None and device.type == "cuda":
            torch.cuda.set_rng_state(state["device_rng"].cpu(), device)

    def run_epoch(self, stop: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """Train to the end of the epoch under way.

        Args:
            stop: Asked after each step.

        Returns:
            The epoch's numbers: both losses and accuracy on train and test, learning rate, gradient norms, seconds and
            images a second. None where it was asked to stop before the end; `state` then holds the place.

        Raises:
            Diverged: A loss is not finite.
        """
        place, use = self.place, self.config.train
        epoch, started = place.epoch + 1, time.perf_counter()
        todo = batches(len(self.data.train), use.batch_size, self.config.seed, epoch)
        unchecked: list[Tensor] = []
        self.model.train()
        for i in range(place.step_in_epoch, len(todo)):
            rate = learning_rate(use, epoch, i, len(todo))
            for group in self.strategy.optimizer.param_groups:
                group["lr"] = rate
            recorded = self.recorder is not None and self.recorder.wants(place.step)
            losses = self._losses(todo[i], epoch, i, both=recorded)
            if self.recorder is not None and recorded:
                self.recorder.step(place.step, losses, self.strategy.optimizer)
            norms = self.strategy.step(losses)
            unchecked.append(torch.stack([losses[name].detach() for name in self.strategy.needs]).sum())
            for name, norm in norms.items():
                place.sums[name] = place.sums.get(name, torch.zeros_like(norm)) + norm
            place.step, place.step_in_epoch = place.step + 1, i + 1
            stopping = stop()
            if len(unchecked) == _CHECK_EVERY or stopping or i + 1 == len(todo):
                self._check(unchecked, epoch, i + 1)
                unchecked.clear()
            if stopping and i + 1 < len(todo):
                place.seconds += time.perf_counter() - started
                return None
        seconds = place.seconds + time.perf_counter() - started
        norms_of = {name: float(total) / len(todo) for name, total in place.sums.items()}
        self.place = Place(epoch=epoch, step=place.step)
        numbers = {name: self.evaluate(name, split) for name, split in self._splits()}
        for name, found in numbers.items():
            if not all(map(math.isfinite, found.values())):
                raise Diverged(_ADVICE.format(value=found, where=f"on the {name} images after epoch {epoch}"))
        if self.recorder is not None:
            self.recorder.epoch(place.step, self.model)
        return {
            "epoch": epoch,
            **numbers,
            "lr": rate,
            "grad_norm": norms_of,
            "seconds": seconds,
            "images_per_second": len(self.data.train) / seconds,
        }

    @torch.no_grad()
    def evaluate(self, name: str, split: Split) -> dict[str, float]:
        """Mean losses and accuracy on a split in eval mode, not augmented."""
        was_training = self.model.training
        logits = logits_of(self.model.eval(), self.data, split)
        self.model.train(was_training)
        numbers = {"ce": float(cross_entropy(logits, split.labels))}
        teacher = self._teacher_logits[name]
        if teacher is not None:
            numbers["kd"] = float(kd_loss(logits, teacher, self.config.losses.temperature))
        numbers["accuracy"] = float((logits.argmax(1) == split.labels).float().mean())
        return numbers

    def _check_classes(self) -> None:
        found = self._teacher_logits["test"]
        if found is not None and found.shape[1] != self.data.num_classes:
            raise ValueError(
                f"the teacher must have the {self.data.num_classes} classes of {self.data.name}. "
                f"Got {found.shape[1]}: train a teacher on this data."
            )

    def _splits(self) -> tuple[tuple[str, Split], tuple[str, Split]]:
        return ("train", self.data.train), ("test", self.data.test)

    def _losses(self, indices: Tensor, epoch: int, i: int, *, both: bool) -> dict[str, Tensor]:
        split = self.data.train
        chosen = upload(indices, split.labels.device)
        draw = generator(self.config.seed, epoch, i)
        inputs = self.data.inputs(shift(split.images[chosen], self.config.train.shift, draw))
        logits = self.model(inputs)
        losses = {"ce": cross_entropy(logits, split.labels[chosen])}
        if self.teacher is not None and (both or "kd" in self.strategy.needs):
            with torch.no_grad():
                teacher_logits = self.teacher(inputs)
            losses["kd"] = kd_loss(logits, teacher_logits, self.config.losses.temperature)
        return losses

    def _check(self, losses: list[Tensor], epoch: int, last: int) -> None:
        """Raise where a loss since the last check is not finite; one wait for the device for many steps."""
        for i, value in enumerate(torch.stack(losses).tolist()):
            if not math.isfinite(value):
                step = last - len(losses) + i + 1
                raise Diverged(_ADVICE.format(value=value, where=f"in epoch {epoch}, step {step} of it"))


def learning_rate(use: Optimisation, epoch: int, step: int, steps: int) -> float:
    """The learning rate of a step: linear warm-up, then a drop by gamma in the epoch after each milestone.

    Args:
        use: The schedule.
        epoch: From 1.
        step: Of the epoch, from 0.
        steps: Of an epoch.
    """
    rate = use.lr * use.gamma ** sum(epoch > milestone for milestone in use.milestones)
    if epoch <= use.warmup_epochs:
        rate *= ((epoch - 1) * steps + step + 1) / (use.warmup_epochs * steps)
    return rate


@torch.no_grad()
def logits_of(model: nn.Module, data: ImageSet, split: Split) -> Tensor:
    """Logits ``[N, C]`` of a whole split, not augmented, in the mode that the model is in."""
    return torch.cat([model(data.inputs(images)) for images in split.images.split(_EVALUATION_BATCH)])
