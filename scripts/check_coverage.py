"""Whether the intervals of sampled cells hold what they say, on problems whose every loss is known.

    python scripts/check_coverage.py --repeats 1000 -o figures/performance/coverage.json
    python scripts/check_coverage.py --run studies/cifar10-small/runs/ce-resnet20-33d83f18 -o coverage-resnet.json

Each repeat draws another order of the examples and samples a few cells of every problem. Over all repeats the stated
95 % intervals must cover the mean over all examples in not significantly less than 95 % of the cells (one-sided
binomial test; cells whose examples were all evaluated are left out), and be at most 1.3 times as wide as 95 % coverage
asks: as the 0.95 quantile of the true errors, each in units of its half width. Exit status 1 where one of them fails.

With ``--run`` the problem is that of a trained network on its own training images: of a plane of 25 x 25 the anchors
and some other cells are evaluated on 5,000 of them first. ``--cost`` prints instead how many examples a cell needs at
1 %, by what its estimate rests on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from stamped import stamped

import landscape as ls
from dot import runs
from landscape.batches import Reader
from landscape.examples import keep
from landscape.fastpath import Shortcuts
from landscape.sampling import Goal, Sampler
from landscape.sampling.setup import Setup
from landscape.walker import Walker

CELLS = 4
"""Cells sampled in each repeat."""

WIDEST, LEVEL = 1.3, 0.95

FIRST = 10_000
"""Seed of the first repeat: the constants of the sampler were chosen on seeds below."""


class Problem(NamedTuple):
    """Every loss of every example at every cell, and what is asked of a sampler."""

    axes: tuple[np.ndarray, np.ndarray]
    losses: dict[str, np.ndarray]  # [cells, N], float32
    goal: Goal
    labels: np.ndarray | None = None

    @property
    def population(self) -> int:
        """N, the number of examples."""
        return next(iter(self.losses.values())).shape[1]

    def sampler(self, seed: int, cells: list[int] | None = None, goal: Goal | None = None, **options: Any) -> Sampler:
        """One that has been driven to its end, for some of the cells."""
        sampler = Sampler(
            self.axes, self.population, list(self.losses), goal or self.goal, seed=seed, labels=self.labels, **options
        )
        for request in sampler.requests(cells):
            sampler.give(request, {t: of[request.cell, request.examples] for t, of in self.losses.items()})
        return sampler


def plane(points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An axis, and the coordinates of all cells of the plane of it with itself."""
    axis = np.linspace(-1, 1, points)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return axis, x.ravel(), y.ravel()


def smooth() -> Problem:
    """Each example's loss is a paraboloid plus an exponential; 20,000 of them, so that the anchors are sampled too."""
    draw, (axis, x, y) = np.random.default_rng(1), plane(15)
    n = 20_000
    a, b, c = draw.gamma(2, 0.5, n), draw.normal(0, 0.4, n), draw.normal(0, 0.4, n)
    p, q = draw.normal(0, 1, n), draw.normal(0, 1, n)
    paraboloid = a * ((x[:, None] - b) ** 2 + (y[:, None] - c) ** 2 + 0.3 * np.sin(3 * x[:, None] * p) ** 2)
    losses = paraboloid + 0.3 * np.exp(x[:, None] * p + y[:, None] * q - 1)
    return Problem((axis, axis), {"loss": losses.astype(np.float32)}, Goal(0.01))


def heavy() -> Problem:
    """Losses whose scale is log-normal with sigma 2: of 4,000 examples, the 40 largest hold about half of the mean."""
    draw, (axis, x, y) = np.random.default_rng(2), plane(21)
    n = 4_000
    scale, b, c = draw.lognormal(-1, 2, n), draw.normal(0, 0.5, n), draw.normal(0, 0.5, n)
    p, q = draw.normal(0, 2, n), draw.normal(0, 2, n)
    shape = 0.2 + (x[:, None] - b) ** 2 + (y[:, None] - c) ** 2 + 0.1 * np.cos(x[:, None] * p + y[:, None] * q)
    return Problem((axis, axis), {"loss": (scale * shape).astype(np.float32)}, Goal(0.02))


