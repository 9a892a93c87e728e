"""How to repeat what a report shows: the study that its runs are of, and every command."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import landscape as ls
from dot.config import Measuring, Network, StudyConfig
from dot.findings import Findings
from dot.runs import Run

_OPTIONS = {"normalize": "filter", "ignore": "biasbn", "seed": 0}
"""Of the verb that measures surfaces, with their defaults, and under the same names in its files."""


def study_of(findings: Findings) -> StudyConfig | None:
    """A study whose runs are these, by their digests; None where there is none, or the teacher is not beside them."""
    teacher, first = findings.teacher, findings.runs[0].config
    if teacher is None:
        return None
    trained = next((run.config.train for run in findings.runs if run.config.method == "kd-dot"), None)
    student = first.train if trained is None else trained
    of_teacher = teacher.config
    study = StudyConfig(
        name="again",
        data=first.data,
        methods=tuple(group[0].config.method for group in findings.groups.values()),
        seeds=tuple(sorted({run.config.seed for run in findings.runs})),
        teacher=Network(of_teacher.model, of_teacher.train, of_teacher.seed, of_teacher.weights),
        student=Network(first.model, student),
        losses=first.losses,
        record=first.record,
        measure=_measuring(findings),
        compute=first.compute,
    )
    same = study.teacher_run().name == of_teacher.name and all(
        study.student_run(run.config.method, run.config.seed).name == run.config.name for run in findings.runs
    )
    return study if same else None


def _measuring(findings: Findings) -> Measuring:
    """What was measured, where it is what a study can say."""
    use = Measuring()
    for plane in findings.planes.values():
        if (axis := _axis(plane.x)) is not None and plane.y is not None and np.array_equal(plane.x, plane.y):
            use = replace(use, plane_points=axis[1], plane_extent=axis[0], seed=int(plane.attrs.get("seed") or 0))
    asked = findings.asked
    if asked is None:
        return use
    names = {key for group in findings.flat.values() for one in group for key in one.keys()}  # noqa: SIM118
    every = ls.sharpness.names()
    return replace(
        use,
        line_points=asked.points,
        line_extent=asked.extent,
        directions=asked.directions,
        images=asked.images,
        flatness=() if names == set(every) else tuple(key for key in every if key in names),
    )


def commands(study: StudyConfig) -> str:
    """From the data to the report, with the study in ``study.toml``."""
    checkpoint = " --teacher PATH" if study.teacher.weights else ""
    lines = [
        f"dot-landscape data fetch {study.data}",
        f"dot-landscape reproduce study.toml -o again{checkpoint}",
    ]
    return "\n".join(lines)


def step_by_step(findings: Findings, study: StudyConfig) -> str:
    """The same one run and one measurement at a time."""
    checkpoint = " --teacher PATH" if study.teacher.weights else ""
    root = "again/runs"
    lines = [
        f"dot-landscape train study.toml --method {run.config.method} --seed {run.config.seed} -o {root}{checkpoint}"
        for run in findings.runs
    ]
    asked = findings.asked
    images = "" if asked is None or not asked.images else f" --images {asked.images}"
    if not images:  # the verb measures on all of them
        lines += [line for run in findings.runs for line in _surfaces(run, root)]
    students = f"{root}/*-{study.student.model.replace(':', '.')}-*"
    if asked is not None:
        chosen = f" --measures {' '.join(study.measure.flatness)}" if study.measure.flatness else ""
        lines.append(f"dot-landscape sharpness {students} --directions {asked.directions}{images}{chosen}")
    return "\n".join([*lines, f"dot-landscape report {students} -o again/report.html"])


def _surfaces(run: Run, root: str) -> list[str]:
    """What measures the plane and the lines of a run as they were measured."""
    found = []
    for name in ("surface.h5", "lines.h5"):
        path = run.path / name
        surface = ls.load(path) if path.exists() else None
        if not isinstance(surface, ls.Surface) or (axis := _axis(surface.x)) is None:
            continue
        if surface.attrs.get("kind", "random") != "random":  # directions from a file, which is not known here
            continue
        extent, points = axis
        lines = f" --lines {len(surface.status)}" if surface.y is None else ""
        y = "" if lines else f" --y {-extent:g} {extent:g} {points}"
        more = [f" --{key} {value}" for key in _OPTIONS if (value := surface.attrs.get(key)) != _OPTIONS[key] and value]
        grid = f"{lines} --x {-extent:g} {extent:g} {points}{y}"
        found.append(f"dot-landscape surface {root}/{run.path.name}{grid}{''.join(more)}")
    return found


def _axis(x: NDArray[np.float64]) -> tuple[float, int] | None:
    """Extent and number of evenly spaced points around 0; None of others."""
    extent = float(x[-1])
    even = np.linspace(-extent, extent, len(x))
    return (extent, len(x)) if len(x) % 2 and extent > 0 and np.allclose(x, even) else None
