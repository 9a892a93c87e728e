"""What the loop of `landscape.evaluate` costs beyond evaluating the same objective on the same batches.

    python scripts/bench_surface.py

Two networks, of about 2 ms and 0.1 s for a pass over their data. A bare pass calls the objective on each batch and sums
its terms; passes of both kinds alternate in small groups, and the medians' ratio is printed: these machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import landscape as ls
from landscape.provenance import machine, versions


def objective(model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
    inputs, labels = batch
    logits = model(inputs)
    return {
        "ce": F.cross_entropy(logits, labels, reduction="none"),
        "correct": (logits.argmax(1) == labels).float(),
    }


def convnet(width: int) -> nn.Module:
    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(3, width, 1),
        *block(width, 2 * width, 2),
        *block(2 * width, 4 * width, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    ).eval()


CASES = {
    "2 ms": (lambda: convnet(4), 64, 2),
    "0.1 s": (lambda: convnet(24), 250, 2),
}
"""Network, examples in a batch, batches."""


def bare(model: nn.Module, batches: list[Any]) -> None:
    sums = {"ce": 0.0, "correct": 0.0}
    with torch.no_grad():
        for batch in batches:
            for name, term in objective(model, batch).items():
                sums[name] = sums[name] + term.double().sum()
        for total in sums.values():
            float(total)


def seconds(work: Callable[[], Any], passes: int) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / passes


def measure(case: str, device: torch.device, rounds: int, folder: Path) -> dict[str, Any]:
    make, size, count = CASES[case]
    torch.manual_seed(0)
    model = make().to(device)
    batches = [
        (torch.randn(size, 3, 32, 32, device=device), torch.randint(0, 10, (size,), device=device))
        for _ in range(count)
    ]
    problem = ls.Problem(model, objective, batches)
    directions = ls.directions.random(model, n=2, seed=0)
    cells = 15 if case == "2 ms" else 5
    grid = ls.Grid2D((-1, 1, cells), (-1, 1, cells))
    fixed = ls.Grid2D((-1, 1, 3), (-1, 1, 3))
    ours, plain = [], []
    extra = cells**2 - 9
    for i in range(rounds):
        # The passes at the origin and the file are the same for both grids: what differs is cells alone.
        whole = seconds(lambda i=i: ls.evaluate(problem, directions, grid, out=folder / f"{case}-{i}.h5"), 1)
        start = seconds(lambda i=i: ls.evaluate(problem, directions, fixed, out=folder / f"{case}-{i}-few.h5"), 1)
        ours.append((whole - start) / extra)
        plain.append(seconds(lambda: [bare(model, batches) for _ in range(extra)], extra))
    ratios = [a / b for a, b in zip(ours, plain, strict=True)]
    return {
        "case": case,
        "bare_ms": 1e3 * statistics.median(plain),
        "cell_ms": 1e3 * statistics.median(ours),
        "overhead": statistics.median(ratios) - 1,
        "overhead_of_rounds": [ratio - 1 for ratio in ratios],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        found = [measure(case, device, options.rounds, Path(folder)) for case in CASES]
    for result in found:
        print(
            f"{result['case']}: bare pass {result['bare_ms']:.2f} ms, cell {result['cell_ms']:.2f} ms, "
            f"overhead {100 * result['overhead']:+.1f} %",
            file=sys.stderr,
        )
    stamp = {"machine": machine(device), "versions": versions(), "threads": torch.get_num_threads()}
    print(json.dumps(stamp | {"results": found}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
