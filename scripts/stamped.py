"""Where a number comes from: what every JSON file of `figures/` says beside its results."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import torch

from landscape.provenance import command_line, machine, now, versions

ROOT = Path(__file__).resolve().parent.parent


def stamped(device: torch.device, results: dict[str, Any]) -> dict[str, Any]:
    """Results with the command, the commit, the versions and the kind of machine."""
    return {
        "command": command_line(),
        "made_at": now(),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(device),
        "threads": torch.get_num_threads(),
    } | results


def commit() -> str:
    """The commit of the checkout, or that there is none here."""
    asked = subprocess.run(
        ["git", "describe", "--always", "--abbrev=40", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or "not a git checkout"
