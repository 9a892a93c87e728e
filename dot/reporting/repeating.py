"""How to repeat what a report shows: the study that its runs are of, and every command."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace

import landscape as ls
from dot.config import Measuring, Network, StudyConfig, to_toml
from dot.findings import Findings, lines_of, plane_of
from dot.flatness import Asked
from dot.reporting.alike import KINDS, names_of, unlike
from dot.tables import build

_SURFACES = {"planes": plane_of, "lines": lines_of}


def study_of(findings: Findings) -> StudyConfig | None:
    """A study that trains these runs, by their digests, and measures what was measured on them, as it was.

    None where there is none, or the teacher is not beside them.
    """
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
    return study if same and _allowed(study) and not unlike(findings, study.measure) else None


def _allowed(study: StudyConfig) -> bool:
    """Whether it may be written as it is: a plane of an even number of points may not."""
    faults: list[str] = []
    build(StudyConfig, tomllib.loads(to_toml(study)), "", faults)
    return not faults


def _measuring(findings: Findings) -> Measuring:
    """What a study would have to measure, going by the first file of each kind; see `unlike` for the others."""
    use = Measuring()
    surfaces = {
        where: [(run, findings.files.get(where(run))) for run in findings.runs] for where in (plane_of, lines_of)
    }
    for _, plane in surfaces[plane_of]:
        if isinstance(plane, ls.Surface):
            use = replace(use, plane_points=len(plane.x), plane_extent=float(plane.x[-1]), seed=_seed(plane))
            break
    for run, lines in surfaces[lines_of]:
        if isinstance(lines, ls.Surface):
            seed = _seed(lines) - run.config.seed
            points = replace(use, line_points=len(lines.x), line_extent=float(lines.x[-1]), seed=seed)
            use = replace(points, directions=len(lines.status))
            break
    asked = findings.asked
    if asked is None:
        return use
    names, every = names_of(findings)[0], ls.sharpness.names()
    return replace(
        use,
        line_points=asked.points,
        line_extent=asked.extent,
        directions=asked.directions,
        images=asked.images,
        seed=asked.seed,
        flatness=() if names >= set(every) else tuple(key for key in every if key in names),
    )


def _seed(surface: ls.Surface) -> int:
    """Of its directions; those that were not drawn have none, and no study has this one."""
    seed = surface.attrs.get("seed")
    return -1 if seed is None else int(seed)


def claim(findings: Findings, study: StudyConfig) -> str:
    """What stands in front of the study: whether it says how everything was trained and measured."""
    differing = unlike(findings, study.measure)
    if not differing:
        return "With the configuration below saved as study.toml, which has every value that was used:"
    return (
        "With the configuration below saved as study.toml. It does not measure alike what this report shows of "
        f"{listed(differing)}; the commands that made these files did."
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
    use, others = study.measure, not_by_verbs(findings, study)
    for run in findings.runs:
        on = f"dot-landscape surface {root}/{run.path.name}"
        if "planes" not in others and plane_of(run) in findings.files:
            axis = _axis(use.plane_extent, use.plane_points)
            lines.append(f"{on} --x {axis} --y {axis}{_seeded(use.seed)}")
        if "lines" not in others and lines_of(run) in findings.files:
            axis = _axis(use.line_extent, use.line_points)
            lines.append(f"{on} --lines {use.directions} --x {axis}{_seeded(use.seed + run.config.seed)}")
    students = f"{root}/*-{study.student.model.replace(':', '.')}-*"
    if study.student.model == study.teacher.model:
        students = " ".join(f"{root}/{run.path.name}" for run in findings.runs)
    if findings.asked is not None and "flatness" not in others:
        images = f" --images {findings.asked.images}" if findings.asked.images else ""
        names = names_of(findings)[0]
        chosen = "".join(f" {key}" for key in ls.sharpness.names() if key in names)
        measures = "" if names >= set(ls.sharpness.names()) else f" --measures{chosen}"
        lines.append(f"dot-landscape sharpness {students} --directions {findings.asked.directions}{images}{measures}")
    return "\n".join([*lines, f"dot-landscape report {students} -o again/report.html"])


def not_by_verbs(findings: Findings, study: StudyConfig) -> list[str]:
    """Of planes, lines and flatness those that were measured as no verb for a single run measures them.

    The verb ``surface`` is for all images, ``sharpness`` for lines of one length and one seed.
    """
    use, asked, usual = study.measure, findings.asked, Asked()
    found = set(unlike(findings, use))
    if use.images:
        found |= {
            kind for kind, where in _SURFACES.items() if any(where(run) in findings.files for run in findings.runs)
        }
    if asked is not None and (asked.seed, asked.extent, asked.points) != (usual.seed, usual.extent, usual.points):
        found.add("flatness")
    return [kind for kind in KINDS if kind in found]


def listed(kinds: Sequence[str]) -> str:
    """Some of `KINDS` in a sentence."""
    return " and ".join(filter(None, [", ".join(kinds[:-1]), *kinds[-1:]]))


def _axis(extent: float, points: int) -> str:
    end = repr(extent).removesuffix(".0")
    return f"-{end} {end} {points}"


def _seeded(seed: int) -> str:
    return f" --seed {seed}" if seed else ""