def separable() -> Problem:
    """Logistic regression that tells its classes apart without a fault: nearly no loss at the minimum."""
    draw, (axis, x, y) = np.random.default_rng(3), plane(21)
    n, d = 3_000, 20
    inputs, truth = draw.normal(size=(n, d)), draw.normal(size=d)
    truth /= np.linalg.norm(truth)
    signs = np.sign(inputs @ truth)
    inputs += 0.4 * signs[:, None] * truth  # a gap between the classes
    weights = 12 * truth
    u, v = draw.normal(size=(2, d))
    u, v = (w / np.linalg.norm(w) * np.linalg.norm(weights) for w in (u, v))
    margins = signs * (inputs @ (weights[:, None] + np.outer(u, x) + np.outer(v, y))).T
    losses = {"loss": np.logaddexp(0, -margins), "error": (margins < 0).astype(float)}
    goal = Goal(0.01, {"loss": 1e-3, "error": 5e-3})
    return Problem((axis, axis), {name: of.astype(np.float32) for name, of in losses.items()}, goal)


def near_zero() -> Problem:
    """The same network trained until its loss is almost nothing: a relative error alone would ask for every example."""
    return digits(epochs=300)._replace(goal=Goal(0.01, {"loss": 1e-3, "error": 5e-3}))


def digits(points: int = 21, epochs: int = 10) -> Problem:
    """A network of one hidden layer on scikit-learn's digits, in a filter-normalised plane."""
    from sklearn.datasets import load_digits

    data = load_digits()
    inputs, targets = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(epochs):
        for batch in torch.randperm(len(targets)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(inputs[batch]), targets[batch]).backward()
            optimizer.step()
    first, bias, second, last = (p.detach() for p in net.parameters())

    def direction(weight: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(weight.shape)
        return drawn * (weight.norm(dim=1) / drawn.norm(dim=1))[:, None]

    (u1, v1), (u2, v2) = [(direction(w), direction(w)) for w in (first, second)]
    axis, xs, ys = plane(points)
    losses, errors = [], []
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        hidden = F.relu(F.linear(inputs, first + x * u1 + y * v1, bias))
        logits = F.linear(hidden, second + x * u2 + y * v2, last)
        losses.append(F.cross_entropy(logits, targets, reduction="none"))
        errors.append((logits.argmax(1) != targets).float())
    found = {"loss": torch.stack(losses).numpy(), "error": torch.stack(errors).numpy()}
    return Problem((axis, axis), found, Goal(0.01, {"loss": 0.0025, "error": 0.01}), data.target)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "smooth": smooth,
    "heavy-tailed": heavy,
    "separable": separable,
    "digits": digits,
    "near-zero": near_zero,
}


def of_run(run: str, points: int = 25, images: int = 5_000, others: int = 24) -> Problem:
    """A trained network on some of its training images; NaN at cells that no sampler of `check` asks for."""
    measured = runs.problem(run, "train", images=images)
    axis, xs, ys = plane(points)
    setup = Setup((axis, axis), images, ["loss"], Goal(0.01))
    cells = {setup.origin, *setup.pilots, *np.random.default_rng(0).choice(points**2, others, replace=False).tolist()}
    cells |= {cell for level in setup.levels for cell in setup.grid_of(level).ravel().tolist()}
    directions = ls.directions.random(measured.model, n=2, seed=0)
    batches = keep(Reader(measured.batches, measured.device), 1).batches
    walker = Walker(measured, directions, Reader(batches, measured.device, max_batch=64), None, Shortcuts(True, True))
    losses = np.full((points**2, images), np.nan, np.float32)
    for cell in sorted(cells):
        losses[cell] = walker.losses((xs[cell], ys[cell]), batches[0])["ce"].values
    return Problem((axis, axis), {"loss": losses}, Goal(0.01))


