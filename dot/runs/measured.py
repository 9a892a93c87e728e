"""The problem that a trained run makes for measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dot import data as image_sets
from dot.data.augment import Views
from dot.data.drawing import drawn, upload
from dot.data.images import ImageSet, Part
from dot.distillation import Distillation, Outputs, make, observe
from dot.losses import cross_entropy
from dot.plain import read_json
from dot.runs.folder import OTHER_TEACHER, load_weights, open_run, two_inputs
from dot.teaching import Teacher
from landscape import Problem
from landscape.provenance import digest_model

_MEASURED_BATCH = 512


def problem(
    path: str | Path,
    split: str = "train",
    device: str | torch.device = "cpu",
    images: int = 0,
    seed: int = 0,
    epoch: int | None = None,
) -> Problem:
    """What a trained student is measured on: ``{"ce", "kd", "error"}`` over a split, not augmented.

    What the teacher gives is computed once and kept; a run without a teacher has no ``kd``. A distillation loss that
    has weights of its own has those of the end of training at every epoch.

    Args:
        path: A run folder; its teacher's lies beside it.
        split: ``"train"`` or ``"test"``.
        device: Where to measure.
        images: So many of the split, drawn; 0 for all.
        seed: Of the draw.
        epoch: The student as it was after this epoch, whose weights the run keeps; as it is trained, if None.

    Raises:
        FileNotFoundError: The run or its teacher is not there or not finished, or does not keep the epoch.
        ValueError: An argument is out of its range, the teacher has changed since the run was trained, or the trained
            weights of its distillation loss are gone or broken.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test'. Got {split!r}.")
    if images < 0:
        raise ValueError(f"images must be at least 0, which is all of them. Got {images}.")
    run, on = open_run(path), torch.device(device)
    data = image_sets.load(run.config.data, on)
    part: Part = getattr(data, split)
    batches = drawn(len(part), images, seed).split(_MEASURED_BATCH)
    model, teacher_run = run.network(data, on, epoch), run.teacher()
    epoch = run.last_epoch if epoch is None else epoch
    if teacher_run is None:
        return Problem(model, _objective(None), lambda: _measured(data, part, batches), split, epoch)
    network = teacher_run.network(data, on)
    if digest_model(network) != read_json(run.path / "environment.json")["teacher_sha256"]:
        raise ValueError(OTHER_TEACHER.format(run=run.path, teacher=run.config.teacher))
    distillation = make(run.config.losses, model, network, two_inputs(data))
    if distillation.state_dict():
        load_weights(distillation, run.distillation, run.config.losses.distillation)
    teacher = Teacher(network, distillation.teacher_layers)
    taught = [vars(teacher(batch["inputs"])) for batch in _measured(data, part, batches)]
    return Problem(model, _objective(distillation), lambda: _measured(data, part, batches, taught), split, epoch)


def _measured(
    data: ImageSet, part: Part, batches: Sequence[Tensor], taught: Sequence[dict[str, Any]] = ()
) -> Iterator[dict[str, Any]]:
    """Inputs, labels and what the teacher gave for each batch of indices."""
    for i, images in enumerate(part.batches((chosen, Views()) for chosen in batches)):
        labels = part.labels[upload(batches[i], part.labels.device)]
        yield {"inputs": data.inputs(images), "labels": labels} | ({"taught": taught[i]} if taught else {})


def _objective(
    distillation: Distillation | None,
) -> Callable[[nn.Module, Mapping[str, Any]], dict[str, Tensor]]:
    def objective(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        labels = batch["labels"]
        student = observe(model, () if distillation is None else distillation.student_layers, batch["inputs"])
        terms = {"ce": cross_entropy(student.logits, labels, reduction="none")}
        if distillation is not None:
            terms["kd"] = distillation(student, Outputs(**batch["taught"]), labels)
        return terms | {"error": (student.logits.argmax(1) != labels).float()}

    return objective
