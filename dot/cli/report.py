"""Write one self-contained page with the table and the figures of measured runs, and what each figure means."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dot.cli._shared import Common, Output, Reply, at_least_one

EXAMPLES = (
    "report studies/digits-quick/runs/*convnet8*",
    "report studies/digits-quick/runs/*convnet8* -o page.html --title Digits",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``report``."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders with surface.h5, lines.h5 and conflict.h5."""
    output: Output = None
    """The page; report.html by default."""
    title: str = "What a training method does to a network"
    """Heading of the page."""


def run(options: Options) -> Reply:
    """Run the verb."""
    at_least_one(options.runs, "run folder")
    from dot import flatness, gallery, outcome, study
    from dot.config import to_toml
    from dot.runs import open_run
    from landscape.provenance import command_line, versions

    found = [open_run(path) for path in options.runs]
    page = options.output or Path("report.html")
    details = {"How to repeat it": command_line(), "Versions": json.dumps(versions(), indent=2)}
    details |= {f"Configuration of {run.path.name} (TOML)": to_toml(run.config) for run in found}
    students = [study.numbers(run) for run in found]
    summary = f"{len(found)} trained students: " + ", ".join(run.path.name for run in found) + "."
    groups = gallery.by_method(found)
    asked = flatness.kept_alike(groups)
    verdict = None if asked is None else flatness.verdict(groups, asked)
    gallery.draw(options.title, summary, groups, outcome.table(students), verdict, details, page)
    return Reply(str(page), {"report": str(page), "runs": [run.path.name for run in found]})
