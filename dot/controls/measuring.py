"""The numbers of a trained student: what it does, how it agrees with its teacher, its flatness and its conflict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import landscape as ls
from dot import data as image_sets
from dot import runs
from dot.config import StudyConfig
from dot.data.drawing import drawn, upload
from dot.data.images import ImageSet, Part
from dot.losses import cross_entropy, kd_loss
from dot.runs import Run
from dot.trainer import in_order
from landscape import store
from landscape.conflict.result import Conflict


@dataclass(frozen=True)
class Measure:
    """What a number is called, at length and in the head of a column, and how many digits of it are shown."""

    name: str
    short: str
    digits: int = 3


MEASURES = {
    "accuracy": Measure("test accuracy, last epoch (%)", "accuracy (%)", 2),
    "accuracy_best": Measure("that of the best epoch, chosen on the test images (%)", "best epoch's (%)", 2),
    "ce_test": Measure("task loss, test", "task loss"),
    "ce_train": Measure("task loss, training images", "task loss, training"),
    "kd_test": Measure("distillation loss, test", "distillation loss"),
    "kd_train": Measure("distillation loss, training images", "distillation loss, training"),
    "agreement_test": Measure("same class as the teacher, test (%)", "agreement (%)", 2),
    "agreement_train": Measure("same class as the teacher, training images (%)", "agreement, training (%)", 2),
    "kl_test": Measure("KL(teacher || student), test", "KL to the teacher"),
    "kl_train": Measure("KL(teacher || student), training images", "KL to the teacher, training"),
    "epochs": Measure("epochs to the test task loss", "epochs to the loss", 1),
    "width_0.1": Measure("basin width at +0.1, mean over directions", "width at +0.1"),
    "width_1": Measure("basin width at +1, mean over directions", "width at +1"),
    "curvature": Measure("curvature", "curvature", 1),
    "cosine": Measure("gradient cosine, training", "cosine, training"),
    "negative": Measure("share of negative cosines, training", "negative cosines"),
    "inconsistent_ce": Measure("inconsistent share of the task gradient, training", "inconsistent, task"),
    "inconsistent_kd": Measure(
        "inconsistent share of the distillation gradient, training", "inconsistent, distillation"
    ),
    "cosine_test": Measure("gradient cosine over test images", "cosine, test"),
}
"""Numbers of a run by their keys, in order.

Losses, agreement and flatness are those of the last epoch, in eval mode, on images that are not augmented; of the
training images as many are read as the study measures surfaces on. The distillation loss is Hinton's at the study's
temperature against the true teacher, for every arm; KL is at temperature 1. Flatness is that of the task loss on
training images, the mean over the study's random directions; a basin width is undefined where a line ended before the
rise. Conflict is between cross-entropy and the arm's distillation loss: while training on its batches, weighted as in
the arm's configuration; and at the end over test images, as many as the study measures surfaces on.
"""


def measure(run: Run, study: StudyConfig, reach: float, device: torch.device, lines: Path) -> dict[str, float]:
    """All `MEASURES` of a finished run.

    Args:
        run: With a teacher.
        study: That it belongs to: temperature, and how flatness is measured.
        reach: Test task loss whose first epoch is noted; NaN where no epoch reached it.
        device: To measure on.
        lines: Surface file of the flatness lines; made, or gone on with.

    Raises:
        FileNotFoundError: The teacher is not there.
        ValueError: See `dot.runs.problem`.
    """
    teacher_run = run.teacher()
    assert teacher_run is not None  # every arm has the study's, also the one that does not imitate it
    data = image_sets.load(run.config.data, device)
    networks = run.network(data, device), teacher_run.network(data, device)
    chosen = drawn(len(data.train), study.measure.images, study.measure.seed)
    of_split = {
        f"{name}_{split}": value
        for split, part, read in (("test", data.test, torch.arange(len(data.test))), ("train", data.train, chosen))
        for name, value in _compare(*networks, data, part, read, study.losses.temperature).items()
    }
    tests = [record["test"] for record in run.metrics]
    found = of_split | {
        "accuracy": 100 * tests[-1]["accuracy"],
        "accuracy_best": 100 * max(test["accuracy"] for test in tests),
        "epochs": next((float(i) for i, test in enumerate(tests, 1) if test["ce"] <= reach), float("nan")),
        **_flatness(run, study, device, lines),
        **_recorded(store.load_conflict(run.conflict)),
        "cosine_test": _at_the_end(run, study, device),
    }
    return {name: found[name] for name in MEASURES}


@torch.inference_mode()
def _compare(
    student: nn.Module, teacher: nn.Module, data: ImageSet, part: Part, chosen: Tensor, temperature: float
) -> dict[str, float]:
    """Means over images of a split of both losses and of how student and teacher agree."""
    sums: dict[str, Tensor] = {}
    for indices, images in in_order(part, chosen):
        inputs = data.inputs(images)
        labels = part.labels[upload(indices, part.labels.device)]
        guess, truth = student(inputs), teacher(inputs)
        batch = {
            "ce": cross_entropy(guess, labels, reduction="none"),
            "kd": kd_loss(guess, truth, temperature, "none"),
            "agreement": 100.0 * (guess.argmax(1) == truth.argmax(1)),
            "kl": kd_loss(guess, truth, 1.0, "none"),
        }
        for name, values in batch.items():
            sums[name] = sums.get(name, torch.zeros(())) + values.double().sum().cpu()
    return {name: float(total) / len(chosen) for name, total in sums.items()}


def _flatness(run: Run, study: StudyConfig, device: torch.device, lines: Path) -> dict[str, float]:
    use = study.measure
    problem = runs.problem(run.path, "train", device, use.images, use.seed)
    directions = ls.directions.random(problem.model, n=use.directions, seed=use.seed)
    grid = ls.Grid1D((-use.line_extent, use.line_extent, use.line_points))
    surface = ls.evaluate(problem, directions, grid, out=lines, label=run.path.name)
    found = {"curvature": float(ls.sharpness.curvatures(surface, "ce").mean())}
    for rise in (0.1, 1.0):
        width, censored = ls.sharpness.basin_widths(surface, "ce", rise)
        found[f"width_{rise:g}"] = float("nan") if censored.any() else float(width.mean())
    return found


def _at_the_end(run: Run, study: StudyConfig, device: torch.device) -> float:
    """Cosine of the gradients of both losses, each over all the images that are read, not of their batches."""
    problem = runs.problem(run.path, "test", device, study.measure.images, study.measure.seed)
    whole = ls.conflict.measure(problem, ("ce", "kd"), label=run.path.name).whole
    assert whole is not None  # a measurement has it
    return whole.cosine


def _recorded(conflict: Conflict) -> dict[str, float]:
    shares = {f"inconsistent_{term}": _mean_known(share) for term, share in conflict.inconsistent_share.items()}
    return shares | {
        "cosine": _mean_known(conflict.cosine),
        "negative": conflict.fraction_negative,
    }


def _mean_known(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")
