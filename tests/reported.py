"""Run folders as a finished study leaves them, with numbers that a test chose and nothing trained."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dot import flatness, gallery, runs
from dot.config import StudyConfig, load_study, to_toml
from dot.findings import Findings, gather
from dot.flatness import Asked
from landscape import store
from landscape.conflict import from_gram
from landscape.conflict.result import Conflict
from landscape.results import DONE, Surface
from landscape.sharpness import Definition, Flatness, Measure

METHODS = ("ce", "kd-sgd", "kd-dot")
LAYERS = ("conv1", "conv2", "fc")
MEASURES = (
    Definition("width-0.1", "basin width at +0.1", "Width.", "a paper", "large", "filters"),
    Definition("trace", "Hessian trace", "Trace.", "a paper", "small", "none"),
)


def study(methods: Sequence[str] = METHODS, seeds: Sequence[int] = (0, 1, 2)) -> StudyConfig:
    """The digits study, with other methods and seeds."""
    return replace(load_study("digits"), methods=tuple(methods), seeds=tuple(seeds))


def accuracy(method: str, seed: int) -> float:
    """The test accuracy of a run after its last epoch: far higher for kd-dot, alike for the others."""
    return (
        0.9
        + 0.001 * seed**2
        + {"ce": 0.0, "kd-sgd": 0.0005 * (-1) ** seed, "kd-dot": 0.05 + 0.001 * (seed == 1)}[method]
    )


def folders(root: Path, config: StudyConfig) -> list[Path]:
    """The run folders of a study, its teacher's first, without what is measured on them."""
    jobs = [config.teacher_run()] + [config.student_run(m, s) for m in config.methods for s in config.seeds]
    for job in jobs:
        path = root / job.name
        path.mkdir(parents=True)
        (path / "config.toml").write_text(to_toml(job))
        (path / "model.safetensors").write_bytes(b"")
        made = {"created_at": "2026-01-02T03:04:05+00:00", "command": f"dot-landscape made {job.method}"}
        made |= {"versions": {"torch": "1.2.3"}, "machine": "a machine", "device": "cpu", "threads": 1}
        (path / "environment.json").write_text(json.dumps(made))
        lines = []
        for epoch in range(1, job.train.epochs + 1):
            far = 1 - epoch / job.train.epochs
            test = {"ce": 0.1 + 3 * far, "accuracy": accuracy(job.method, job.seed) - 0.8 * far}
            test |= {"kd": 1 + 9 * far + 0.1 * job.seed} if job.teacher else {}
            lines.append(json.dumps({"epoch": epoch, "test": test}))
        (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return [root / job.name for job in jobs]


def conflict(seed: int, records: int = 60) -> Conflict:
    """Of two gradients, with the same on a held-out batch."""
    vectors = np.random.default_rng(seed).normal(size=(records, len(LAYERS), 2, 4))
    of = [from_gram(("ce", "kd"), range(records), LAYERS, v @ v.swapaxes(-1, -2)) for v in (vectors, vectors + 0.5)]
    of[0].attrs = {"created_at": "2026-01-02T03:04:05+00:00"}
    return replace(of[0], groups={"heldout": of[1]})


def flat(method: str, seed: int) -> Flatness:
    """Two measures along 20 directions, of which five numbers are kept; CE is ten times as sharp by the trace."""
    rng = np.random.default_rng([METHODS.index(method), seed])
    scale = 10.0 if method == "ce" else 1.0
    measures = []
    for what, size in zip(MEASURES, (1.0, scale), strict=True):
        samples = size * np.exp(0.1 * rng.normal(size=5))
        value = float(samples.mean())
        measures.append(Measure(what, value, 0.9 * value, 1.1 * value, samples, "mean"))
    attrs = {"term": "ce", "split": "train", "gap": 0.1 + 0.01 * seed, "left_out": {}, "all": True, "settings": {}}
    asked = Asked(directions=20)
    return Flatness(
        tuple(measures),
        attrs | {"asked": flatness._way(asked), "checkpoint_sha256": "ab" * 32, "data_sha256": "cd" * 32},
    )


def measured(root: Path, config: StudyConfig) -> list[Path]:
    """Run folders of students with conflict and flatness in them."""
    paths = folders(root, config)[1:]
    for path in paths:
        run = runs.open_run(path)
        conflict(run.config.seed).save(run.conflict)
        flat(run.config.method, run.config.seed).save(flatness.kept_at(run, Asked(directions=20)))
    return paths


def surface(seed: int, *shape: int, drawn: int = 0) -> Surface:
    """A bowl with noise: a plane of ``[ny, nx]``, or a bundle of ``[n, nx]`` of lines, of 41 points or more.

    Its directions are of the seed ``drawn``.
    """
    x = np.linspace(-1, 1, shape[1])
    y = None if shape[1] >= 41 else np.linspace(-1, 1, shape[0])
    away = x[None] ** 2 + (0 if y is None else y[:, None] ** 2)
    values = np.exp(4 * away) * np.random.default_rng(seed).uniform(0.9, 1.1, shape)
    dims = ("direction", "x") if y is None else ("y", "x")
    attrs = {"kind": "random", "normalize": "filter", "ignore": "biasbn", "seed": drawn, "bn_mode": "eval"}
    attrs |= {"precision": "float32", "data_shard": "0/1", "split": "train", "n_examples": 898}
    attrs |= {"checkpoint_sha256": "ab" * 32, "data_sha256": "cd" * 32, "command": "dot-landscape reproduce digits"}
    attrs |= {"created_at": f"2026-02-0{len(shape[:1]) + (y is None)}T03:04:05+00:00"}
    terms = {"ce": values, "kd": 3 * values}
    origin = dict.fromkeys(terms, (1.0, 0.1))
    return Surface(x, y, dims, terms, {t: 0.1 * v for t, v in terms.items()}, np.full(shape, DONE), origin, attrs)


def found(paths: Sequence[Path], *, surfaces: bool = True) -> Findings:
    """What run folders hold, with planes and lines as large as the digits study's in them."""
    if surfaces:
        for path in paths:
            store.create_surface(path / "surface.h5", surface(7, 21, 21))
            seed = runs.open_run(path).config.seed
            store.create_surface(path / "lines.h5", surface(seed, 20, 41, drawn=seed))
    return gathered(paths)


def gathered(paths: Sequence[Path]) -> Findings:
    """What run folders hold."""
    return gather(gallery.by_method([runs.open_run(path) for path in paths]))


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of two or three values, from a table of its quantiles."""
    quantile = {2: 12.7062, 3: 4.30265}[len(values)]
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    half = quantile * spread / math.sqrt(len(values))
    return mean - half, mean + half
