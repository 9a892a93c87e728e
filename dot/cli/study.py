"""Run a study with controls: arms that differ in one thing each, compared pairwise by seed.

Says whether DOT's gain is DOT, or what a larger step, other loss weights or less weight decay would do too. A run that
is finished is never repeated, and a study that has begun may get more arms and seeds.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dot.cli._shared import Output, Reply, Trained, UsageError, find_beside_user
from dot.controls.config import load_plan
from dot.outcome import as_text

if TYPE_CHECKING:
    import torch

    from dot.controls.config import Plan

log = logging.getLogger(__name__)

_READ = (
    "mean ± standard deviation over n seeds; differences within each seed with their 95 % interval (Student's t);\n"
    "*: a difference was found at level 0.05, corrected by Holm for all arms; without it none was found, which does\n"
    "not show that there is none; all measures are in the report and in controls.json"
)

EXAMPLES = (
    "study digits-controls-quick -o controls --dry-run",
    "study digits-controls-quick -o controls",
)


@dataclass(frozen=True)
class Options(Trained):
    """Options of ``study``."""

    recipe: Annotated[str, tyro.conf.Positional]
    """Controls that ship with the package, or a TOML file."""
    output: Output = None
    """Folder of the study; studies/<name> by default. With that of a reproduced study, its runs are used."""
    workers: int = 1
    """Runs at the same time, each in a process of its own."""
    dry_run: bool = False
    """Only say what would run, and for how long."""


def run(options: Options) -> Reply:
    """Run the verb."""
    if options.workers < 1:
        raise UsageError(f"--workers must be at least 1. Got {options.workers}.")
    find_beside_user()  # networks and losses by module:function
    plan = load_plan(options.recipe, options.changes)
    if options.teacher is not None:
        weights = options.weights(plan.study.teacher.weights)
        plan = load_plan(options.recipe, [*options.changes, f'teacher.weights="{weights}"'])
    folder = options.output or Path("studies") / plan.controls.name
    from dot import devices
    from dot.controls import page, results, running
    from landscape.files import write_whole

    device = devices.pick(options.device)
    planned = _planned(plan, folder, device, options.workers)
    if options.dry_run:
        return Reply(planned, {"arms": list(plan.arms), "seeds": list(plan.study.seeds), "runs": list(plan.runs)})
    log.info("%s", planned)
    running.run(plan, folder, device, options.workers, options.teacher)
    found = results.gather(plan, folder, device)
    as_json = found.to_json()
    write_whole(folder / "controls.json", as_json.encode())
    page.draw(found, folder)
    tables = [as_text(results.means(found)), *(as_text(results.differences(found, b)) for b in found.baselines)]
    note = f"{found.note}\n\n" if found.note else ""
    text = note + "\n\n".join(tables) + f"\n\n{_READ}\n\nreport: {folder / 'controls.html'}"
    return Reply(text, json.loads(as_json))


def _planned(plan: Plan, folder: Path, device: torch.device, workers: int) -> str:
    """The arms, and how long the runs that are left take."""
    from dot.controls import budget, running

    left = len(running.unmeasured(plan, folder))
    of = f"{len(plan.runs)} runs over {len(plan.study.seeds)} seeds"
    if not left:
        return f"{as_text(budget.table(plan, folder))}\n\n{of}, nothing left to do"
    time = timedelta(seconds=round(budget.seconds(plan, folder, device) / workers))
    return f"{as_text(budget.table(plan, folder))}\n\n{of}, {left} left: {time} of training, {workers} at a time"
