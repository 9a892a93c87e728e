"""What a training step costs here against a plain loop, and what a whole recipe will take.

    python scripts/bench_training.py
    python scripts/bench_training.py --device cuda --epochs 20 -o figures/bench-training-gpu.json

ResNet32x4 teaches ResNet8x4 on random images of 32x32, batches of 64 (`cifar100-resnet32x4-resnet8x4`). The plain loop
is written as the reference's: contiguous float32, the teacher asked in each step, a backward pass for each loss with
retain_graph, an update parameter by parameter. Steps of all kinds alternate, and the medians' ratio to the plain DOT
step is printed, with how far the change that one step makes is from the plain step's. Then peak memory, how the time
of an epoch grows with the images, and, with --epochs, epochs of the whole recipe extrapolated to its end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dot import models
from dot.config import RunConfig, load_study
from dot.data.images import ImageSet, Split
from dot.distillation import Hinton
from dot.logit_cache import LogitCache
from dot.losses import cross_entropy, kd_loss
from dot.teaching import Teacher
from dot.trainer import Trainer, channels_last
from landscape.provenance import command_line, machine, versions

RECIPE = "cifar100-resnet32x4-resnet8x4"
GOALS = {"DOT": 0.85, "DOT, teacher in bf16": 0.70, "DOT, logits cached": 0.42}
"""On the CPU, as ratios to the plain DOT step."""


def pictures(n: int, device: torch.device) -> ImageSet:
    """Random images in the form of CIFAR-100."""
    images = torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    part = Split(images, torch.arange(n) % 100).to(device)
    return ImageSet("random", part, Split(part.images[:256], part.labels[:256]), 100, 255, (0.5,) * 3, (0.25,) * 3)


def networks(device: torch.device) -> tuple[nn.Module, nn.Module]:
    """Student and teacher, the same weights each time."""
    torch.manual_seed(0)
    study = load_study(RECIPE)
    student, teacher = (models.build(part.model, num_classes=100).to(device) for part in (study.student, study.teacher))
    return student, teacher


class Ours:
    """A trainer that makes one step at a time."""

    def __init__(self, method: str, data: ImageSet, device: torch.device, folder: Path, teacher: str) -> None:
        student, network = networks(device)
        config = load_study(RECIPE).student_run(method, 0)
        cache = None
        if teacher == "cached":
            path = folder / method
            cache = LogitCache(path, len(data.train), config.train.augment.views or 0, 100, device)
        asked = Teacher(channels_last(network), (), "bf16" if teacher == "bf16" else "float32", cache)
        self.trainer = Trainer(student, asked, Hinton(config.losses.temperature), data, config)
        self.cache = cache

    def step(self) -> None:
        """One step; the same one each time, so that a cache is met as in the later runs of a study."""
        self.trainer.place.step_in_epoch = 0
        self.trainer.run_epoch(lambda: True)


class Plain:
    """The loop of the reference, in plain torch: ``ce``, ``kd-sgd`` or ``kd-dot``."""

    def __init__(self, method: str, data: ImageSet, like: Trainer) -> None:
        self.model, self.teacher = networks(data.test.labels.device)
        self.teacher.eval()
        self.model.train()
        self.method, self.config = method, like.config
        self.buffers: dict[str, dict[nn.Parameter, Tensor]] = {"ce": {}, "kd": {}}
        batch = next(iter(like._batches(1, 0)))  # the very same images
        self.inputs, self.labels = (
            batch.inputs.contiguous(),
            data.train.labels[batch.indices.to(data.test.labels.device)],
        )

    def step(self) -> None:
        """One step."""
        losses, parameters = self.config.losses, list(self.model.parameters())
        logits = self.model(self.inputs)
        ce = cross_entropy(logits, self.labels)
        if self.method == "ce":
            self.model.zero_grad()
            ce.backward()
            self._update(parameters, {"ce": (self._gradients(parameters), 0.9)})
            return
        with torch.no_grad():
            expected = self.teacher(self.inputs)
        kd = losses.w_kd * kd_loss(logits, expected, losses.temperature)
        self.model.zero_grad()
        if self.method == "kd-sgd":
            (losses.w_ce * ce + kd).backward()
            self._update(parameters, {"ce": (self._gradients(parameters), 0.9)})
            return
        kd.backward(retain_graph=True)
        distill = self._gradients(parameters)
        self.model.zero_grad()
        (losses.w_ce * ce).backward()
        delta = self.config.train.delta
        self._update(parameters, {"ce": (self._gradients(parameters), 0.9 - delta), "kd": (distill, 0.9 + delta)})

    def _gradients(self, parameters: list[nn.Parameter]) -> list[Tensor]:
        return [p.grad.clone() for p in parameters if p.grad is not None]

    @torch.no_grad()
    def _update(self, parameters: list[nn.Parameter], kinds: Mapping[str, tuple[list[Tensor], float]]) -> None:
        use = self.config.train
        for i, p in enumerate(parameters):
            change = torch.zeros_like(p)
            for name, (gradients, momentum) in kinds.items():
                gradient = gradients[i] + use.weight_decay * p if name == "ce" else gradients[i]
                before = self.buffers[name].get(p)
                self.buffers[name][p] = gradient if before is None else momentum * before + gradient
                change += self.buffers[name][p]
            p.sub_(use.lr * change)


def change_of(model: nn.Module, step: Callable[[], None]) -> Tensor:
    """How one step moves the weights."""
    before = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    step()
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()]) - before


def steps(device: torch.device, rounds: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Medians of interleaved steps, their ratios to the plain DOT step, and their agreement with the plain method."""
    data = pictures(640, device)
    kinds = {
        "CE": ("ce", "float32"),
        "KD": ("kd-sgd", "float32"),
        "DOT": ("kd-dot", "float32"),
        "DOT, teacher in bf16": ("kd-dot", "bf16"),
        "DOT, logits cached": ("kd-dot", "cached"),
    }
    ours = {name: Ours(method, data, device, folder, teacher) for name, (method, teacher) in kinds.items()}
    plain = {name: Plain(kinds[name][0], data, ours[name].trainer) for name in ("CE", "KD", "DOT")}
    agreement, wanted = {}, {name: change_of(loop.model, loop.step) for name, loop in plain.items()}
    for name, mine in ours.items():
        found, expected = change_of(mine.trainer.model, mine.step), wanted[name.split(",")[0]]
        agreement[name] = float((found - expected).norm() / expected.norm())
    work = {f"plain {name}": loop.step for name, loop in plain.items()} | {
        name: mine.step for name, mine in ours.items()
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, step in work.items():
            times[name].append(seconds(lambda step=step: [step() for _ in range(repeats)], device) / repeats)  # type: ignore[misc]
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    return {
        name: {
            "ms": 1e3 * median,
            "ratio_to_plain_dot": median / medians["plain DOT"],
            **({"difference_of_one_step": agreement[name]} if name in agreement else {}),
            **({"goal_on_cpu": GOALS[name]} if name in GOALS else {}),
        }
        for name, median in medians.items()
    }


def seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def growth(device: torch.device, sizes: tuple[int, ...]) -> dict[int, float]:
    """Seconds of a DOT epoch by the number of images, on a small network so that it ends."""
    found = {}
    for n in sizes:
        trainer = whole_run(n, device, None, "resnet8", "resnet8")
        trainer.run_epoch(count(2))
        trainer.place.step_in_epoch = 0
        found[n] = seconds(trainer.run_epoch, device)
    return found


def count(steps: int) -> Callable[[], bool]:
    """Something to ask after each step, which says stop after so many."""
    left = iter(range(steps - 1))
    return lambda: next(left, None) is None


def whole_run(n: int, device: torch.device, cache: LogitCache | None, student: str, teacher: str) -> Trainer:
    config: RunConfig = load_study(RECIPE).student_run("kd-dot", 0)
    torch.manual_seed(0)
    model, network = (models.build(name, num_classes=100).to(device) for name in (student, teacher))
    asked = Teacher(channels_last(network), (), "float32", cache)
    return Trainer(model, asked, Hinton(4.0), pictures(n, device), replace(config, model=student))


def epochs(device: torch.device, number: int, folder: Path) -> dict[str, Any]:
    """Epochs of the recipe: those of a study's first run, which fills the cache, and of a later run, which finds it."""
    config = load_study(RECIPE)
    cache = LogitCache(folder / "recipe", 50_000, config.student.train.augment.views or 0, 100, device)
    found: dict[str, Any] = {}
    for which in ("first run", "later run"):
        trainer = whole_run(50_000, device, cache, config.student.model, config.teacher.model)
        each = [seconds(trainer.run_epoch, device) for _ in range(number)]
        whole = config.student.train.epochs * statistics.median(each[1:] or each)
        found[which] = {"seconds": each, "minutes_of_240_epochs": whole / 60}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repeats", type=int, help="steps at a time; 1 on the CPU, 20 on a GPU by default")
    parser.add_argument("--epochs", type=int, default=0, help="of the whole recipe, for a GPU")
    parser.add_argument("-o", "--output", type=Path)
    use = parser.parse_args()
    device = torch.device(use.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with tempfile.TemporaryDirectory() as folder:
        results: dict[str, Any] = {
            "steps": steps(device, use.rounds, use.repeats or (20 if device.type == "cuda" else 1), Path(folder))
        }
        results["seconds_of_an_epoch_by_images"] = growth(device, (640, 1280, 2560))
        if use.epochs:
            results["epochs"] = epochs(device, use.epochs, Path(folder))
    results["peak_memory_bytes"] = peak(device)
    for name, found in results["steps"].items():
        goal = f", goal {found['goal_on_cpu']:.2f}" if "goal_on_cpu" in found and device.type == "cpu" else ""
        off = (
            f", one step differs by {found['difference_of_one_step']:.1e}" if "difference_of_one_step" in found else ""
        )
        print(
            f"{name}: {found['ms']:.1f} ms, {found['ratio_to_plain_dot']:.2f} of plain DOT{goal}{off}", file=sys.stderr
        )
    stamp = {
        "command": f"python scripts/{command_line()}",
        "machine": machine(device),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    text = json.dumps(stamp | results, indent=2)
    if use.output is not None:
        use.output.write_text(text + "\n")
    print(text)
    return 0


def peak(device: torch.device) -> int:
    """Of the GPU's memory, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
