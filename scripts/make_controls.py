"""Runs a study with controls and keeps its numbers, tables and figures in figures/is-it-dot, for docs/is-it-dot.md.

    python scripts/make_controls.py digits-controls
    python scripts/make_controls.py cifar10-small-controls --output studies/cifar10-small

The study itself is kept in its folder, so that a second call goes on, or only copies; its runs may have been made
earlier, as their ``environment.json`` says. Needs a clean checkout, so that the commit is the code of the comparisons.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import fill_tables
from make_figures import ROOT, clean_commit
from stamped import stamped

from dot import devices
from dot.controls import page, results, running
from dot.controls.config import load_plan
from dot.controls.results import Results
from dot.outcome import as_text
from dot.plain import read_json
from landscape import plot

TARGET = ROOT / "figures" / "is-it-dot"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--output", type=Path, help="folder of the study; studies/<name> by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    use = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    clean_commit()
    plan, device = load_plan(use.recipe, use.changes), devices.pick(use.device)
    folder = use.output or ROOT / "studies" / plan.controls.name
    running.run(plan, folder, device, use.workers)
    found = results.gather(plan, folder, device)
    TARGET.mkdir(parents=True, exist_ok=True)
    name = plan.controls.name
    made = stamped(device, {"runs_made_at": made_at(folder, list(plan.runs))})
    (TARGET / f"{name}.json").write_text(json.dumps(json.loads(found.to_json()) | {"made": made}) + "\n")
    for kind, rows in tables(found).items():
        (TARGET / f"{name}-{kind}.txt").write_text(as_text(rows) + "\n")
    for baseline in found.baselines:
        plot.save(page.figure(found, baseline), TARGET / f"{name}-against-{baseline}")
    fill_tables.main()


def made_at(folder: Path, names: list[str]) -> list[str]:
    """When the first and the last run were begun."""
    times = sorted(read_json(folder / "runs" / name / "environment.json")["created_at"] for name in names)
    return [times[0], times[-1]]


def tables(found: Results) -> dict[str, list[list[str]]]:
    """Means, differences, and conflict; the values of swept factors apart."""
    conflict = ("cosine", "negative", "inconsistent_ce", "inconsistent_kd", "cosine_test")
    fit = ("ce_train", "kd_train", "agreement_test", "kl_test", "epochs", "width_0.1")
    kinds = {
        "means": results.means(found),
        "conflict": results.means(found, conflict),
        "fit": results.means(found, fit),
    }
    kinds |= {f"against-{baseline}": results.differences(found, baseline) for baseline in found.baselines}
    parts: dict[str, list[list[str]]] = {}
    for kind, (heading, *rows) in kinds.items():
        swept = [row for row in rows if "=" in row[0]]
        parts[kind] = [heading, *(row for row in rows if row not in swept)]
        if swept:
            parts[f"{kind}-swept"] = [heading, *swept]
    return parts


if __name__ == "__main__":
    main()
