"""Run a study with controls: arms that differ in one thing each, compared pairwise by seed.

Says whether DOT's gain is DOT, or what a larger step, other loss weights or less weight decay would do too. A run that
is finished is never repeated, and a study that has begun may get more arms and seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dot.cli._shared import Changed, Output, Reply, find_beside_user
from dot.controls.config import load_plan

EXAMPLES = (
    "study digits-controls-quick -o controls --dry-run",
    "study digits-controls-quick -o controls",
)


@dataclass(frozen=True)
class Options(Changed):
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
    find_beside_user()  # networks and losses by module:function
    plan = load_plan(options.recipe, options.changes)
    folder = options.output or Path("studies") / plan.controls.name
    from dot import devices
    from dot.controls import running

    running.run(plan, folder, devices.pick(options.device), options.workers)
    return Reply(f"{len(plan.runs)} runs in {folder}")
