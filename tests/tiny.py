"""A study small enough for a test, and what training does, written as an ordinary loop from the formulas.

Nothing here uses the optimizer, the losses, the trainer or the recorder of the package.
"""

from __future__ import annotations

import functools
import json
import shutil
import statistics
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor, nn

from dot import data as image_sets
from dot import runs, study
from dot.config import RunConfig, StudyConfig, load_study
from dot.data.augment import apply, draw
from dot.data.drawing import generator, shuffled
from dot.data.images import ImageSet, Split
from dot.distillation import Hinton
from dot.teaching import Teacher
from dot.trainer import Recorder, Trainer

RECIPE = """
name = "tiny"
data = "digits"
methods = ["ce", "kd-sgd", "kd-dot"]
seeds = [0, 1]

[teacher]
model = "resnet8"
[teacher.train]
epochs = 1
augment = { shift = 1 }

[student]
model = "convnet4"
[student.train]
epochs = 2
milestones = [1]
augment = { shift = 1 }

[compute]
threads = 1

[record]
every = 4
heldout = 32
checkpoints = [1]

[measure]
plane_points = 3
plane_extent = 0.5
line_points = 9
directions = 3
images = 64
"""
CPU = torch.device("cpu")
TIMES = ("seconds", "images_per_second")
"""What differs between two equal runs."""


def config(folder: Path, text: str = RECIPE) -> StudyConfig:
    return load_study(str(recipe(folder, text)))


