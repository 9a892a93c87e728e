"""What curvature costs: a product with the Hessian beside a gradient, and whole measurements beside other tools.

    python scripts/bench_hessian.py -o figures/performance/bench-hessian-cpu.json
    python scripts/bench_hessian.py --device cuda -o figures/performance/bench-hessian-gpu.json

On ResNet-20, trained for some epochs on scikit-learn's digits at 32 x 32, so that its spectrum is that of a trained
network; the Hessian is of the cross-entropy of --images of them in one batch. First a plain gradient, a single product
and one of --together that share a graph, alternating in rounds: medians of the ratios of each round, on the CPU those
of processor time too. Then, in the same run, the largest 5 eigenvalues at a tolerance of 1e-3, the trace to 2 % and the
spectral density by each tool (`peers_hessian.py` says how to install them): products, seconds, and how far the result
is from a reference of ours that is tighter by far, in units of what was asked for, so that stopping early is seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from bench_conflict import Took, seconds
from peers_hessian import Result, Tool, Work, installed
from stamped import stamped
from torch import Tensor, nn

import landscape as ls
from dot import data, models
from landscape.derivatives import Derivatives
from landscape.hessian.means import mean_of
from landscape.hessian.probes import rademacher
from landscape.results import Array

GOALS = {"alone": 2.5, "together": 1.7}
"""Of the time of a product over that of a gradient."""

K, TOLERANCE, REL_ERROR = 5, 1e-3, 0.02


def digits(device: torch.device, size: int) -> tuple[Tensor, Tensor]:
    """The training digits at another size, in three channels."""
    train = data.load("digits", device).train
    images = F.interpolate(train.images.float(), size=(size, size), mode="bilinear")
    images = (images - images.mean()) / images.std()
    return images.expand(-1, 3, -1, -1).contiguous(), train.labels


def trained(name: str, images: Tensor, labels: Tensor, epochs: int) -> tuple[nn.Module, float]:
    """A network after some epochs of SGD, and its accuracy on what it was trained on."""
    model = models.build(name, num_classes=10).to(images.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), device=images.device).split(64):
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        pairs = zip(images.split(256), labels.split(256), strict=True)
        right = sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs)
    return model, right / len(labels)


def costs(problem: ls.Problem, rounds: int, together: int) -> dict[str, Any]:
    """A product, alone and of several, over a gradient."""
    device = problem.device
    matrix = Derivatives(problem)
    vectors = torch.randn(together, matrix.size, dtype=torch.float64, device=matrix.device)
    parameters = list(problem.model.parameters())

    def gradient() -> None:
        for batch in problem.iterate():
            torch.autograd.grad(problem.objective(problem.model, batch)["ce"].mean(), parameters)

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "gradient": (gradient, 1),
        "alone": (lambda: matrix.multiply(vectors[:1]), 1),
        "together": (lambda: matrix.multiply(vectors), together),
    }
    times: dict[str, list[Took]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, (work, products) in ways.items():
            took = seconds(work, device)
            if number:  # the first round warms up
                times[way].append(Took(took.wall / products, took.processor / products))
    found: dict[str, Any] = {"seconds": {w: statistics.median(t.wall for t in of) for w, of in times.items()}}
    for way, goal in GOALS.items():
        pairs = list(zip(times[way], times["gradient"], strict=True))
        ratios = [mine.wall / theirs.wall for mine, theirs in pairs]
        found[way] = {"ratio": statistics.median(ratios), "ratios": ratios, "goal": goal}
        if device.type == "cpu":
            found[way]["ratio_of_processor_time"] = statistics.median(m.processor / t.processor for m, t in pairs)
    return found | {"products_together": together}


def ours(problem: ls.Problem) -> Tool:
    """What a user calls."""

    def eigenvalues(work: Work) -> Result:
        found = ls.hessian.eigenpairs(problem, k=work.k, tolerance=work.tolerance)
        return Result(found.products, [float(value) for value in found.values])

    def trace(work: Work) -> Result:
        found = ls.hessian.trace(problem, rel_error=work.rel_error)
        return Result(found.products, [found.value], found.sem)

    def plus(work: Work) -> Result:
        found = ls.hessian.trace(problem, rel_error=work.rel_error, method="hutch++")
        return Result(found.products, [found.value], found.sem)

    def density(work: Work) -> Result:
        found = ls.hessian.density(problem, probes=work.probes, steps=work.steps)
        moment = found.moment(2)
        return Result(found.products, [moment.value], moment.sem)

    return {"eigenvalues": eigenvalues, "trace": trace, "trace, hutch++": plus, "density": density}


class Reference(NamedTuple):
    """Of ours, far tighter than what is asked of the tools: values, and their own relative error."""

    values: dict[str, list[float]]
    errors: dict[str, float]


def reference(problem: ls.Problem, rel_error: float) -> Reference:
    """The eigenvalues to their residuals, the trace by Hutch++, the second moment by probes beside the eigenvectors."""
    pairs = ls.hessian.eigenpairs(problem, k=K, tolerance=TOLERANCE / 100)
    trace = ls.hessian.trace(problem, rel_error=rel_error, method="hutch++", seed=1, max_products=400)
    squares = mean_of(beside(problem, pairs, 24))
    values = {
        "eigenvalues": [float(value) for value in pairs.values],
        "trace": [trace.value],
        "density": [squares.value / sum(p.numel() for p in problem.model.parameters())],
    }
    of_pairs = float((pairs.residuals / abs(pairs.values)).max())
    found = {"eigenvalues": of_pairs, "trace": trace.rel_error, "density": squares.sem / squares.value}
    for name, error in found.items():
        print(f"reference of {name}: {values[name]}, known to {error:.1e}", file=sys.stderr)
    return Reference(values, found)


def beside(problem: ls.Problem, pairs: ls.hessian.Eigenpairs, count: int) -> Array:
    """The squared Frobenius norm as each probe tells it that does not have to tell the eigenpairs' part of it."""
    matrix = Derivatives(problem)
    probes = rademacher(matrix, 1, range(count))
    vectors = torch.stack([matrix.join(vector) for vector in pairs.vectors])
    known = torch.as_tensor(pairs.values).to(vectors).square()
    along = ((probes @ vectors.T).square() * known).sum(1)
    return (matrix.multiply(probes).square().sum(1) - along + known.sum()).cpu().numpy()