def check(name: str, problem: Problem, repeats: int) -> list[dict[str, Any]]:
    """A line of the table for each term."""
    start, n = time.perf_counter(), problem.population
    truth = {term: of.mean(1, dtype=np.float64) for term, of in problem.losses.items()}
    known = np.flatnonzero(np.isfinite(next(iter(truth.values()))))
    ratios: dict[str, list[float]] = {term: [] for term in truth}  # of true error to half width
    missed: dict[str, int] = dict.fromkeys(truth, 0)
    examples, full, cells_done, first, levels = 0, 0, 0, [], []
    for repeat in range(FIRST, FIRST + repeats):
        cells = np.random.default_rng([repeat, 7]).choice(known, CELLS, replace=False).tolist()
        sampler = problem.sampler(repeat, cells)
        step = sampler.first_phase.step
        first.append(step.first)
        levels.append(step.level)
        shared = set(sampler.setup.grid_of(step.level).ravel().tolist()) if step.level else set()
        for cell in cells:
            if sampler.samples.count(cell) == n:
                full += cell not in shared and cell != sampler.setup.origin
                continue
            if cell not in shared:
                examples, cells_done = examples + sampler.samples.count(cell), cells_done + 1
            for term, estimate in sampler.estimate(cell).items():
                error = abs(estimate.mean - truth[term][cell])
                ratios[term].append(error / estimate.half if estimate.half else 0.0 if error < 1e-6 else np.inf)
                missed[term] += sampler.estimate(cell)[term].sem > problem.goal.of(term, estimate.mean) * (1 + 1e-9)
    found = []
    for term, of_term in ratios.items():
        trials, covered = len(of_term), int((np.array(of_term) <= 1).sum())
        chance = float(stats.binom.cdf(covered, trials, LEVEL)) if trials else 1.0
        width = 1 / max(float(np.quantile(of_term, LEVEL)), 1e-9) if trials else float("nan")
        good = chance >= 0.05 and not width > WIDEST and not missed[term]
        share = (examples + full * n) / max(cells_done + full, 1) / n
        print(
            f"{name:13} {term:6} {trials:6} {covered / max(trials, 1):8.2%} {chance:8.3f} {width:6.2f} "
            f"{np.median(levels):7.0f} {np.median(first):8.0f} {examples / max(cells_done, 1):9.0f} {full:5} "
            f"{share:7.1%}  {'holds' if good else 'FAILS'}  {time.perf_counter() - start:.0f} s",
            flush=True,
        )
        found.append(
            {
                "problem": name,
                "term": term,
                "cells": trials,
                "covered": covered / max(trials, 1),
                "p": chance,
                "width": width,
                "share of all examples": share,
                "holds": bool(good),
            }
        )
    return found


def cost(name: str, problem: Problem) -> None:
    """Mean examples a cell for 1 %: plain and origin regression from the true variances, anchors as sampled."""
    term = next(iter(problem.losses))
    losses, n = problem.losses[term].astype(np.float64), problem.population
    only = problem._replace(losses={term: problem.losses[term]})
    setup = only.sampler(0, [], anchors=0).setup
    start, goals = losses[setup.origin], (0.01 * losses.mean(1)) ** 2
    variance = losses.var(1, ddof=1)
    slopes = (losses @ (start - start.mean())) / (n - 1) / start.var(ddof=1)
    rest = variance - slopes**2 * start.var(ddof=1)
    plain, origin = (float(np.mean(n / (1 + n * goals / v))) for v in (variance, np.maximum(rest, 1e-30)))
    line = f"{name:13} {n:7} {plain:9.0f} {origin:9.0f}"
    for anchors in (5, 7):
        sampler = only.sampler(0, anchors=anchors, goal=Goal(0.01))
        outside = np.setdiff1d(np.arange(setup.cells), [*sampler.setup.grid_of(anchors).ravel(), setup.origin])
        counts = sampler.examples().ravel()
        line += f" {counts[outside].mean():9.0f} ({sampler.evaluated / setup.cells / n:.1%})"
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--run", help="instead: the run folder of a trained network")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("-o", "--output", type=Path, help="write the table as JSON")
    options = parser.parse_args()
    if options.cost:
        print("mean examples a cell for 1 %: anchors' own cells left out, in brackets everything as a share of all")
        print(f"{'problem':13} {'N':>7} {'plain':>9} {'origin':>9} {'5x5':>9} {'':>7} {'7x7':>9}")
        for name in options.problems:
            cost(name, PROBLEMS[name]())
        return 0
    print(
        f"{'problem':13} {'term':6} {'cells':>6} {'covered':>8} {'p':>8} {'width':>6} {'anchors':>7} {'n1':>8} "
        f"{'examples':>9} {'full':>5} {'of all':>7}"
    )
    makers = {"trained": lambda: of_run(options.run)} if options.run else {n: PROBLEMS[n] for n in options.problems}
    rows = [row for name, make in makers.items() for row in check(name, make(), options.repeats)]
    if options.output:
        found = stamped(torch.device("cpu"), {"repeats": options.repeats, "rows": rows})
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(row["holds"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
