"""What a cell of a surface costs, beside the bare forward loop, a twin folded by hand, and the public tools.

    python scripts/bench_surface.py -o figures/performance/bench-surface-cpu.json
    python scripts/bench_surface.py --device cuda -o figures/performance/bench-surface-gpu.json
    python scripts/bench_surface.py --scale

The bare loop calls the objective on each batch, eager, in float32, and sums its terms; nothing is moved. All ways
alternate in rounds, and the medians of their ratios to the bare loop of the same round are printed: these machines are
noisy. The time of a cell is that of a line with many cells less that of one with few, so that the start (reading the
data, choosing a path and comparing it with the plain one) is left out; a surface of 11 x 11 is timed with it.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import bench_scale
import numpy as np
import torch
import torch.nn.functional as F
from bench_networks import GPT, PEAKS, flops, mlp, resnet20
from bench_peers import installed
from stamped import ROOT, stamped
from torch import nn

import landscape as ls

FEW = 3
BARE_ON_GPU = 128


class Case(NamedTuple):
    """Something to measure.

    Attributes:
        model: Makes it.
        examples: Makes the inputs and targets of so many.
        count: How many.
        batch: Of the bare loop.
        objective: Of both.
        goals: Ratios to the bare loop that are aimed at, by way; "fp32" of ResNet-20 is one to the twin.
    """

    model: Callable[[], nn.Module]
    examples: Callable[[int], tuple[torch.Tensor, torch.Tensor]]
    count: int
    batch: int
    objective: Callable[[nn.Module, Any], dict[str, Any]]
    goals: dict[str, float]


def classes(model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
    logits = model(batch[0])
    return {
        "ce": F.cross_entropy(logits, batch[1], reduction="none"),
        "error": (logits.argmax(1) != batch[1]).float(),
    }


def tokens(model: nn.Module, batch: Any) -> dict[str, Any]:
    losses = F.cross_entropy(model(batch[0]).transpose(1, 2), batch[1], reduction="none")
    return {"ce": ls.PerToken(losses, batch[1] >= 0)}


def pictures(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 3, 32, 32), torch.randint(0, 10, (n,))


def vectors(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 784), torch.randint(0, 10, (n,))


def sentences(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 1000, (n, 129))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


CASES = {
    "ResNet-20, 1000 images": Case(resnet20, pictures, 1000, 250, classes, {"fp32": 1.10, "bf16": 0.32}),
    "GPT-2-like, 256 x 128 tokens": Case(GPT, sentences, 256, 64, tokens, {"fp32": 0.80, "bf16": 0.40}),
    "MLP, 10,000 vectors": Case(mlp, vectors, 10_000, 250, classes, {"fp32": 1.0}),
}


class Bench:
    """One case on one device."""

    def __init__(self, case: Case, device: torch.device, count: int, cells: int) -> None:
        torch.manual_seed(0)
        self.case, self.device, self.cells = case, device, cells
        data = case.examples(count)
        self.model = case.model()
        with torch.no_grad():
            for x in data[0].split(case.batch)[:4]:
                self.model.train()(x)  # running statistics of its own data
        self.model.eval().to(device)
        self.data = tuple(part.to(device) for part in data)
        size = BARE_ON_GPU if device.type == "cuda" else case.batch
        self.batches = list(zip(*(part.split(size) for part in self.data), strict=True))
        self.problem = ls.Problem(self.model, case.objective, self.batches)
        self.line = ls.directions.random(self.model, n=1, seed=0)

    def bare(self, model: nn.Module | None = None, batches: Any = None) -> float:
        """Seconds of one pass."""
        return self.timed(lambda: self._pass(model or self.model, batches or self.batches))

    @torch.no_grad()
    def _pass(self, model: nn.Module, batches: Any) -> None:
        sums: dict[str, Any] = {}
        for batch in batches:
            for name, term in self.case.objective(model, batch).items():
                values = term.values if isinstance(term, ls.PerToken) else term
                sums[name] = sums.get(name, 0.0) + values.double().sum()
        for total in sums.values():
            float(total)

    def cell(self, **options: Any) -> float:
        """Seconds of one more cell of ours."""
        few, many = (
            self.timed(lambda n=n: ls.evaluate(self.problem, self.line, ls.Grid1D((-1, 1, n)), **options))
            for n in (FEW, FEW + 2 * self.cells)
        )
        return (many - few) / (2 * self.cells)

    def timed(self, work: Callable[[], Any]) -> float:
        """Seconds, once the device has done it."""
        self._wait()
        start = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def twins(self) -> Callable[[], float]:
        """A pass of a twin whose norms are folded by hand, channels last, at the quickest of some batch sizes."""
        twin = folded_by_hand(self.model).to(memory_format=torch.channels_last)
        data = (self.data[0].contiguous(memory_format=torch.channels_last), self.data[1])
        cut = {n: list(zip(*(part.split(n) for part in data), strict=True)) for n in (25, 50, 100, 250)}
        times = {n: min(self.bare(twin, batches) for _ in range(3)) for n, batches in cut.items()}
        best = min(times, key=lambda n: times[n])
        return lambda: self.bare(twin, cut[best])

    def first_convolution(self) -> float:
        """Three stored outputs of the first convolution combined for a cell, against computing it anew, as a ratio."""
        layer, x = next(m for m in self.model.modules() if isinstance(m, nn.Conv2d)), self.data[0][:50]
        with torch.no_grad():
            parts = [layer(x) for _ in range(3)]
            ways = (lambda: layer(x), lambda: parts[0] + 0.3 * parts[1] + 0.2 * parts[2])
            anew, combined = (statistics.median(self.timed(way) for _ in range(50)) for way in ways)
        return combined / anew


def folded_by_hand(model: nn.Module) -> nn.Module:
    """A copy of a ResNet without its norms: each is the one behind the convolution before it, in the order of names."""
    twin = copy.deepcopy(model)
    layers = dict(twin.named_modules())
    convolution: nn.Conv2d | None = None
    for name, module in list(layers.items()):
        if isinstance(module, nn.Conv2d):
            convolution = module
        elif isinstance(module, nn.BatchNorm2d) and convolution is not None:
            gain = module.weight / (module.running_var + module.eps).sqrt()
            convolution.weight.data *= gain.data[:, None, None, None]
            convolution.bias = nn.Parameter((module.bias - gain * module.running_mean).detach())
            owner, _, attribute = name.rpartition(".")
            setattr(layers[owner], attribute, nn.Identity())
            convolution = None
    return twin


def measure(name: str, device: torch.device, repeats: int, quick: bool) -> dict[str, Any]:
    case = CASES[name]
    bench = Bench(case, device, 40 if quick else case.count, 1 if quick else 4)
    ways: dict[str, Callable[[], float]] = {
        "plain": lambda: bench.cell(plain=True),
        "fp32": bench.cell,
        "bf16": lambda: bench.cell(precision="bf16"),
    }
    with_norms = any(isinstance(m, nn.BatchNorm2d) for m in bench.model.modules())
    if with_norms and device.type == "cpu":
        check_twin(bench)
        ways["folded by hand"] = bench.twins()
    if with_norms:
        ways |= {peer: peers(bench) for peer, peers in installed().items()}
    bench.bare()
    rounds = []
    for _ in range(repeats):
        base = bench.bare()
        rounds.append({way: seconds() / base for way, seconds in ways.items()} | {"seconds": base})
    ratios = {way: statistics.median(of[way] for of in rounds) for way in rounds[0]}
    base = ratios.pop("seconds")
    found = {"bare_seconds": base, "ratios": ratios, "rounds": rounds, "goals": case.goals, "errors": errors(bench)}
    found["with_start"] = whole(bench, base, 3 if quick else 11)
    if with_norms:
        found["first_convolution_shared"] = bench.first_convolution()
    return found


def check_twin(bench: Bench) -> None:
    """Stop where the twin is not one."""
    with torch.no_grad():
        a, b = (m(bench.data[0][:20]) for m in (bench.model, folded_by_hand(bench.model)))
    if not torch.allclose(a, b, rtol=1e-3, atol=1e-4):
        raise SystemExit("the twin that is folded by hand computes something else")


def errors(bench: Bench) -> dict[str, float]:
    """Largest relative error of the loss over a small plane, against the plain path."""
    plane, grid = ls.directions.random(bench.model, n=2, seed=0), ls.Grid2D((-1, 1, 3), (-1, 1, 3))
    plain = ls.evaluate(bench.problem, plane, grid, plain=True).values("ce")
    found = {
        "fp32": ls.evaluate(bench.problem, plane, grid),
        "bf16": ls.evaluate(bench.problem, plane, grid, precision="bf16"),
    }
    return {way: float(np.abs(surface.values("ce") / plain - 1).max()) for way, surface in found.items()}


def whole(bench: Bench, base: float, points: int) -> dict[str, float]:
    """A plane with its start, as a ratio to the bare loop at each cell."""
    plane, grid = ls.directions.random(bench.model, n=2, seed=0), ls.Grid2D((-1, 1, points), (-1, 1, points))
    times = {
        way: bench.timed(lambda options=options: ls.evaluate(bench.problem, plane, grid, **options))
        for way, options in (("fp32", {}), ("bf16", {"precision": "bf16"}))
    }
    return {"points": points} | {way: seconds / (base * points**2) for way, seconds in times.items()}


def gpu(device: torch.device, images: int = 50_000, points: int = 51) -> dict[str, Any]:
    """ResNet-20 on CIFAR-shaped images: seconds a cell, the surface extrapolated, and the share of the peak."""
    bench = Bench(CASES["ResNet-20, 1000 images"], device, images, 4)
    bench.bare()
    base = statistics.median(bench.bare() for _ in range(3))
    seconds = {"fp32": bench.cell(), "bf16": bench.cell(precision="bf16")}
    work = images * flops(bench.model, bench.data[0][:1])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    peak = next((of for kind, of in PEAKS.items() if kind in name), None)
    return {
        "images": images,
        "points": points,
        "bare_batch": len(bench.batches[0][0]),
        "bare_seconds": base,
        "seconds": seconds,
        "speedup": {way: base / s for way, s in seconds.items()},
        "surface_seconds": {way: s * points**2 for way, s in seconds.items()},
        "flops_per_second": {way: work / s for way, s in seconds.items()},
        "share_of_bf16_peak": None if peak is None else work / seconds["bf16"] / peak,
        "goal": "speedup of 20",
    }


def show(name: str, found: dict[str, Any]) -> None:
    print(f"{name}: bare loop {found['bare_seconds']:.3f} s a pass", file=sys.stderr)
    for way, ratio in found["ratios"].items():
        spread = [of[way] for of in found["rounds"]]
        print(f"  {way:16} {ratio:.2f}  ({min(spread):.2f} to {max(spread):.2f})", file=sys.stderr)
    print(f"  errors {found['errors']}, with its start {found['with_start']}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see whether it runs")
    parser.add_argument(
        "--scale", action="store_true", help="how time grows: figures/performance/bench-surface-scale.{png,json}"
    )
    parser.add_argument("-o", "--output", type=Path, help="write the result as JSON")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.scale:
        results = bench_scale.measure(options.quick)
        output = options.output or ROOT / "figures" / "performance" / "bench-surface-scale.json"
        output.parent.mkdir(parents=True, exist_ok=True)
        bench_scale.draw(results, output.with_suffix(".png"))
    elif device.type == "cuda":
        output, results = options.output, {"gpu": gpu(device, 500 if options.quick else 50_000)}
    else:
        output, results = options.output, {}
        for name in CASES:
            results[name] = measure(name, device, options.repeats, options.quick)
            show(name, results[name])
    text = json.dumps(stamped(device, {"results": results}), indent=2) + "\n"
    print(text, end="")
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
