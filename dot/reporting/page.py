"""The parts of the report of runs, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dot.config import Paper, StudyConfig, to_toml
from dot.findings import Findings
from dot.outcome import Student
from dot.reporting import numbers, provenance, repeating
from dot.reporting.missing import not_measured
from dot.reporting.setting import question, setting
from dot.reporting.verdict import in_words
from dot.runs import Run
from landscape.report import Code, Folded, Link, Part, Picture, Report, Section


def students(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """The students among runs, and the teachers, which are left out.

    Raises:
        ValueError: There is no student, one is not trained to its end, or students differ in their data, network or
            teacher.
    """
    left_out = [run for run in runs if not run.config.teacher]
    found = [run for run in runs if run.config.teacher]
    if not found:
        names = ", ".join(run.path.name for run in runs)
        raise ValueError(f"runs must be students, which have a teacher. Got {names}: give the runs that it taught.")
    for run in found:
        if not run.done:
            raise ValueError(f"runs must be trained to their end. Got {run.path}: train it on with the same command.")
        for key in ("data", "model", "teacher"):
            one, other = getattr(found[0].config, key), getattr(run.config, key)
            if one != other:
                raise ValueError(
                    f"runs must have one {key}, to be compared. Got {one!r} in {found[0].path.name} and {other!r} in "
                    f"{run.path.name}: make a report of each."
                )
    return found, left_out


def compose(
    title: str,
    findings: Findings,
    found: Sequence[Student],
    pictures: Sequence[Picture],
    command: str,
    *,
    study: StudyConfig | None = None,
    pages: Sequence[Link] = (),
    left_out: Sequence[Run] = (),
    folder: Path | None = None,
) -> Report:
    """The report of measured runs.

    Args:
        title: Heading.
        findings: What the runs hold.
        found: Their numbers.
        pictures: Figures, in order.
        command: What makes this report.
        study: That the runs are of; None to find it from them.
        pages: Interactive ones that lie beside the report.
        left_out: Runs that were given too, and are no students.
        folder: Where the commands that it names are typed; the current one by default.
    """
    compared = numbers.compared(found)
    lead: list[Part] = [question(findings)]
    paper = Paper() if study is None else study.paper
    if study is not None and study.note:
        lead += [part.strip() for part in study.note.split("\n\n") if part.strip()]
    return Report(
        title,
        lead,
        [
            Section("What was found", in_words(findings, compared)),
            Section("Setting", [setting(findings, left_out)]),
            Section("Numbers", _numbers(findings, found, compared, paper)),
            Section("Figures", [*_interactive(pages), *pictures]),
            Section("What was not measured", [not_measured(findings, folder)]),
            Section("How to repeat it", _repeat(findings, study or repeating.study_of(findings), command)),
            Section("Environment and provenance", [provenance.environment(findings), provenance.made_by(findings)]),
        ],
    )


def _numbers(
    findings: Findings, found: Sequence[Student], compared: Sequence[numbers.Compared], paper: Paper
) -> list[Part]:
    differences = [numbers.differences(compared)] if compared else []
    return [numbers.table(found, paper), *differences, *numbers.flatness(findings)]


def _interactive(pages: Sequence[Link]) -> list[Part]:
    return ["To turn and to read values off, in a browser:", *pages] if pages else []


def _repeat(findings: Findings, study: StudyConfig | None, command: str) -> list[Part]:
    made: list[Part] = ["The commands that made these files:", Code("\n".join(provenance.commands(findings)))]
    drawn: list[Part] = ["The command that drew this report:", Code(command)]
    if study is None:
        configs: list[Part] = [
            Folded(f"Configuration of {run.path.name} (TOML)", [Code(to_toml(run.config))]) for run in findings.runs
        ]
        return [
            "That one study trains and measures all of this alike cannot be told from the files, so here is what each "
            "says of itself.",
            *made,
            *drawn,
            *configs,
        ]
    others = repeating.not_by_verbs(findings, study)
    left = (
        f"The {repeating.listed(others)} are not among these: no command for a single run measures them as they were."
    )
    return [
        repeating.claim(findings, study),
        Code(repeating.commands(study)),
        Folded("Step by step", [Code(repeating.step_by_step(findings, study)), *([left] if others else [])]),
        Folded("Configuration (TOML)", [Code(to_toml(study))]),
        *made,
        *drawn,
    ]
