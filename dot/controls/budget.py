"""What a plan would run, and for how long."""

from __future__ import annotations

from pathlib import Path

import torch

from dot import data as image_sets
from dot import models
from dot.config import RunConfig
from dot.controls import running
from dot.controls.config import Arm, Plan
from dot.distillation import make
from dot.runs import Run
from dot.teaching import Teacher
from dot.trainer import Trainer
from landscape.isolation import preserve_rng, thread_count

_STEPS = 5
"""That are timed, after as many that warm up."""


def table(plan: Plan, folder: Path) -> list[list[str]]:
    """A heading and a row for each arm: what it is, and how many of its runs are done."""
    left = running.unmeasured(plan, folder)
    of_arm: dict[str, list[bool]] = {name: [] for name in plan.arms}
    for job in plan.jobs:
        of_arm[job.arm].append(job.run.name not in left)
    return [
        ["arm", "method", "changed", "done", "what it is"],
        *(
            [name, arm.method, _changed(arm), f"{sum(of_arm[name])}/{len(of_arm[name])}", arm.about]
            for name, arm in plan.arms.items()
        ),
    ]


def seconds(plan: Plan, folder: Path, device: torch.device) -> float:
    """How long the runs that are left take to train, one after the other; measuring them comes on top.

    From a run of the same method that is there, or from a few steps of each method, with networks that are not trained.
    """
    left = running.unmeasured(plan, folder).values()
    first: dict[str, RunConfig] = {}
    for config in left:
        first.setdefault(config.method, config)
    one = {method: _known(plan, folder, method) or _timed(plan, config, device) for method, config in first.items()}
    return sum(one[config.method] for config in left)


def _known(plan: Plan, folder: Path, method: str) -> float | None:
    """Seconds that a finished run of a method took."""
    for name, config in plan.runs.items():
        run = Run(folder / "runs" / name, config)
        if config.method == method and run.done:
            return sum(float(record["seconds"]) for record in run.metrics)
    return None


def _timed(plan: Plan, config: RunConfig, device: torch.device) -> float:
    """A whole run's time from that of a few steps."""
    data = image_sets.load(config.data, device)
    with preserve_rng(0, device), thread_count(config.compute.threads):
        student, teacher = (
            models.build(name, in_channels=data.in_channels, num_classes=data.num_classes).to(device)
            for name in (config.model, plan.study.teacher.model)
        )
        distillation = make(config.losses, student, teacher, data.inputs_of(data.test, torch.arange(2)))
        asked = Teacher(teacher, distillation.teacher_layers, config.compute.teacher_precision)
        trainer = Trainer(student, asked, distillation, data, config)
        steps = -(-len(data.train) // config.train.batch_size)
        timed = min(_STEPS, (steps - 1) // 2)
        if not timed:  # an epoch is that short
            whole = trainer.run_epoch()
            assert whole is not None
            return float(whole["seconds"]) * config.train.epochs
        before = 0.0
        for _ in range(2):
            before, place = trainer.place.seconds, trainer.place
            upto = place.step + timed
            trainer.run_epoch(lambda upto=upto, place=place: place.step >= upto)  # type: ignore[misc]
        return (trainer.place.seconds - before) / timed * steps * config.train.epochs


def _changed(arm: Arm) -> str:
    """The values that an arm changes."""
    changes = {f"train.{key}": value for key, value in arm.train.items()} | {
        f"losses.{key}": value for key, value in arm.losses.items()
    }
    return ", ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in changes.items()
    )