def compared(tools: dict[str, Tool], work: Work, truth: Reference, device: torch.device) -> list[dict[str, Any]]:
    """Each measurement by each tool: ours first, whose trace says how many products others may take."""
    rows = []
    for what in ("eigenvalues", "trace", "trace, hutch++", "density"):
        for name, tool in tools.items():
            if what not in tool:
                continue
            torch.manual_seed(0)
            start = time.perf_counter()
            found = tool[what](work)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            took = time.perf_counter() - start
            if what == "trace" and name == "ours":
                work = work._replace(trace_products=found.products)
            of = what.split(",")[0]
            off = max(abs(v / t - 1) for v, t in zip(found.values, truth.values[of], strict=True))
            rows.append({"what": what, "tool": name, "seconds": took, "off": off} | found._asdict())
            said = "" if found.error is None else f", standard error {abs(found.error / found.values[0]):.2%}"
            print(f"{what}, {name}: {found.products} products, {took:.1f} s; {off:.2%} off{said}", file=sys.stderr)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--probes", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--reference", type=float, help="relative error of the trace's reference", default=0.005)
    parser.add_argument("--small", action="store_true", help="a small network, untrained: to see it run")
    parser.add_argument("-o", "--output", type=Path)
    use = parser.parse_args()
    if use.small:
        use.epochs, use.images, use.rounds, use.together, use.probes, use.steps, use.reference = 0, 8, 1, 2, 2, 4, 0.3
    device = torch.device(use.device)
    network, size, rel_error = ("resnet8", 8, 0.3) if use.small else ("resnet20", 32, REL_ERROR)
    torch.manual_seed(0)
    images, labels = digits(device, size)
    model, accuracy = trained(network, images, labels, use.epochs)
    images, labels = images[: use.images], labels[: use.images]
    problem = ls.Problem.from_loss(
        model, {"ce": lambda out, y: F.cross_entropy(out, y, reduction="none")}, [(images, labels)], split="train"
    )
    cost = costs(problem, use.rounds, use.together)
    for way, goal in GOALS.items():
        found = cost[way]
        on_cpu = f" ({found['ratio_of_processor_time']:.2f} of processor time)" if device.type == "cpu" else ""
        print(f"a product {way}: {found['ratio']:.2f} gradients{on_cpu}, goal {goal}", file=sys.stderr)
    truth = reference(problem, use.reference)
    work = Work(model, images, labels, K, TOLERANCE, rel_error, use.probes, use.steps, 0)
    peers = installed() if device.type == "cpu" else {}
    rows = compared({"ours": ours(problem)} | peers, work, truth, device)
    results = {
        "network": {"name": network, "accuracy": accuracy, "epochs": use.epochs, "images": use.images},
        "asked": {"k": K, "tolerance": TOLERANCE, "rel_error": rel_error, "probes": use.probes, "steps": use.steps},
        "product": cost,
        "reference": truth._asdict(),
        "tools": rows,
    }
    text = json.dumps(stamped(device, {"results": results}), indent=2)
    if use.output is not None:
        use.output.write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
