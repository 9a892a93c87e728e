"""A whole study: teacher, students of each method and seed, surfaces, flatness, conflict, figures and a report.

Every part is kept as it is finished and never done twice, so that an interrupted study goes on where it was.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import landscape as ls
from dot import flatness, gallery, outcome, reporting, runs
from dot.config import METHODS, Measuring, StudyConfig, digest, load_study, to_toml
from dot.findings import Findings, gather
from dot.flatness import asked
from dot.outcome import Outcome, Student
from dot.runs import Run
from dot.world import ALONE, World
from landscape import parallel, report, store
from landscape.files import write_whole
from landscape.isolation import thread_count
from landscape.parts import Part
from landscape.provenance import command_line, machine, versions

log = logging.getLogger(__name__)


def reproduce(
    config: StudyConfig,
    folder: Path,
    device: torch.device,
    world: World = ALONE,
    checkpoint: Path | None = None,
) -> Outcome:
    """Run a study, or what is left of it, in a folder; a finished one is returned as it is.

    Args:
        config: Of the study.
        folder: Gets ``study.toml``, ``runs/``, ``figures/``, ``report.html`` and, last, ``study.json``.
        device: To train and measure on.
        world: The processes that train and measure together; all of them call this, and the first one writes.
        checkpoint: The teacher's weights, where the configuration says that it takes them from one.

    Raises:
        OSError: The folder cannot be written.
        ValueError: The folder, or a run folder in it, holds another configuration, or a flatness number is not known.
        Diverged: A loss is not finite.
        KeyboardInterrupt: It was asked to stop, and has saved where it was.
    """
    if (found := outcome.finished(folder, config)) is not None:
        return found
    flatness.check(asked(config.measure))
    if world.first:
        _claim(folder, config)
    world.wait()
    started = time.perf_counter()
    jobs = [config.student_run(method, seed) for method in config.methods for seed in config.seeds]
    steps = 2 + 2 * len(jobs)
    root = folder / "runs"
    _log(1, steps, "teacher")
    teacher = runs.teach(config, root, device, checkpoint, world)
    students = []
    for i, job in enumerate(jobs):
        name = f"{METHODS[job.method]}, seed {job.seed}"
        _log(2 + 2 * i, steps, f"train {name}")
        run = runs.train(job, root, device, label=name, world=world)
        _log(3 + 2 * i, steps, f"measure {name}")
        with thread_count(config.compute.threads):
            measure(run, config.measure, device, name, world)
        students.append(run)
    _log(steps, steps, "figures and report")
    findings = gather(gallery.by_method(students)) if world.first else None
    verdict = None if findings is None else findings.verdict
    found = Outcome(
        config_sha256=digest(config),
        command=command_line(),
        versions=versions(),
        machine=machine(device),
        seconds=0.0,
        report="report.html",
        teacher=_teacher_numbers(teacher),
        students=tuple(numbers(run) for run in students),
        flatness=() if verdict is None else tuple(map(tuple, flatness.brief(verdict))),
        verdict=() if verdict is None else (*verdict.sentences(), *verdict.notes),
    )
    if findings is None:
        return found
    _report(config, findings, found, folder)
    found = replace(found, seconds=round(time.perf_counter() - started, 1))
    write_whole(folder / "study.json", found.to_json().encode())
    return found


def _claim(folder: Path, config: StudyConfig) -> None:
    """Keep the study's configuration in its folder; refused where another study has begun."""
    settings = folder / "study.toml"
    if settings.exists():
        if digest(load_study(str(settings))) != digest(config):
            raise outcome.another_study(folder, config)
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder} cannot be made: {error.strerror}. Give another folder.") from error
    write_whole(settings, to_toml(config).encode())


def measure(
    run: Run,
    use: Measuring,
    device: torch.device,
    label: str,
    world: World = ALONE,
) -> None:
    """Surfaces of a trained student on its training images, a plane and a bundle of lines, and its flatness.

    Both are random and filter-normalised. The plane of all students comes from one seed; lines are shared by the
    students of a seed, see `dot.flatness.measured`.
    """
    problem = runs.problem(run.path, "train", device, use.images, use.seed)
    plane = ls.directions.random(problem.model, n=2, seed=use.seed)
    axis = (-use.plane_extent, use.plane_extent, use.plane_points)
    _surface(problem, plane, ls.Grid2D(axis, axis), run.path / "surface.h5", f"surface of {label}", world)
    bundle, line = flatness.lines(problem, run, asked(use))
    lines = run.path / "lines.h5"
    if world.first and lines.exists() and store.load_surface(lines).attrs["seed"] != bundle.seed:
        lines.unlink()  # those of an earlier version, whose directions were the same for every seed
    _surface(problem, bundle, line, lines, f"lines of {label}", world)
    if world.first:
        flatness.measured(run, asked(use), device, lines)
    world.wait()


def _surface(
    problem: ls.Problem,
    directions: ls.directions.Directions,
    grid: ls.Grid1D | ls.Grid2D,
    out: Path,
    label: str,
    world: World,
) -> None:
    """Measure a surface, or this process's part of it; the first process puts the parts together."""
    known = store.load_surface(out) if out.exists() else None
    finished = world.any(world.first and known is not None and known.complete)
    part = Part() if finished else Part(world.rank, world.size)
    ls.evaluate(problem, directions, grid, out=out, reuse=None if part.whole else known, shard=str(part), label=label)
    if not part.whole:
        parallel.gather(out, part, Part())


def numbers(run: Run) -> Student:
    """The numbers of a trained student, from its files; those that were not measured are not among them."""
    found: dict[str, float] = {}
    if run.metrics:
        test = run.metrics[-1]["test"]
        found |= {
            "accuracy": 100 * test["accuracy"],
            "accuracy_best": 100 * max(record["test"]["accuracy"] for record in run.metrics),
            "ce": test["ce"],
            "kd": test["kd"],
        }
    if run.conflict.exists():
        conflict = store.load_conflict(run.conflict)
        found["cosine"] = _mean_known(conflict.cosine)
        if "heldout" in conflict.groups:
            found["cosine_heldout"] = _mean_known(conflict.groups["heldout"].cosine)
    return Student(run.config.method, run.config.seed, run.path.name, found)


def _mean_known(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _teacher_numbers(run: Run) -> Student:
    test = run.metrics[-1]["test"]
    return Student(run.config.method, run.config.seed, run.path.name, test | {"accuracy": 100 * test["accuracy"]})


def _report(config: StudyConfig, findings: Findings, found: Outcome, folder: Path) -> None:
    """Write the figures, the interactive pages and the report."""
    figures = folder / "figures"
    pictures = gallery.draw(findings, figures)
    title = f"Study {config.name}: what distillation and DOT do to a student"
    pages = reporting.write_pages(findings, figures)
    page = reporting.compose(
        title, findings, found.students, pictures, found.command, study=config, pages=pages, folder=folder
    )
    report.write(folder / found.report, page)


def _log(step: int, steps: int, what: str) -> None:
    log.info("[%d/%d] %s", step, steps, what)
