"""Where the numbers of a report come from: programs, machines, and the files of each run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dot import findings as files
from dot.findings import Findings
from dot.flatness import kept_at
from dot.plain import read_json
from dot.runs import Run
from landscape.provenance import versions
from landscape.report import Table

_KEYS = ("machine", "device", "threads", "processes", "commit")


def environment(findings: Findings) -> Table:
    """Programs and machines of the runs and measurements, and the programs that drew the report."""
    made = list(_made(findings))
    here: dict[str, str] = versions()
    names = list(dict.fromkeys([*here, *(name for one in made for name in one.get("versions", {}))]))
    rows = [[name, _several([one.get("versions", {}).get(name) for one in made]), here.get(name, "")] for name in names]
    rows += [[key, _several([one.get(key) for one in made]), ""] for key in _KEYS]
    return Table("Programs and machines.", ["", "runs and measurements", "this report"], rows)


def commands(findings: Findings) -> list[str]:
    """Those that made the files, each once."""
    return list(dict.fromkeys(str(one["command"]) for one in _made(findings) if one.get("command")))


def made_by(findings: Findings) -> Table:
    """The files of each run: when they were made, and of which weights and data."""
    rows = [_row(run, findings) for run in findings.runs]
    return Table(
        "Each run: when its training began, when its files were made, and how the SHA-256 of its weights and of the "
        "data that was measured on begin. Times are in UTC.",
        ["run", "seed", "begun", "plane", "lines", "flatness", "weights", "data"],
        rows,
    )


def _row(run: Run, findings: Findings) -> list[str]:
    measured = _attrs(run, findings)
    sha = [
        next((str(one[key])[:12] for one in measured if one.get(key)), "not known")
        for key in ("checkpoint_sha256", "data_sha256")
    ]
    times = [_time(one) for one in (_environment(run), *measured)]
    return [run.path.name, str(run.config.seed), *times, *sha]


def _attrs(run: Run, findings: Findings) -> list[dict[str, Any]]:
    """What its plane, its lines and its flatness say of themselves; nothing where one was not measured."""
    flat = [] if findings.asked is None else [kept_at(run, findings.asked)]
    found = [findings.files.get(path) for path in (files.plane_of(run), files.lines_of(run), *flat)]
    return [{} if one is None else one.attrs for one in [*found, None][:3]]


def _made(findings: Findings) -> Iterator[dict[str, Any]]:
    """What every file says of its making."""
    for run in [*findings.runs, *([findings.teacher] if findings.teacher else [])]:
        yield _environment(run)
    for run in findings.runs:
        yield from _attrs(run, findings)


def _environment(run: Run) -> dict[str, Any]:
    path = run.path / "environment.json"
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found


def _time(made: dict[str, Any]) -> str:
    return str(made.get("created_at", "none"))[:16].replace("T", " ")


def _several(values: Sequence[Any]) -> str:
    known = list(dict.fromkeys(str(value) for value in values if value is not None))
    return ", ".join(known) or "not recorded"
