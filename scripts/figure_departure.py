"""Draws how far DOT departs from SGD on its way, and how much of that one step's term explains, for docs/is-it-dot.md.

    python scripts/figure_departure.py

The paper (Zhao et al., ICCV 2023, section 3.3) writes DOT's departure from SGD as delta (v_kd_incon - v_ce_incon): for
equal buffers one step's update differs by just that, whatever the parts are. Here it is followed on the way of real
runs on digits: beside DOT's buffers runs the one that SGD would have of the same gradients, and its distance from the
sum of DOT's is the whole departure, with what earlier steps have left in the buffers. Writes
figures/is-it-dot/departure.*.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from stamped import ROOT, stamped
from torch import Tensor

from dot import data as image_sets
from dot import models, runs
from dot.config import StudyConfig, load_study
from dot.distillation import Hinton
from dot.optim import DOT
from dot.teaching import Teacher
from dot.trainer import Trainer
from dot.world import ALONE
from landscape.conflict import decompose
from landscape.isolation import thread_count
from landscape.plot._style import WIDTH, looks, tidy

CPU = torch.device("cpu")
PANELS = {
    "term": "one step's term,\nover the step",
    "departure": "whole departure from SGD,\nover the step",
    "explained": "share of the departure's square\nalong the one step's term",
}


class Departure:
    """A recorder that reads the buffers before each update, and so what the update before did."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._before: tuple[Tensor, Tensor] | None = None
        self._sgd: Tensor | None = None

    def wants(self, step: int) -> bool:
        """Every step."""
        return True

    def epoch(self, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Nothing to do."""

    def step(self, step: int, losses: Any, optimizer: torch.optim.Optimizer) -> None:
        """Keep what the last update was made of."""
        assert isinstance(optimizer, DOT)
        if step == 0:
            return  # no buffers yet
        group = optimizer.param_groups[0]
        m, delta = group["momentum"], group["delta"]
        task, distill = (torch.cat([b.flatten() for b in optimizer.momentum_buffers(n)]) for n in optimizer.losses)  # type: ignore[union-attr]
        if self._before is None or self._sgd is None:
            self._sgd = task + distill  # the first step sets all buffers to their gradients
        else:
            old_task, old_distill = self._before
            fresh = (task - (m - delta) * old_task) + (distill - (m + delta) * old_distill)
            self._sgd = m * self._sgd + fresh
            parts = decompose(old_task, old_distill)
            term = delta * (parts.inconsistent_b - parts.inconsistent_a)
            self.rows.append(measured(step, term, delta * (old_distill - old_task), task + distill, self._sgd))
        self._before = task, distill


def measured(step: int, term: Tensor, difference: Tensor, update: Tensor, sgd: Tensor) -> dict[str, float]:
    """Of the update before this step: its size, one step's term and the whole departure."""
    departure = update - sgd
    size = float(update.norm())
    overlap = float(term @ departure) / max(float(term.norm() * departure.norm()), 1e-30)
    return {
        "step": step,
        "term": float(term.norm()) / size,
        "departure": float(departure.norm()) / size,
        "explained": overlap**2,
        "identity": float((term - difference).norm()) / max(float(difference.norm()), 1e-30),
    }


def follow(study: StudyConfig, seed: int, epochs: int, root: Path) -> list[dict[str, float]]:
    """One run of DOT, without writing it."""
    config = study.student_run("kd-dot", seed)
    data = image_sets.load(study.data, CPU)
    network = runs.teach(study, root, CPU, None, ALONE).network(data, CPU)
    recorder = Departure()
    torch.manual_seed(seed)
    with thread_count(1):
        student = models.build(config.model, in_channels=data.in_channels, num_classes=data.num_classes)
        trainer = Trainer(student, Teacher(network), Hinton(config.losses.temperature), data, config, recorder)
        for _ in range(epochs):
            trainer.run_epoch()
    return recorder.rows


def draw(followed: dict[int, list[dict[str, float]]]) -> Figure:
    figure = Figure(figsize=(WIDTH, 6.4), layout="constrained")
    axes = figure.subplots(len(PANELS), sharex=True)
    for ax, (name, label) in zip(axes, PANELS.items(), strict=True):
        for (seed, rows), look in zip(followed.items(), looks(map(str, followed)).values(), strict=True):
            steps, values = ([row[key] for row in rows] for key in ("step", name))
            ax.plot(steps, values, color=look.color, linewidth=0.6, label=f"seed {seed}")
        ax.set_ylabel(label, fontsize=9)
        ax.set_ylim(bottom=0)
        tidy(ax)
    axes[0].legend(fontsize=8)
    axes[-1].set_xlabel("step")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=0, help="all of the recipe by default")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "figures" / "is-it-dot" / "departure.json")
    use = parser.parse_args()
    study = load_study(use.recipe)
    epochs = use.epochs or study.student.train.epochs
    followed = {seed: follow(study, seed, epochs, ROOT / "studies" / study.name / "runs") for seed in use.seeds}
    means = {name: {s: float(np.mean([row[name] for row in rows])) for s, rows in followed.items()} for name in PANELS}
    largest = max(row["identity"] for rows in followed.values() for row in rows)
    use.output.parent.mkdir(parents=True, exist_ok=True)
    draw(followed).savefig(use.output.with_suffix(".png"), dpi=110)
    found = {"recipe": use.recipe, "epochs": epochs, "means": means, "identity_holds_to": largest}
    use.output.write_text(json.dumps(stamped(CPU, found), indent=1) + "\n")


if __name__ == "__main__":
    main()
