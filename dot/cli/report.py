"""Write one self-contained page on measured runs: what was found, with figures, and what was not measured.

It is made from the files in the run folders. What a run was not measured on is left out of the figures, and named with
the command that would measure it. Give the runs of several methods and seeds, to have the methods compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dot.cli._shared import Common, Output, Reply, UsageError, at_least_one

EXAMPLES = (
    "report studies/digits-quick/runs/*convnet8*",
    "report studies/digits-quick/runs/*convnet8* -o page.html --title Digits --markdown",
)


@dataclass(frozen=True)
class Options(Common):
    """Options of ``report``."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders; teachers among them are left out."""
    output: Output = None
    """The page; report.html by default."""
    title: str = "What a training method does to a network"
    """Heading of the page."""
    markdown: bool = False
    """Write the same as Markdown too, beside the page, with its figures in a folder."""


def run(options: Options) -> Reply:
    """Run the verb."""
    at_least_one(options.runs, "run folder")
    page = options.output or Path("report.html")
    if page.suffix not in (".html", ".htm") or page.is_dir():
        raise UsageError(f"--output must be a file that ends in .html. Got {page}.")
    from dot import findings, gallery, reporting, study
    from dot.runs import open_run
    from landscape import report
    from landscape.provenance import command_line

    found, left_out = reporting.students([open_run(path) for path in options.runs])
    held = findings.gather(gallery.by_method(found))
    numbers = [study.numbers(run) for run in held.runs]
    pictures = gallery.draw(held)
    made = reporting.compose(options.title, held, numbers, pictures, command_line(), left_out=left_out)
    written = report.write_markdown(page.with_suffix(".md"), made) if options.markdown else []
    report.write(page, made)
    names = [run.path.name for run in held.runs]
    data = {"report": str(page), "runs": names, "markdown": [str(path) for path in written]}
    return Reply("\n".join(map(str, [page, *written[:1]])), data)
