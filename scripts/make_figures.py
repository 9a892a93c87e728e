"""Runs a study and keeps its figures, numbers and a manifest in figures/<name>: the digits, or a recipe that is named.

The tables in README.md and docs/ are written too. The study itself is kept in studies/<name>, so that a second call
goes on, or only copies. Needs a clean checkout, so that the commit in the manifest is the code that made the figures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fill_tables

from dot import devices, outcome, study
from dot.config import digest, load_study, to_toml
from landscape.provenance import command_line, now

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="digits")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--device", default="cpu")
    use = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    commit = clean_commit()
    config = load_study(use.recipe, use.changes)
    folder, target = ROOT / "studies" / config.name, ROOT / "figures" / config.name
    found = outcome.finished(folder, config) or study.reproduce(config, folder, devices.pick(use.device))
    target.mkdir(parents=True, exist_ok=True)
    for picture in sorted((folder / "figures").glob("*.p[dn][fg]")):  # the 3-D page is too large to keep
        shutil.copy(picture, target / picture.name)
    (target / "study.toml").write_text(to_toml(config))
    (target / "table.txt").write_text(outcome.as_text(outcome.table(found.students, config.paper)) + "\n")
    if found.flatness:
        (target / "flatness.txt").write_text(outcome.as_text(found.flatness) + "\n")
    fill_tables.main()
    (target / "study.json").write_text(found.to_json())
    manifest: dict[str, Any] = {
        "command": f"python scripts/{command_line()}",
        "made_at": now(),
        "commit": commit,
        "config_sha256": digest(config),
        "versions": found.versions,
        "machine": found.machine,
        "seconds": found.seconds,
        "files": {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(target.iterdir())
            if p.name != "manifest.json"
        },
    }
    (target / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"{len(manifest['files'])} files in {target.relative_to(ROOT)}")


def clean_commit() -> str:
    """The commit of the checkout; refused where tracked files differ from it."""
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!figures", ":!README.md", ":!docs"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    if changed:
        sys.exit(
            f"the checkout must be clean, so that the manifest names the code that made the figures. Got:\n{changed}"
        )
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
