"""What recording costs while training: for `bench_conflict.py`."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bench_training import pictures

from dot import models
from dot.config import Recording, load_study
from dot.distillation import Hinton
from dot.logit_cache import LogitCache
from dot.recording import ConflictRecorder
from dot.teaching import Teacher
from dot.trainer import Trainer, channels_last

GOAL = 0.03
"""Of the share of the training time that recording takes, with the default of `Recording.every`."""
CASES = {
    "ResNet32x4 to ResNet8x4": "cifar100-resnet32x4-resnet8x4",
    "ResNet20 to ResNet8, logits cached": "cifar10-small",
}
EPOCH = 50_000
"""Images, over which what is recorded once an epoch is spread."""


def recording(device: torch.device, rounds: int, case: str) -> dict[str, Any]:
    """For each case the seconds of a step without and with a record, of what an epoch records, and their share."""
    return {name: _case(recipe, device, rounds) for name, recipe in CASES.items() if case in name}


def _case(recipe: str, device: torch.device, rounds: int) -> dict[str, Any]:
    return {"goal": GOAL} | {method: _method(recipe, method, device, rounds) for method in ("kd-sgd", "kd-dot")}


def _method(recipe: str, method: str, device: torch.device, rounds: int) -> dict[str, float]:
    plain, recorded, epochs = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        trainer, recorder = _trainer(recipe, method, device, Path(folder))
        for number in range(rounds + 2):
            for kind, times in ((False, plain), (True, recorded)):
                recorder.wants = lambda step, kind=kind: kind  # type: ignore[method-assign]
                took = _seconds(lambda: _step(trainer), device)
                if number > 1:  # the first rounds warm up, and fill the cache
                    times.append(took)
            epochs.append(_seconds(lambda: recorder.epoch(0, trainer.model, trainer.strategy.optimizer), device))
    step, once = statistics.median(plain), statistics.median(epochs[1:])
    record = statistics.median(b - a for a, b in zip(plain, recorded, strict=True))
    every, steps = Recording().every, EPOCH / trainer.config.train.batch_size
    share = record / every / step + once / (steps * step)
    return {"step": step, "record": record, "epoch": once, "every": every, "share": share}


def _trainer(recipe: str, method: str, device: torch.device, folder: Path) -> tuple[Trainer, ConflictRecorder]:
    study = load_study(recipe)
    config = study.student_run(method, 0)
    data = pictures(8 * config.train.batch_size, device)
    torch.manual_seed(0)
    student, network = (models.build(part.model, num_classes=100).to(device) for part in (study.student, study.teacher))
    cache = None
    if config.compute.cache_teacher:
        cache = LogitCache(folder / "logits", len(data.train), config.train.augment.views or 0, 100, device)
    teacher, loss = Teacher(channels_last(network), cache=cache), Hinton(config.losses.temperature)
    config = replace(config, train=replace(config.train, epochs=1))
    recorder = ConflictRecorder(folder, student, teacher, loss, data, config)
    return Trainer(student, teacher, loss, data, config, recorder), recorder


def _step(trainer: Trainer) -> None:
    """The same one each time."""
    trainer.place.step_in_epoch = 0
    trainer.run_epoch(lambda: True)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
