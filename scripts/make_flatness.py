"""Says which measures of flatness see what is known, and keeps that in figures/flatness, for docs/flatness.md.

    python scripts/make_flatness.py digits-flatness
    python scripts/make_flatness.py cifar10-small-flatness --images 2000 --figure figures/flatness/known-cases-cifar10

Trains what is left of the study (see `make_controls.py`), measures every minimum on the training loss, and compares the
known cases (`known_cases.py`) by each measure. What is measured is kept in the study's folder, in ``flatness/``: delete
that to measure anew. A second process with the same command takes its share of the minima. `fill_tables.py` puts the
tables into the pages.
"""

from __future__ import annotations

import argparse
import logging
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import known_cases
import numpy as np
import torch
from known_cases import BASELINE, Case, Member
from make_controls import made_at
from stamped import ROOT, stamped

import landscape as ls
from dot import devices, runs
from dot.controls import running
from dot.controls.config import Plan, load_plan
from dot.outcome import as_text
from dot.plain import to_json
from landscape import store
from landscape.files import Taken, claim
from landscape.provenance import digest_model
from landscape.sharpness import Flatness, Row, Verdict

TERM = "ce"
TWINS = 5
log = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="digits-flatness")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--output", type=Path, help="folder of the study; studies/<name> by default")
    parser.add_argument(
        "--figure", type=Path, default=ROOT / "figures" / "flatness" / "known-cases", help="path without a suffix"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--measures", nargs="+", help="all by default")
    parser.add_argument("--images", type=int, default=0, help="so many training images, drawn; all by default")
    parser.add_argument(
        "--splits", type=int, default=1000, help="of the baseline's seeds, for the rate of false alarms"
    )
    use = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    plan, device = load_plan(use.recipe, use.changes), devices.pick(use.device)
    folder = use.output or ROOT / "studies" / plan.controls.name
    running.run(plan, folder, device)
    diverged = [name for name in plan.runs if "diverged" in running.numbers(folder, name)]
    if diverged:
        raise SystemExit(f"runs must have a minimum to be measured. Got some that diverged: {', '.join(diverged)}.")
    members = known_cases.groups(names(plan), TWINS)
    options = (device, use.images, use.measures)
    found_of: dict[Member, Flatness] = {}
    every = dict.fromkeys(chain(*members.values()))  # groups share members
    for member in every:
        with suppress(Taken):  # another process is at it: go on with the others first
            found_of[member] = flatness_of(folder, member, *options)
    for member in every:
        if member not in found_of:
            found_of[member] = flatness_of(folder, member, *options)
    measured = {name: [found_of[member] for member in of] for name, of in members.items()}
    losses = {arm: [running.numbers(folder, member.run) for member in members[arm]] for arm in plan.arms}
    found = known(measured, losses, use.splits) | {"recipe": plan.controls.name, "note": plan.controls.note}
    found |= {"images": use.images, "runs_made_at": made_at(folder, list(plan.runs))}
    write(use.figure, stamped(device, found))


def names(plan: Plan) -> dict[str, dict[int, str]]:
    """The runs of each arm by seed."""
    found: dict[str, dict[int, str]] = {}
    for job in plan.jobs:
        found.setdefault(job.arm, {})[job.seed] = job.run.name
    return found


def flatness_of(
    folder: Path, member: Member, device: torch.device, images: int, measures: Sequence[str] | None
) -> Flatness:
    """The flatness of a minimum on its training loss, measured once. Directions are those of the seed, in all arms.

    Raises:
        Taken: Another process is at it.
    """
    path = folder / "flatness" / f"{member.run}{'-rescaled' if member.twin else ''}.h5"
    path.parent.mkdir(exist_ok=True)
    problem = runs.problem(folder / "runs" / member.run, "train", device, images)
    if member.twin:
        problem = replace(problem, model=known_cases.rescaled(problem.model))
    wanted = {"checkpoint_sha256": digest_model(problem.model), "seed": member.seed, "images": images}
    keys = set(measures or ls.sharpness.names())
    with claim(path):
        if path.exists():
            found = store.load_flatness(path)
            alike = all(found.attrs.get(key) == value for key, value in wanted.items())
            if alike and keys <= {*found.keys(), *found.left_out}:
                return found
        log.info("measuring %s", path.stem)
        found = ls.sharpness.summary(problem, term=TERM, measures=measures, seed=member.seed)
        found = replace(found, attrs=found.attrs | wanted)
        found.save(path)
    return found


def known(measured: Mapping[str, Sequence[Flatness]], losses: Mapping[str, Sequence[Any]], splits: int) -> Any:
    """What each measure gives for each known case, and how it agrees with the generalisation gap."""
    cases = known_cases.cases(list(measured))
    verdicts = {
        case.name: ls.sharpness.compare({name: list(measured[name]) for name in (case.other, case.one)})
        for case in cases
    }
    gaps = {arm: [run["ce_test"] - run["ce_train"] for run in of] for arm, of in losses.items()}
    every = ls.sharpness.compare({arm: list(measured[arm]) for arm in losses}, gaps=gaps)
    alarms = false_alarms(measured[BASELINE], splits)
    rows = {}
    for row in every.rows:
        key = row.what.key
        judged = {case.name: judge(case, verdicts[case.name], key) for case in cases}
        rows[key] = {
            "definition": asdict(row.what),
            "cases": judged,
            "right": sum(case["right"] is True for case in judged.values()),
            "wrong": sum(case["right"] is False for case in judged.values()),
            "false_alarms": alarms.get(key, np.nan),
            "tau": asdict(row.agreement) | {"text": str(row.agreement)},
            "values": {group.name: group.values for group in row.groups},
        }
    left_out = {f"{name} {i}": of.left_out for name, group in measured.items() for i, of in enumerate(group)}
    return {
        "cases": [asdict(case) for case in cases],
        "arms": {arm: training(of) for arm, of in losses.items()},
        "splits": splits,
        "measures": rows,
        "left_out": {name: why for name, why in left_out.items() if why},
    }


def judge(case: Case, verdict: Verdict, key: str) -> dict[str, Any]:
    """A case by a measure: what came out, how large it is, and whether it is what is known."""
    try:
        found = verdict[key].between(case.one, case.other)
    except KeyError:  # it could not be had in any of these minima
        return {"outcome": "undefined", "right": None}
    keep = ("scale", "value", "low", "high", "p", "n", "dropped", "more_seeds")
    return {"outcome": found.outcome, "right": case.right(found.outcome), "size": found.size} | {
        name: getattr(found, name) for name in keep
    }


def false_alarms(minima: Sequence[Flatness], splits: int) -> dict[str, float]:
    """Share of random splits of like minima into two groups, and of these into pairs, in which they are told apart.

    The groups are drawn from the same few minima, so that the rate tells of the test with such numbers, at a level of
    5 %, and not of how much other seeds would scatter. Without two in each group there are none.
    """
    rng, half = np.random.default_rng(0), len(minima) // 2
    if half < 2:
        return {}
    counts: dict[str, int] = {}
    for _ in range(splits):
        order = rng.permutation(len(minima))
        one, other = ([minima[i] for i in part] for part in (order[:half], order[half : 2 * half]))
        for row in ls.sharpness.compare({"one": one, "other": other}).rows:
            counts[row.what.key] = counts.get(row.what.key, 0) + told_apart(row)
    return {key: count / splits for key, count in counts.items()}


def told_apart(row: Row) -> bool:
    return any(difference.found for difference in row.differences)


def training(of: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the runs of an arm: what must be known of minima that are compared."""
    return {name: statistics.fmean(run[name] for run in of) for name in ("ce_train", "ce_test", "accuracy")}


def write(path: Path, found: Mapping[str, Any]) -> None:
    """The numbers as JSON, and two tables: the arms, and the measures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(to_json(found) + "\n")
    path.with_suffix(".txt").write_text(as_text(table(found)) + "\n")
    arms = [["arm", "training loss", "test loss", "accuracy (%)"]]
    arms += [
        [arm, f"{of['ce_train']:.3f}", f"{of['ce_test']:.3f}", f"{of['accuracy']:.2f}"]
        for arm, of in found["arms"].items()
    ]
    path.with_name(f"{path.name}-arms.txt").write_text(as_text(arms) + "\n")


def table(found: Mapping[str, Any]) -> list[list[str]]:
    """A heading with what is known, and a row for each measure; intervals are in the JSON."""
    cases = found["cases"]
    rows = [["measure", *(case["name"] for case in cases), "right", "false alarms", "tau"]]
    rows.append(["", *(case["expected"] for case in cases), "", "", ""])
    for of in found["measures"].values():
        cells = [cell(of["cases"][case["name"]]) for case in cases]
        ends = [f"{of['right']} of {len(cases)}", percent(of["false_alarms"]), tau(of["tau"])]
        rows.append([of["definition"]["name"], *cells, *ends])
    return rows


def cell(case: Mapping[str, Any]) -> str:
    """Whether a case was seen right, and the size of the difference."""
    mark = {True: "right", False: "WRONG", None: case["outcome"]}[case["right"]]
    if "size" not in case or case["size"] == "undefined":
        return mark
    return f"{mark} {'x ' if case['scale'] == 'ratio' else ''}{case['value']:.3g}"


def percent(share: float) -> str:
    return "undefined" if np.isnan(share) else f"{share:.1%}"


def tau(of: Mapping[str, Any]) -> str:
    """Kendall's tau with the gap; a star where its p is below 0.05."""
    return "undefined" if np.isnan(of["tau"]) else f"{of['tau']:+.2f}{'*' if of['p'] < 0.05 else ''}"


if __name__ == "__main__":
    try:
        main()
    except Taken as taken:
        raise SystemExit(f"{taken} Run this again when it has finished.") from None
