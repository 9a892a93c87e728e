"""What was done, in words: the question, the data, the networks, how they were trained, and what methods share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import landscape as ls
from dot import data
from dot.config import Augmentation, Losses, RunConfig
from dot.findings import Findings
from dot.grouping import flat
from dot.runs import Run
from dot.wording import directions, told
from landscape.report import Point, Points

_ABOUT = {
    "ce": "cross-entropy alone (CE)",
    "kd-sgd": "distillation with SGD (KD+SGD)",
    "kd-dot": "distillation with DOT, which gives the distillation loss more momentum than the task loss (KD+DOT)",
}
_BY_METHOD = ("method", "seed", "train.delta")
"""What differs between the runs of a study."""


def question(findings: Findings) -> str:
    """What the report answers."""
    methods = _and([_ABOUT[group[0].config.method] for group in findings.groups.values()])
    what = (
        "in accuracy, in the loss surface around the minimum and how flat that is, and in whether the gradients of "
        "task loss and distillation loss agree?"
    )
    if len(findings.groups) < 2:
        return f"What becomes of a student trained by {methods}: {what}"
    return f"How do students differ that are trained by {methods}: {what}"


def setting(findings: Findings, left_out: Sequence[Run] = ()) -> Points:
    """Data, networks, recipe, seeds, what methods share, and what was measured."""
    first = findings.runs[0].config
    points = [
        f"Data: {first.data}, {data.source(first.data).about}. Losses and accuracy are of the test images unless "
        "training images are named.",
        _teacher(findings, first),
        f"Students: {first.model}, seeds {_seeds(findings)}.",
        f"Training: {_training(first)}.{_dot(findings)}",
        f"Losses: {_losses(findings, first.losses)}.",
        *_differing(findings),
        *_shared(findings),
        *_measured(findings),
    ]
    if left_out:
        points.append(f"Given but left out, being teachers: {', '.join(run.path.name for run in left_out)}.")
    return Points([Point(text) for text in points])


def _seeds(findings: Findings) -> str:
    seeds = {name: ", ".join(str(run.config.seed) for run in group) for name, group in findings.groups.items()}
    if len(set(seeds.values())) == 1:
        return next(iter(seeds.values())) + (" of each method" if len(seeds) > 1 else "")
    return "; ".join(f"{of} of {name}" for name, of in seeds.items())


def _teacher(findings: Findings, first: RunConfig) -> str:
    if not first.teacher:
        return "No teacher."
    run = findings.teacher
    if run is None:
        return f"Teacher: {first.teacher}; its folder does not lie beside the students', so its accuracy is not known."
    test = run.metrics[-1]["test"] if run.metrics else {}
    accuracy = f", {100 * test['accuracy']:.2f} % right on the test images" if "accuracy" in test else ""
    how = "its weights taken from a checkpoint" if run.config.weights else f"trained by {_training(run.config)}"
    return f"Teacher: {run.config.model}{accuracy}; one for all students, {how}."


def _training(config: RunConfig) -> str:
    use = config.train
    drops = f", times {use.gamma:g} after epoch{'s' if len(use.milestones) > 1 else ''} " if use.milestones else ""
    drops += _and([str(epoch) for epoch in use.milestones])
    more = [
        f"rising over the first {_count(use.warmup_epochs, 'epoch')}" if use.warmup_epochs else "",
        f"{'Nesterov ' if use.nesterov else ''}momentum {use.momentum:g}",
        f"weight decay {use.weight_decay:g}",
        f"sharpness-aware (SAM) with radius {use.sam:g}" if use.sam else "",
        _augmentation(use.augment),
        "" if config.compute.precision == "float32" else f"in {config.compute.precision}",
    ]
    return (
        f"{_count(use.epochs, 'epoch')} of SGD in batches of {use.batch_size}, learning rate {use.lr:g}{drops}, "
        + ", ".join(filter(None, more))
    )


def _augmentation(use: Augmentation) -> str:
    done = [
        "cropped and resized" if use.resized_crop else "",
        f"turned by up to {use.rotate:g} degrees" if use.rotate else "",
        f"moved by up to {_count(use.shift, 'pixel')}" if use.shift else "",
        "mirrored one time in two" if use.flip else "",
    ]
    done = list(filter(None, done))
    return f"images {_and(done)}" if done else "images as they are"


def _dot(findings: Findings) -> str:
    config = next((run.config for run in findings.runs if run.config.method == "kd-dot"), None)
    if config is None:
        return ""
    m, delta = config.train.momentum, config.train.delta
    shared = ", each buffer with half of the summed gradient" if config.train.shared_gradient else ""
    return (
        f" DOT with delta {delta:g}: momentum {m - delta:g} for the task loss and {m + delta:g} for the distillation "
        f"loss{shared}."
    )


def _losses(findings: Findings, losses: Losses) -> str:
    kinds = {"kd": "Hinton's distillation loss", "dkd": "decoupled distillation (DKD)"}
    kind = kinds.get(losses.distillation, f"the distillation loss {losses.distillation}")
    teacher = ", from a teacher with its classes permuted" if losses.permute_teacher else ""
    kind += f" at temperature {losses.temperature:g}"
    warm = f", whose weight grows over {_count(losses.warmup_epochs, 'epoch')}" if losses.warmup_epochs else ""
    said = f"{losses.w_ce:g} x cross-entropy + {losses.w_kd:g} x {kind}{teacher}{warm}"
    methods = {run.config.method for run in findings.runs}
    if methods == {"ce"}:
        return f"cross-entropy, at weight 1; {kind} is measured, not trained on"
    return said + ("; CE trains on cross-entropy at weight 1" if "ce" in methods else "")


def _differing(findings: Findings) -> list[str]:
    """In what methods differ besides what makes them methods."""
    configs = {name: flat(asdict(group[0].config)) for name, group in findings.groups.items()}
    first = next(iter(configs.values()))
    keys = [key for key in first if key not in _BY_METHOD and len({str(one[key]) for one in configs.values()}) > 1]
    told = [f"{key} ({', '.join(f'{name}: {one[key]}' for name, one in configs.items())})" for key in keys]
    said = f"Methods differ besides in {_and(told)}; what is said here of training and losses is of the first."
    return [said] if told else []


def _shared(findings: Findings) -> list[str]:
    if len(findings.groups) < 2:
        return []
    return [
        "For a seed, methods share the initial weights, the order of the data, their augmentation and the schedule; "
        "so they are compared pairwise by seed."
    ]


def _measured(findings: Findings) -> list[str]:
    """On what the figures and the table rest."""
    found = []
    if findings.planes:
        found.append(f"Planes: {told({name: [one] for name, one in findings.planes.items()}, _plane)}.")
    if findings.lines:
        found.append(f"Lines: {told(findings.lines, _lines)}.")
    record = findings.runs[0].config.record
    if findings.conflicts and record.every:
        found.append(
            f"Gradients: recorded every {_count(record.every, 'step')} on the training batch, and once an epoch on one "
            f"fixed batch of {record.heldout} test images."
        )
    return found


def _plane(surface: ls.Surface) -> str:
    ny, nx = surface.status.shape
    return f"{nx} x {ny} cells{_on(surface)}"


def _lines(surface: ls.Surface) -> str:
    n, nx = surface.status.shape if surface.status.ndim > 1 else (1, *surface.status.shape)
    return f"{_count(n, 'direction')} of {nx} points for each student{_on(surface)}"


def _on(surface: ls.Surface) -> str:
    attrs = surface.attrs
    n, split = attrs.get("n_examples"), {"train": "training ", "test": "test "}.get(str(attrs.get("split")), "")
    over = f", over {n:,} {split}images" if isinstance(n, int) else ""
    precision = str(attrs.get("precision", "float32"))
    how = {"eval": " in eval mode", "recalibrate": " with batch norms re-estimated in every cell"}
    mode = how.get(str(attrs.get("bn_mode", "eval")), "")
    return f"{over}{mode}{'' if precision == 'float32' else f', in {precision}'}, along {directions(surface)}"


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _and(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
