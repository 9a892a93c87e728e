"""The training loop, one for all methods: same schedule, data order and augmentation for a seed.

The order of the examples, their augmentation and whatever a network draws are functions of (seed, epoch, step), not of
a generator's state, so that methods are compared pairwise and a resumed run meets the same batches. Nothing in a step
waits for the device: numbers add up there, and are looked at every fifty steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import tee
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dot.config import Optimisation, RunConfig
from dot.data.augment import Views, draw
from dot.data.drawing import generator, shuffled, upload
from dot.data.images import ImageSet, Order, Part
from dot.devices import autocast
from dot.distillation import Distillation, Outputs, observe
from dot.losses import cross_entropy
from dot.strategies import strategy
from dot.teaching import Teacher
from dot.world import ALONE, World

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

    def epoch(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
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


@dataclass(frozen=True)
class Batch:
    """This process's part of a batch: which images, how seen, as inputs on the device; and how many the whole has."""

    indices: Tensor
    views: Views
    inputs: Tensor
    whole: int


class Trainer:
    """A student in training.

    Args:
        model: On the device, trained in place; its convolutions become channels-last.
        teacher: What it imitates; None where there is none (method ``ce`` only).
        distillation: How; its own parameters, if any, are trained too. None where there is no teacher.
        data: On the device.
        config: Of the run.
        recorder: Told about steps and epochs.
        world: The processes that train together, each with a part of every batch.

    Raises:
        ValueError: The method distils and there is no teacher, the data have classes that a network lacks, or there
            are more processes than images in a batch.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: Teacher | None,
        distillation: Distillation | None,
        data: ImageSet,
        config: RunConfig,
        recorder: Recorder | None = None,
        world: World = ALONE,
    ) -> None:
        self.model, self.data, self.config, self.world = channels_last(model), data, config, world
        self.teacher, self.distillation, self.recorder = teacher, distillation, recorder
        trained = [*model.parameters(), *(distillation.parameters() if distillation is not None else ())]
        self.strategy = strategy(trained, config, world)
        if teacher is None and "kd" in self.strategy.needs:
            raise ValueError(f"teacher must be a network for method {config.method!r}. Got none.")
        self.place = Place()
        self._test_guides: list[Outputs] = []
        self._student_layers = distillation.student_layers if distillation is not None else ()
        self._device = data.test.labels.device
        self._check_classes()
        self._check_parts()

    def state(self) -> dict[str, Any]:
        """Everything that training needs to go on from here, of plain containers and tensors."""
        return {
            "model": self.model.state_dict(),
            "distillation": {} if self.distillation is None else self.distillation.state_dict(),
            "optimizer": self.strategy.optimizer.state_dict(),
            "place": vars(self.place).copy(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a saved `state`."""
        self.model.load_state_dict(state["model"])
        if self.distillation is not None:
            self.distillation.load_state_dict(state["distillation"])
        self.strategy.optimizer.load_state_dict(state["optimizer"])
        self.place = Place(**state["place"])
        self.place.sums = {name: total.to(self._device) for name, total in self.place.sums.items()}

    def run_epoch(self, stop: Callable[[], bool] = lambda: False) -> dict[str, Any] | None:
        """Train to the end of the epoch under way.

        Args:
            stop: Asked after each step.

        Returns:
            The epoch's numbers: losses and accuracy on the training images as they were met (augmented, in train mode)
            and on the test images, learning rate, gradient norms, seconds and images a second. None where it was asked
            to stop before the end; `state` then holds the place.

        Raises:
            Diverged: A loss is not finite.
        """
        place, use = self.place, self.config.train
        epoch, started = place.epoch + 1, time.perf_counter()
        steps = -(-len(self.data.train) // use.batch_size)
        unchecked: list[Tensor] = []
        self.model.train()
        for i, batch in enumerate(self._batches(epoch, place.step_in_epoch), place.step_in_epoch):
            rate = learning_rate(use, epoch, i, steps)
            for group in self.strategy.optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(generator(self.config.seed, epoch, i, self.world.rank).initial_seed())
            _add(place.sums, self._step(batch, epoch, unchecked))
            place.step, place.step_in_epoch = place.step + 1, i + 1
            stopping = self.world.any(stop())
            if len(unchecked) == _CHECK_EVERY or stopping or i + 1 == steps:
                self._check(unchecked, epoch, i + 1)
                unchecked.clear()
            if stopping and i + 1 < steps:
                place.seconds += time.perf_counter() - started
                return None
        seconds = place.seconds + time.perf_counter() - started
        numbers = self._numbers(steps)
        self.place = Place(epoch=epoch, step=place.step)
        self.world.share(self.model.buffers())
        test = self.evaluate()
        for name, found in (("train", numbers["train"]), ("test", test)):
            if not all(map(math.isfinite, found.values())):
                raise Diverged(_ADVICE.format(value=found, where=f"on the {name} images after epoch {epoch}"))
        if self.recorder is not None:
            self.recorder.epoch(place.step, self.model, self.strategy.optimizer)
        return {
            "epoch": epoch,
            **numbers,
            "test": test,
            "lr": rate,
            "seconds": seconds,
            "images_per_second": len(self.data.train) / seconds,
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean losses and accuracy on the test images in eval mode, not augmented."""
        split, was_training = self.data.test, self.model.training
        self.model.eval()
        sums: dict[str, Tensor] = {}
        for i, batch in enumerate(self._share_of(split)):
            student = observe(self.model, self._student_layers, batch.inputs)  # float32, whatever training uses
            labels = split.labels[upload(batch.indices, self._device)]
            found = {"ce": cross_entropy(student.logits, labels, reduction="sum"), "accuracy": _right(student, labels)}
            if self.teacher is not None and self.distillation is not None:
                found["kd"] = self.distillation(student, self._guide(self.teacher, i, batch), labels).sum()
            _add(sums, found)
        self.model.train(was_training)
        totals = self.world.total(list(sums.values()))
        return {name: float(total) / len(split) for name, total in zip(sums, totals, strict=True)}

    def _guide(self, teacher: Teacher, i: int, batch: Batch) -> Outputs:
        """What the teacher gives for the i-th test batch: the same after each epoch, and asked for once."""
        if i < len(self._test_guides):
            return self._test_guides[i]
        found = teacher(batch.inputs)
        if not found.features:  # which would take much memory
            self._test_guides.append(found)
        return found

    @torch.no_grad()
    def _check_classes(self) -> None:
        one = self.data.inputs_of(self.data.test, torch.tensor([0])).contiguous(memory_format=torch.channels_last)
        found = {"the student": self.model.eval()(one)}
        if self.teacher is not None:
            found["the teacher"] = self.teacher(one).logits
        for who, logits in found.items():
            shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            if shape != [1, self.data.num_classes]:
                raise ValueError(
                    f"{who} must give {self.data.num_classes} logits an image, the classes of {self.data.name}. "
                    f"Got {shape} for one image: build or train it for this data."
                )

    def _check_parts(self) -> None:
        smallest = len(self.data.train) // -(-len(self.data.train) // self.config.train.batch_size)
        if smallest < self.world.size:
            raise ValueError(
                f"train.batch_size must give each process an image of every batch. Got {self.world.size} processes "
                f"for batches of {smallest} images: start fewer, or raise it."
            )

    def _step(self, batch: Batch, epoch: int, unchecked: list[Tensor]) -> dict[str, Tensor]:
        """Update the weights; returns what is to be added up, and leaves the loss to be checked later."""
        place, recorder = self.place, self.recorder
        recorded = recorder is not None and recorder.wants(place.step)
        labels = self.data.train.labels[upload(batch.indices, self._device)]
        student, taught = self._observe(batch.inputs), None
        if self.teacher is not None and self.distillation is not None and (recorded or "kd" in self.strategy.needs):
            taught = self.teacher.of(batch.inputs, batch.indices, batch.views)
        losses = self._losses(student, taught, labels, batch.whole)
        if recorder is not None and recorded:
            recorder.step(place.step, losses, self.strategy.optimizer)

        def again() -> dict[str, Tensor]:
            torch.manual_seed(torch.initial_seed())  # the network draws what it has drawn before
            with set_aside([self.model, *([] if self.distillation is None else [self.distillation])]):
                return self._losses(self._observe(batch.inputs), taught, labels, batch.whole)

        norms = self.strategy.step(losses, self._share_of_distillation(epoch), again)
        mine = {f"train/{name}": losses[name].detach() * batch.whole for name in self.strategy.needs}
        mine["train/accuracy"] = _right(student, labels)
        sums = dict(zip(mine, self.world.total(list(mine.values())), strict=True))
        unchecked.append(torch.stack([*sums.values(), norms["total"]]).sum())
        return sums | {f"grad_norm/{name}": norm for name, norm in norms.items()}

    def _losses(self, student: Outputs, taught: Outputs | None, labels: Tensor, whole: int) -> dict[str, Tensor]:
        """Means over a whole batch, of which this process has a part: the distillation loss where it was taught."""
        losses = {"ce": cross_entropy(student.logits, labels, reduction="sum") / whole}
        if taught is not None and self.distillation is not None:
            losses["kd"] = self.distillation(student, taught, labels).sum() / whole
        return losses

    def _numbers(self, steps: int) -> dict[str, dict[str, float]]:
        """Means of the epoch's sums, by kind: ``train`` over its images and ``grad_norm`` over its steps."""
        found: dict[str, dict[str, float]] = {"train": {}, "grad_norm": {}}
        for name, total in self.place.sums.items():
            kind, _, key = name.partition("/")
            found[kind][key] = float(total / (len(self.data.train) if kind == "train" else steps))
        return found

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """This process's part of each batch of an epoch, from a step on."""
        every = shuffled(len(self.data.train), self.config.train.batch_size, self.config.seed, epoch)
        todo = list(enumerate(every))[start:]
        asked, wanted = tee(self._orders(epoch, todo))
        batches = zip(todo, asked, self.data.train.batches(wanted), strict=True)
        for (_, whole), (indices, views), images in batches:
            yield Batch(indices, views, self._inputs(images), len(whole))

    def _orders(self, epoch: int, todo: Sequence[tuple[int, Tensor]]) -> Iterator[Order]:
        """This process's part of each batch, by the number of its step."""
        for i, whole in todo:
            part = self.world.part(len(whole))
            views = draw(self.config.train.augment, len(whole), generator(self.config.seed, epoch, i))
            yield whole[part], views[part]

    def _share_of(self, split: Part) -> Iterator[Batch]:
        """This process's part of a split, not augmented."""
        part = self.world.part(len(split))
        for indices, images in in_order(split, torch.arange(part.start, part.stop)):
            yield Batch(indices, Views(), self._inputs(images), len(split))

    def _inputs(self, images: Tensor) -> Tensor:
        return self.data.inputs(images).contiguous(memory_format=torch.channels_last)

    def _observe(self, inputs: Tensor) -> Outputs:
        """What the student gives, float32 whatever the precision inside."""
        with autocast(self._device, self.config.compute.precision):
            found = observe(self.model, self._student_layers, inputs)
        return Outputs(found.logits.float(), {name: feature.float() for name, feature in found.features.items()})

    def _share_of_distillation(self, epoch: int) -> float:
        """Of its weight, while it is warmed up (DKD, Zhao et al., 2022)."""
        return min(1.0, epoch / self.config.losses.warmup_epochs) if self.config.losses.warmup_epochs else 1.0

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


def in_order(split: Part, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Indices and images of a part of a set, not augmented, in batches for evaluation."""
    chunks = indices.split(_EVALUATION_BATCH)
    return zip(chunks, split.batches((chunk, Views()) for chunk in chunks), strict=True)


def channels_last(model: nn.Module) -> nn.Module:
    """The same model, its convolutions' weights laid out channels last: what convolutions are fastest with."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@contextmanager
def set_aside(modules: Iterable[nn.Module]) -> Iterator[None]:
    """What modules do meanwhile to their buffers, such as batch norm's running statistics, is done to copies."""
    kept = [
        (part, name, buffer)
        for module in modules
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    for part, name, buffer in kept:
        setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, name, buffer in kept:
            setattr(part, name, buffer)


def _add(sums: dict[str, Tensor], numbers: Mapping[str, Tensor]) -> None:
    """Add numbers to sums, on their device."""
    for name, number in numbers.items():
        sums[name] = sums[name] + number if name in sums else number


def _right(student: Outputs, labels: Tensor) -> Tensor:
    """How many are classified right, a scalar on the device."""
    return (student.logits.argmax(1) == labels).sum().float()
