"""Everything that needs an accelerator, in one call: `python scripts/gpu_check.py` (on the CPU: `--device cpu`, small).

1. The tests that take a `device` fixture, on the device; one that never touches its memory fails.
2. Agreement with the CPU in float32 (TF32 off): a surface, and 50 steps of DOT.
3. The digits study, trained and measured there.
4. Times, as ratios to the CPU of the same machine measured in the same run.
5. ResNet-20 on 50,000 images: cells of a surface beside the bare loop, and the share of the device's peak.

Writes figures/gpu/<device>.json with command, commit, versions and machine; exit status 1 where something fails.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_surface
import torch
from stamped import stamped

import landscape as ls
from dot import DOT, data, devices, kd_loss, models, outcome, study
from dot.config import load_study
from dot.data.drawing import shuffled
from dot.data.images import ImageSet
from landscape.batches import Reader
from landscape.walker import Walker

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
TOLERANCE = {"surface (relative)": 1e-4, "50 DOT steps (relative, of the weights' change)": 1e-3}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, mps or cpu")
    parser.add_argument("-o", "--output", type=Path, help="JSON file; figures/gpu/<device>.json by default")
    parser.add_argument("--skip-tests", action="store_true", help="leave out part 1, as the tests themselves do")
    options = parser.parse_args()
    device = devices.pick(options.device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    small = device.type == "cpu"
    found: dict[str, Any] = {
        "tests": "left out" if options.skip_tests else device_tests(device),
        "agreement": agreement(device),
        "study": digits_study(device, "digits-quick" if small else "digits"),
        "times": times(device, small),
        "surface": bench_surface.gpu(device, 64 if small else 50_000),
    }
    found["holds"] = found["agreement"]["holds"] and found["tests"] in ("passed", "left out")
    found = stamped(device, found)
    target = options.output or ROOT / "figures" / "gpu" / f"{device.type}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 0 if found["holds"] else 1


def device_tests(device: torch.device) -> str:
    """Run the tests that take a `device`, there."""
    asked = [sys.executable, "-m", "pytest", "--device-only", "-x", "-q"]
    done = subprocess.run(asked, cwd=ROOT, env=os.environ | {"PYTEST_TORCH_DEVICE": device.type}, check=False)
    return "passed" if done.returncode == 0 else f"failed with status {done.returncode}"


def agreement(device: torch.device) -> dict[str, Any]:
    """The largest differences from the CPU."""
    differences = {
        "surface (relative)": relative(surface_at(CPU), surface_at(device)),
        "50 DOT steps (relative, of the weights' change)": relative(dot_steps(CPU), dot_steps(device)),
    }
    holds = all(differences[name] <= limit for name, limit in TOLERANCE.items())
    return {"differences": differences, "tolerances": TOLERANCE, "holds": holds}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / a.norm())


def digits(device: torch.device) -> tuple[ImageSet, torch.nn.Module]:
    """The digits and a network with the same weights on every device."""
    torch.manual_seed(0)
    model = models.build("resnet8", in_channels=1, num_classes=10)
    return data.load("digits", device), model.to(device)


def surface_at(device: torch.device) -> torch.Tensor:
    """Losses on a 5 x 5 grid."""
    images, model = digits(device)
    with torch.no_grad():  # statistics of the data, so that a network in eval mode has a sensible loss
        model.train()(images.inputs_of(images.train, torch.arange(len(images.train))))
    loader = [(images.inputs_of(images.test, torch.arange(len(images.test))), images.test.labels)]
    cross_entropy = torch.nn.CrossEntropyLoss(reduction="none")
    problem = ls.Problem.from_loss(model, {"ce": cross_entropy}, loader)
    plane = ls.directions.random(model, n=2, seed=0)
    return torch.from_numpy(ls.evaluate(problem, plane, ls.Grid2D((-0.5, 0.5, 5), (-0.5, 0.5, 5))).values("ce"))


def dot_steps(device: torch.device) -> torch.Tensor:
    """How far 50 steps of DOT move the weights, with a fixed random teacher."""
    images, model = digits(device)
    torch.manual_seed(1)
    teacher = models.build("resnet14", in_channels=1, num_classes=10).to(device).train()
    before = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    optimizer = DOT(model.parameters(), lr=0.001, momentum=0.9, delta=0.075, weight_decay=5e-4)
    for i in range(50):
        chosen = shuffled(len(images.train), 64, seed=0, epoch=i)[0]
        inputs = images.inputs_of(images.train, chosen)
        with torch.no_grad():
            teacher_logits = teacher(inputs)
        logits = model(inputs)
        optimizer.backward(
            task=0.1 * torch.nn.functional.cross_entropy(logits, images.train.labels[chosen.to(device)]),
            distill=0.9 * kd_loss(logits, teacher_logits, temperature=4.0),
        )
        optimizer.step()
    return (torch.nn.utils.parameters_to_vector(model.parameters()).detach() - before).cpu().double()


def digits_study(device: torch.device, recipe: str) -> dict[str, Any]:
    """The whole study on the device."""
    with tempfile.TemporaryDirectory() as folder:
        found = study.reproduce(load_study(recipe), Path(folder), device)
    return {"recipe": recipe, "seconds": found.seconds, "table": outcome.table(found.students)}


def times(device: torch.device, small: bool) -> dict[str, Any]:
    """Median seconds of a training step and of a surface cell, and the CPU's over the device's."""
    found = {}
    for name in ("resnet8",) if small else ("resnet20", "resnet8x4"):
        for what, make in (("DOT step, batch 64", training_step), ("cell, 1000 images", surface_cell)):
            seconds = {where.type: median_seconds(make(name, where), where, small) for where in {CPU, device}}
            found[f"{name}: {what}"] = seconds | {"ratio": seconds["cpu"] / seconds[device.type]}
    return found


def training_step(name: str, device: torch.device) -> Callable[[], None]:
    student = models.build(name).to(device)
    teacher_logits = torch.randn(64, 100, device=device)
    inputs, labels = torch.randn(64, 3, 32, 32, device=device), torch.arange(64, device=device)
    optimizer = DOT(student.parameters(), lr=1e-3)

    def step() -> None:
        logits = student(inputs)
        optimizer.backward(
            task=torch.nn.functional.cross_entropy(logits, labels), distill=kd_loss(logits, teacher_logits, 4.0)
        )
        optimizer.step()

    return step


def surface_cell(name: str, device: torch.device) -> Callable[[], None]:
    model = models.build(name).to(device)
    loader = [(torch.randn(250, 3, 32, 32, device=device), torch.arange(250, device=device) % 100)] * 4
    cross_entropy = torch.nn.CrossEntropyLoss(reduction="none")
    problem = ls.Problem.from_loss(model, {"ce": cross_entropy}, loader)
    plane = ls.directions.random(model, n=2, seed=0)
    walker = Walker(problem, plane, Reader(problem.batches, problem.device), None)

    def cell() -> None:
        walker.at((0.1, 0.2))

    return cell


def median_seconds(call: Callable[[], None], device: torch.device, small: bool) -> float:
    waits = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    wait = waits.get(device.type, lambda: None)
    taken = []
    for _ in range(3 if small or device.type == "cpu" else 20):
        started = time.perf_counter()
        call()
        wait()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])  # the first call chooses kernels


if __name__ == "__main__":
    sys.exit(main())