def recipe(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def vary(config: Any, **changes: Any) -> Any:
    """A configuration with other values; a dict changes values of a table."""
    return replace(
        config,
        **{
            key: replace(getattr(config, key), **value) if isinstance(value, dict) else value
            for key, value in changes.items()
        },
    )


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def folder() -> Path:
    """A new one, removed at the end of the tests."""
    _KEPT.append(tempfile.TemporaryDirectory())
    return Path(_KEPT[-1].name)


@functools.cache
def _teacher() -> Path:
    path = folder()
    return runs.train(config(path).teacher_run(), path, CPU).path


@functools.cache
def finished_study() -> Path:
    """The folder of the tiny study, run once; copy it before writing to it."""
    path = folder() / "study"
    study.reproduce(config(path.parent), path, CPU)
    return path


def with_teacher(root: Path) -> Path:
    """A folder of run folders that holds the trained teacher of the tiny study."""
    shutil.copytree(_teacher(), root / _teacher().name)
    return root


def digits(device: torch.device, train: int = 898, test: int = 899) -> ImageSet:
    """The first so many digits of each split."""
    whole = image_sets.load("digits", device)
    return replace(
        whole,
        train=Split(whole.train.images[:train], whole.train.labels[:train]),
        test=Split(whole.test.images[:test], whole.test.labels[:test]),
    )


def networks(device: torch.device) -> tuple[nn.Module, nn.Module]:
    """A student and a teacher of other shapes, freshly drawn."""
    torch.manual_seed(3)

    def network(width: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(9 * width, 10),
        )

    return network(3).to(device), network(6).to(device)


@functools.cache
def _moments() -> tuple[float, float]:
    pixels = image_sets.load("digits", CPU).train.images.flatten().tolist()
    return statistics.fmean(pixels), statistics.stdev(pixels)


def normalised(images: Tensor) -> Tensor:
    """Inputs with the mean and deviation of all the training pixels taken out."""
    mean, deviation = _moments()
    return ((images.double() - mean) / deviation).float()


def each_ce(logits: Tensor, labels: Tensor) -> Tensor:
    """``-log softmax`` at the label, for each example."""
    return logits.logsumexp(1) - logits[torch.arange(len(labels), device=labels.device), labels]


def each_kd(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of the softened distributions, for each example."""
    p = (teacher / temperature).softmax(1)
    return temperature**2 * (p * (p.log() - (student / temperature).softmax(1).log())).sum(1)


def numbers_of(model: nn.Module, teacher: nn.Module | None, data: ImageSet, split: Split, t: float) -> dict[str, float]:
    """Losses and accuracy in eval mode, an example at a time in float64 sums."""
    model.eval()
    sums = {"ce": 0.0, "accuracy": 0.0} | ({} if teacher is None else {"kd": 0.0})
    with torch.no_grad():
        for start in range(0, len(split), 100):
            inputs = normalised(split.images[start : start + 100])
            labels, logits = split.labels[start : start + 100], model(inputs)
            sums["ce"] += float(each_ce(logits, labels).double().sum())
            sums["accuracy"] += int((logits.argmax(1) == labels).sum())
            if teacher is not None:
                sums["kd"] += float(each_kd(logits, teacher.eval()(inputs), t).double().sum())
    return {name: total / len(split) for name, total in sums.items()}


def trainer_of(
    student: nn.Module,
    teacher: nn.Module | None,
    data: ImageSet,
    job: RunConfig,
    recorder: Recorder | None = None,
) -> Trainer:
    """A trainer with a teacher that is asked each time."""
    if teacher is None:
        return Trainer(student, None, None, data, job, recorder)
    return Trainer(student, Teacher(teacher), Hinton(job.losses.temperature), data, job, recorder)


@dataclass
class Step:
    """One step of `train_by_hand`, before its update."""

    rate: float
    task: dict[str, Tensor]
    distill: dict[str, Tensor]
    sums: dict[str, float]
    buffers: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def train_by_hand(job: Any, model: nn.Module, teacher: nn.Module, data: ImageSet, epoch: int, state: Any) -> list[Step]:
    """An epoch of a run as in the paper, in place; the gradients and buffers that each step met.

    Args:
        state: An empty dict for the first epoch, then the same one: momentum buffers.
    """
    use, w = job.train, job.losses
    teacher.eval()
    model.train()
    steps = []
    for i, chosen in enumerate(shuffled(len(data.train), use.batch_size, job.seed, epoch)):
        rate = use.lr
        for milestone in use.milestones:
            if epoch > milestone:
                rate *= use.gamma
        chosen = chosen.to(data.train.labels.device)
        views = draw(use.augment, len(chosen), generator_of(job.seed, epoch, i))
        inputs = normalised(apply(views, data.train.images[chosen]))
        logits = model(inputs)
        ce = each_ce(logits, data.train.labels[chosen]).mean()
        with torch.no_grad():
            expected = teacher(inputs)
        kd = each_kd(logits, expected, w.temperature).mean()
        task, distill = _gradients(w.w_ce * ce, model), _gradients(w.w_kd * kd, model)
        sums = {"ce": float(ce.detach()) * len(chosen), "kd": float(kd.detach()) * len(chosen)}
        sums["accuracy"] = int((logits.argmax(1) == data.train.labels[chosen]).sum())
        steps.append(
            Step(rate, task, distill, sums, {k: {n: b.clone() for n, b in v.items()} for k, v in state.items()})
        )
        with torch.no_grad():
            if job.method == "kd-dot":
                _dot_step(model, task, distill, state, use, rate)
            else:
                total = _sum(task, distill) if job.method == "kd-sgd" else _scaled(task, 1 / w.w_ce)
                _sgd_step(model, total, state, use, rate)
    return steps


def generator_of(seed: int, epoch: int, step: int) -> torch.Generator:
    """Where the augmentation of a step is drawn from."""
    return generator(seed, epoch, step)


def _gradients(loss: Tensor, model: nn.Module) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward(retain_graph=True)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return found


def _sum(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: a[name] + b[name] for name in a}


def _scaled(a: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    return {name: factor * g for name, g in a.items()}


def _sgd_step(model: nn.Module, gradient: dict[str, Tensor], state: Any, use: Any, rate: float) -> None:
    v = state.setdefault("total", {})
    for name, p in model.named_parameters():
        g = gradient[name] + use.weight_decay * p
        v[name] = use.momentum * v[name] + g if name in v else g
        p -= rate * (g + use.momentum * v[name] if use.nesterov else v[name])


def _dot_step(
    model: nn.Module, task: dict[str, Tensor], distill: dict[str, Tensor], state: Any, use: Any, rate: float
) -> None:
    v_t, v_k = state.setdefault("task", {}), state.setdefault("distill", {})
    for name, p in model.named_parameters():
        g_t, g_k = task[name], distill[name]
        if use.shared_gradient:
            g_t = g_k = (g_t + g_k) / 2
        g_t = g_t + use.weight_decay * p
        v_t[name] = (use.momentum - use.delta) * v_t[name] + g_t if name in v_t else g_t
        v_k[name] = (use.momentum + use.delta) * v_k[name] + g_k if name in v_k else g_k
        p -= rate * (v_t[name] + v_k[name])


def norm(gradient: dict[str, Tensor]) -> float:
    return float(sum(float(g.double().square().sum()) for g in gradient.values())) ** 0.5


def datasets(path: Path) -> dict[str, tuple[str, tuple[int, ...], Any]]:
    """Every dataset of an HDF5 file, to the bit."""
    found: dict[str, tuple[str, tuple[int, ...], Any]] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            values = item[()]
            found[name] = (str(item.dtype), item.shape, values.tolist() if item.dtype == object else values.tobytes())

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` without what differs between two equal runs."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


def same(a: Any, b: Any) -> bool:
    """Whether two nested containers of tensors and numbers are equal to the bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def differences(folder: Path, other: Path) -> list[str]:
    """In what two finished runs differ, but for the time they took and when they began; to be empty."""

    def files(path: Path) -> set[str]:
        return {str(f.relative_to(path)) for f in path.rglob("*") if f.is_file()}

    found = [f"{name} is in one folder only" for name in files(folder) ^ files(other)]
    for name in files(folder) & files(other):
        one, two = folder / name, other / name
        if name.endswith(".pt"):
            equal = same(torch.load(one, weights_only=True), torch.load(two, weights_only=True))
        elif name.endswith(".h5"):
            equal = datasets(one) == datasets(two)
        elif name == "metrics.jsonl":
            equal = metrics(folder) == metrics(other)
        elif name == "environment.json":
            equal = True
        else:
            equal = one.read_bytes() == two.read_bytes()
        if not equal:
            found.append(f"{name} differs")
    return sorted(found)


def mtimes(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}
