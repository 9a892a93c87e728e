"""Run a whole study, or what is left of it: teacher, students, surfaces, flatness, conflict, figures and a report.

Without arguments it is the digits study, on real 8x8 images that ship with scikit-learn. A finished part is never
done twice, and an interrupted study goes on where it was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dot import outcome
from dot.cli._shared import Output, Reply, Trained, UsageError
from dot.outcome import Outcome

EXAMPLES = ("reproduce", "reproduce --quick -o quick --json")


@dataclass(frozen=True)
class Options(Trained):
    """Options of ``reproduce``."""

    recipe: Annotated[str, tyro.conf.Positional] = "digits"
    """A study that ships with the package, or a TOML file."""
    output: Output = None
    """Folder of the study; studies/<name> by default."""
    quick: bool = False
    """Every part of the digits study in under a minute; its numbers mean nothing."""


def run(options: Options) -> Reply:
    """Run the verb."""
    if options.quick and options.recipe != "digits":
        raise UsageError(f"--quick is the digits study cut down. Got it with {options.recipe!r}: leave one out.")
    config = options.study("digits-quick" if options.quick else options.recipe)
    folder = options.output or Path("studies") / config.name
    found = outcome.finished(folder, config)
    if found is None:
        from dot import devices, study
        from dot.world import joined

        device = devices.pick(options.device)
        with joined(device) as world:
            found = study.reproduce(config, folder, device, world, options.teacher)
        done = f"done in {found.seconds:.0f} s"
    else:
        done = f"nothing to do: this study is finished ({len(found.students)} students, made by: {found.command})"
    report = folder / found.report
    note = f"{config.note}\n\n" if config.note else ""
    text = note + (
        f"{outcome.as_text(outcome.table(found.students, config.paper))}\n\n"
        f"mean ± standard deviation over n seeds\n{_flatness(found)}\n"
        f"{done}\nreport: {report}\nfigures: {folder / 'figures'}"
    )
    return Reply(text, asdict(found) | {"report": str(report)})


def _flatness(found: Outcome) -> str:
    """The verdict, where there is more than one method."""
    if not found.flatness:
        return ""
    from dot import flatness

    return f"\n{outcome.as_text(found.flatness)}\n\nof the task loss on the training images; {flatness.LEGEND}\n"
