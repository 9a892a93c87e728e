"""Say whether files and folders are whole: all the faults of all of them at once.

Surface and conflict files, recipes, run folders and studies with everything in them, and any other file of this
package. The exit status is 1 where one has a fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dot.cli._shared import Common, Reply, at_least_one
from dot.cli.info import describe

EXAMPLES = (
    "validate studies/digits-quick surface.h5",
    "validate runs/* --json",
)
_OURS = (".h5", ".toml", ".json", ".jsonl", ".pt", ".safetensors")
"""What is looked at in a folder: figures and pages are drawn from these."""


@dataclass(frozen=True)
class Options(Common):
    """Options of ``validate``."""

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files and folders written by this package, and recipes."""


def run(options: Options) -> Reply:
    """Run the verb."""
    at_least_one(options.paths, "file or folder")
    faults = {str(path): _faults(path) for path in options.paths}
    lines = []
    for path, found in faults.items():
        number = "1 fault" if len(found) == 1 else f"{len(found)} faults"
        lines += [f"{path}: {number if found else _whole(Path(path))}", *(f"  {fault}" for fault in found)]
    whole = not any(faults.values())
    return Reply("\n".join(lines), {"whole": whole, "faults": faults}, ok=whole)


def _whole(path: Path) -> str:
    """``whole``, with what a surface still lacks to be finished."""
    if path.suffix != ".h5":
        return "whole"
    from landscape import describing

    pending = describing.describe(path).get("cells", {}).get("pending", 0)
    return f"whole so far, {pending} cells pending" if pending else "whole"


def _faults(path: Path) -> list[str]:
    if path.is_dir():
        return _of_folder(path)
    if path.suffix == ".h5":
        from landscape import wholeness

        return wholeness.faults(path)
    try:
        describe(path)
    except (ValueError, OSError) as error:
        return [str(error)]
    return []


def _of_folder(folder: Path) -> list[str]:
    runs = sorted(path.parent for path in folder.rglob("config.toml"))
    if not runs and not (folder / "study.toml").exists():
        return ["expected a run folder with a config.toml, or a study with a study.toml. Got neither."]
    faults = [f"{run}: {fault}" for run in runs for fault in _of_run(run)]
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _OURS and path.is_file()):
        faults += [f"{path}: {fault}" for fault in _faults(path)]
    return faults


def _of_run(folder: Path) -> list[str]:
    """What a run folder lacks; whether what it has can be read is seen file by file."""
    from dot.config import load_run
    from dot.plain import read_json

    needed = {"environment.json": "train the run again", "model.safetensors": "train the run to its end"}
    faults = [f"{name} must be there. Got none: {do}." for name, do in needed.items() if not (folder / name).exists()]
    try:
        teacher, environment = load_run(folder / "config.toml").teacher, read_json(folder / "environment.json")
    except (ValueError, OSError):
        return faults
    digest = environment.get("teacher_sha256") if isinstance(environment, dict) else None
    if not re.fullmatch("[0-9a-f]{64}" if teacher else "", str(digest)):
        what = f"the digest of {teacher}" if teacher else "no digest of a teacher"
        faults.append(f"environment.json must hold {what} as teacher_sha256. Got {digest!r}.")
    if teacher and not (folder.parent / teacher).exists():
        faults.append(f"the teacher's run must lie beside this one. Got no {teacher}: put it back.")
    return faults
