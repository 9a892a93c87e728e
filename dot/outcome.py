"""What a study found: a few numbers for each student, kept as JSON and shown as a table of means and spreads."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dot.config import METHODS, Paper, StudyConfig, digest
from dot.plain import read_json, to_json

COLUMNS = {
    "accuracy": "test accuracy (%)",
    "accuracy_best": "that of the best epoch, chosen on the test images (%)",
    "ce": "test task loss",
    "kd": "test distillation loss",
    "cosine": "gradient cosine, training",
    "cosine_heldout": "gradient cosine, held-out",
}
"""Numbers of the table, in order, and how its rows are headed."""


@dataclass(frozen=True)
class Student:
    """The numbers of one student.

    Attributes:
        method: Key of `METHODS`.
        seed: Of its training.
        run: Name of its run folder.
        numbers: By the keys of `COLUMNS`; NaN where undefined, and without those that were not measured.
    """

    method: str
    seed: int
    run: str
    numbers: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """A finished study.

    Attributes:
        config_sha256: Of its configuration.
        command: That made it.
        versions: Of the packages.
        machine: Its kind.
        seconds: From the start of the last call to its end.
        report: Path of the report, relative to the study's folder.
        teacher: The teacher's numbers.
        students: In the order of methods and seeds.
        flatness: Table of the verdict on their flatness: a heading, a row for each measure; empty for a single method.
        verdict: The verdict in words.
    """

    config_sha256: str
    command: str
    versions: dict[str, str]
    machine: str
    seconds: float
    report: str
    teacher: Student
    students: tuple[Student, ...]
    flatness: tuple[tuple[str, ...], ...] = ()
    verdict: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As in ``study.json``."""
        return to_json(asdict(self)) + "\n"


def finished(folder: Path, config: StudyConfig) -> Outcome | None:
    """The outcome in a study's folder; None where the study has not ended, or its report is gone.

    Raises:
        ValueError: The folder holds the study of another configuration, or its ``study.json`` is broken.
    """
    path = folder / "study.json"
    if not path.exists():
        return None
    raw: dict[str, Any] = read_json(path)
    if raw.get("config_sha256") != digest(config):
        raise another_study(folder, config)
    kept = {
        "teacher": _student(raw["teacher"]),
        "students": tuple(map(_student, raw["students"])),
        "flatness": tuple(map(tuple, raw.get("flatness", ()))),  # a study of an earlier version has none
        "verdict": tuple(raw.get("verdict", ())),
    }
    found = Outcome(**raw | kept)
    return found if (folder / found.report).exists() else None


def another_study(folder: Path, config: StudyConfig) -> ValueError:
    """The refusal of a folder in which another study was begun."""
    return ValueError(
        f"{folder} must hold the study {config.name!r} of this recipe. Got one of another configuration: it is not "
        "overwritten; give another folder with -o."
    )


def _student(raw: dict[str, Any]) -> Student:
    numbers = {name: math.nan if value is None else value for name, value in raw["numbers"].items()}
    return Student(raw["method"], raw["seed"], raw["run"], numbers)


def table(students: Sequence[Student], paper: Paper | None = None) -> list[list[str]]:
    """A heading, a row for each number and one for n; in each method's column mean ± standard deviation over seeds.

    Args:
        students: Of all methods.
        paper: Whose accuracies get a row, where it states some.
    """
    methods = list(dict.fromkeys(student.method for student in students))
    groups = [[student for student in students if student.method == method] for method in methods]
    return [
        ["", *(METHODS[method] for method in methods)],
        *([heading, *(_cell(group, key) for group in groups)] for key, heading in COLUMNS.items()),
        *([] if paper is None or not paper.source else [_paper_row(paper, methods)]),
        ["seeds (n)", *(str(len(group)) for group in groups)],
    ]


def _paper_row(paper: Paper, methods: Sequence[str]) -> list[str]:
    stated = {method: getattr(paper, method.replace("-", "_")) for method in methods}
    return [
        f"accuracy in {paper.source} (%)",
        *(f"{value:.2f}" if value else "not stated" for value in stated.values()),
    ]


def _cell(group: Sequence[Student], key: str) -> str:
    if any(key not in student.numbers for student in group):
        return "not measured"
    values = [student.numbers[key] for student in group]
    if any(math.isnan(value) for value in values):
        return "undefined"
    digits = {"accuracy": 2, "accuracy_best": 2}.get(key, 3)
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{spread}"


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """A table in aligned columns, its first row ruled off."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
