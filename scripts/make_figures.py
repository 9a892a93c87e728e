"""Runs the digits study and keeps its figures, numbers and a manifest in figures/digits.

The table in the README is written too. The study itself is kept in studies/digits, so that a second call only copies.
Needs a clean checkout, so that the commit in the manifest is the code that made the figures.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from dot import devices, outcome, study
from dot.config import digest, load_study, to_toml
from landscape.provenance import now

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "figures" / "digits"


def main() -> None:
    commit = clean_commit()
    config = load_study("digits")
    folder = ROOT / "studies" / config.name
    found = outcome.finished(folder, config) or study.reproduce(config, folder, devices.pick("cpu"))
    TARGET.mkdir(parents=True, exist_ok=True)
    for picture in sorted((folder / "figures").glob("*.p[dn][fg]")):  # the 3-D page is too large to keep
        shutil.copy(picture, TARGET / picture.name)
    (TARGET / "study.toml").write_text(to_toml(config))
    table = outcome.as_text(outcome.table(found.students)) + "\n"
    (TARGET / "table.txt").write_text(table)
    update_readme(table)
    (TARGET / "study.json").write_text(found.to_json())
    manifest = {
        "command": "python scripts/make_figures.py",
        "made_at": now(),
        "commit": commit,
        "config_sha256": digest(config),
        "versions": found.versions,
        "machine": found.machine,
        "seconds": found.seconds,
        "files": {
            p.name: hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(TARGET.iterdir())
            if p.name != "manifest.json"
        },
    }
    (TARGET / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"{len(manifest['files'])} files in {TARGET.relative_to(ROOT)}")


def update_readme(table: str) -> None:
    """Put the table between its marks, as a block of code."""
    readme = ROOT / "README.md"
    marks = r"(<!-- table: figures/digits/table.txt -->\n).*?(<!-- end of table -->)"
    block = "\n" + textwrap.indent(table, "    ") + "\n"
    readme.write_text(re.sub(marks, lambda m: m[1] + block + m[2], readme.read_text(), flags=re.S))


def clean_commit() -> str:
    """The commit of the checkout; refused where tracked files differ from it."""
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!figures", ":!README.md"],
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
