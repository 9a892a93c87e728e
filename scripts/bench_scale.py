"""How the time and the memory of a surface grow: with cells, examples, parameters, and worker processes.

`bench_surface.py --scale` runs it. Each point is a process of its own, whose peak memory is measured; one thread.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import landscape as ls
from dot import models

HERE = Path(__file__).resolve().parent
BASE = {"model": "resnet8", "examples": 256, "cells": 41}
SWEEPS: dict[str, list[Any]] = {
    "cells": [11, 41, 161, 641],
    "examples": [64, 256, 1024, 4096],
    "model": ["resnet8", "resnet20", "resnet56", "resnet110"],
}
QUICK: dict[str, list[Any]] = {"cells": [3, 5], "examples": [8, 16], "model": ["resnet8"]}
WORKERS = (1, 2)
PLANE = 15


def problem(model: str = "resnet8", examples: int = 1024) -> ls.Problem:
    torch.manual_seed(0)
    network = models.build(model, num_classes=10)
    x, y = torch.randn(examples, 3, 32, 32), torch.randint(0, 10, (examples,))

    def objective(m: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        return {"ce": F.cross_entropy(m(batch[0]), batch[1], reduction="none")}

    return ls.Problem(network, objective, list(zip(x.split(256), y.split(256), strict=True)))


def one(model: str, examples: int, cells: int) -> dict[str, float]:
    """Seconds and peak megabytes of a line, in this process."""
    torch.set_num_threads(1)
    measured = problem(model, examples)
    line = ls.directions.random(measured.model, n=1, seed=0)
    start = time.perf_counter()
    ls.evaluate(measured, line, ls.Grid1D((-1, 1, cells)))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak, "parameters": sum(p.numel() for p in measured.model.parameters())}


def measure(quick: bool) -> dict[str, list[dict[str, float]]]:
    """All sweeps, point by point."""
    found: dict[str, list[dict[str, float]]] = {}
    for name, values in (QUICK if quick else SWEEPS).items():
        found[name] = []
        for value in values:
            asked = BASE | ({"cells": 3} if quick else {}) | {name: value}
            point = json.loads(_call([sys.executable, __file__, json.dumps(asked)]))
            found[name].append(asked | point)
            print(name, value, point, file=sys.stderr)
    found["workers"] = [{"workers": k, "seconds": _with_workers(k, 3 if quick else PLANE)} for k in WORKERS]
    return found


def _with_workers(workers: int, points: int) -> float:
    """Seconds of a plane by processes of one thread each, their starts and the merge included."""
    axis = ["-1", "1", str(points)]
    with tempfile.TemporaryDirectory() as folder:
        asked = ["surface", "--problem", "bench_scale:problem", "--x", *axis, "--y", *axis]
        start = time.perf_counter()
        _call([sys.executable, "-m", "dot", *asked, "--workers", str(workers), "-o", f"{folder}/s.h5"])
        return time.perf_counter() - start


def _call(command: list[str]) -> str:
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environ = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.run(command, cwd=HERE, env=environ, check=True, capture_output=True, text=True).stdout


def slope(x: list[float], seconds: list[float]) -> float:
    """Of the logarithms, over the two largest points: 1 is linear."""
    return float(np.diff(np.log(seconds[-2:]))[0] / np.diff(np.log(x[-2:]))[0]) if len(x) > 1 else float("nan")


def draw(results: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Time above, memory below; the dashed line is linear."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(2, 4)
    for column, (name, key) in enumerate((("cells", "cells"), ("examples", "examples"), ("model", "parameters"))):
        points = results[name]
        x, seconds = [p[key] for p in points], [p["seconds"] for p in points]
        top, bottom = axes[0, column], axes[1, column]
        top.loglog(x, seconds, "o-", color="#0072b2", label=f"slope at the end {slope(x, seconds):.2f}")
        top.loglog(x, [seconds[-1] * v / x[-1] for v in x], "--", color="#777777", label="linear")
        top.set_ylabel("seconds")
        top.legend(fontsize=9)
        bottom.semilogx(x, [p["peak_mb"] for p in points], "s-", color="#d55e00")
        bottom.set_ylim(0)
        bottom.set_ylabel("peak memory, MB")
        bottom.set_xlabel(key)
    top = axes[0, 3]
    top.bar(
        [str(p["workers"]) for p in results["workers"]], [p["seconds"] for p in results["workers"]], color="#0072b2"
    )
    top.set_ylabel("seconds")
    top.set_xlabel("workers (with their starts)")
    axes[1, 3].axis("off")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    print(json.dumps(one(**json.loads(sys.argv[1]))))
