"""Train one student of a study in its own run folder, and its teacher first where that is not there yet.

An interrupted run goes on where it was; a finished one is left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dot.cli._shared import Output, Reply, Trained

EXAMPLES = ("train digits-quick --method kd-dot", "train digits --method ce --seed 3 -o runs")


@dataclass(frozen=True)
class Options(Trained):
    """Options of ``train``."""

    recipe: Annotated[str, tyro.conf.Positional]
    """A study that ships with the package, or a TOML file."""
    method: Literal["ce", "kd-sgd", "kd-dot"] = "kd-dot"
    """With cross-entropy alone, with distillation and SGD, or with distillation and DOT."""
    seed: int = 0
    """Of the initial weights, the order of the data and their augmentation."""
    output: Output = None
    """Folder of the run folders; runs by default."""


def run(options: Options) -> Reply:
    """Run the verb."""
    study = options.study(options.recipe)
    job = study.student_run(options.method, options.seed)
    from dot import devices, runs
    from dot.world import joined

    root, device = options.output or Path("runs"), devices.pick(options.device)
    with joined(device) as world:
        runs.teach(study, root, device, options.teacher, world)
        done = runs.train(job, root, device, world=world)
    last = done.metrics[-1]
    text = f"{done.path}: epoch {last['epoch']}, test accuracy {100 * last['test']['accuracy']:.2f} %"
    return Reply(text, {"run": str(done.path), "last": last})
