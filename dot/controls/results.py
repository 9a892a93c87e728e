"""What came out: the numbers of every arm and seed, each arm against the baselines, and tables of both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from dot.controls import running
from dot.controls.config import Plan
from dot.controls.measuring import MEASURES
from dot.plain import to_json
from landscape.comparing import Comparison, compare
from landscape.provenance import stamp

SHOWN = ("accuracy", "ce_test", "kd_test", "curvature", "cosine_test")
"""Measures of the figures, and of the tables that a terminal shows."""


@dataclass(frozen=True)
class Results:
    """A study with controls, as in ``controls.json``.

    Attributes:
        name: Of the study.
        note: What a reader of the numbers must know.
        study: What all arms share, as resolved.
        baselines: Arms that every other one is compared with.
        reach: Test task loss that ``epochs`` counts to.
        arms: What each arm is: method, what it rules out, and the values that it changes.
        numbers: ``{measure: {arm: {seed: value}}}``; NaN where undefined, as for all of a run that diverged.
        diverged: ``{arm: seeds}``.
        made: When, by which command, with which versions, on what kind of machine.
    """

    name: str
    note: str
    study: dict[str, Any]
    baselines: tuple[str, ...]
    reach: float
    arms: dict[str, dict[str, Any]]
    numbers: dict[str, dict[str, dict[int, float]]]
    diverged: dict[str, list[int]]
    made: dict[str, Any]

    def comparisons(self, baseline: str, measure: str) -> dict[str, Comparison]:
        """Every other arm against a baseline, adjusted as one family by Holm: see `landscape.comparing.compare`."""
        return compare(self.numbers[measure], baseline)

    def to_json(self) -> str:
        """With the comparisons, which follow from the numbers."""
        compared = {
            baseline: {
                measure: {arm: asdict(c) | {"verdict": c.verdict} for arm, c in found.items()}
                for measure in self.numbers
                if (found := self.comparisons(baseline, measure))
            }
            for baseline in self.baselines
        }
        return to_json(asdict(self) | {"measures": MEASURES_IN_WORDS, "comparisons": compared}) + "\n"


MEASURES_IN_WORDS = {key: measure.name for key, measure in MEASURES.items()}


def gather(plan: Plan, folder: Path, device: torch.device) -> Results:
    """The results of a plan whose runs are all measured.

    Raises:
        FileNotFoundError: One is not.
    """
    numbers: dict[str, dict[str, dict[int, float]]] = {measure: {} for measure in MEASURES}
    diverged: dict[str, list[int]] = {}
    for job in plan.jobs:
        found = running.numbers(folder, job.run.name)
        if "diverged" in found:
            diverged.setdefault(job.arm, []).append(job.seed)
        for measure in MEASURES:
            value = found.get(measure)
            numbers[measure].setdefault(job.arm, {})[job.seed] = math.nan if value is None else value
    return Results(
        name=plan.controls.name,
        note=plan.controls.note or plan.study.note,
        study=asdict(plan.study),
        baselines=plan.controls.baselines,
        reach=plan.controls.reach,
        arms={name: asdict(arm) for name, arm in plan.arms.items()},
        numbers=numbers,
        diverged=diverged,
        made=stamp(device),
    )


def means(found: Results, measures: Sequence[str] = SHOWN) -> list[list[str]]:
    """A heading and a row for each arm: mean ± standard deviation over the seeds that have the number."""
    return [
        ["", *(MEASURES[measure].short for measure in measures), "n"],
        *(
            [arm, *(_mean(found.numbers[measure][arm].values(), measure) for measure in measures), _runs(found, arm)]
            for arm in found.arms
        ),
    ]


def differences(found: Results, baseline: str, measures: Sequence[str] = SHOWN) -> list[list[str]]:
    """A heading and a row for each other arm: its mean difference from the baseline and the 95 % interval.

    A star where a difference was found (Holm over all arms, level 0.05); in brackets the number of pairs, where some
    seeds have no number.
    """
    columns = {measure: found.comparisons(baseline, measure) for measure in measures}
    return [
        [f"minus {baseline}", *(MEASURES[measure].short for measure in measures), "n"],
        *(
            [arm, *(_difference(column[arm], measure) for measure, column in columns.items()), _runs(found, arm)]
            for arm in found.arms
            if arm != baseline
        ),
    ]


def _mean(values: Collection[float], measure: str) -> str:
    known, digits = [value for value in values if math.isfinite(value)], MEASURES[measure].digits
    if not known:
        return "undefined"
    spread = f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{statistics.fmean(known):.{digits}f}{spread}{_count(len(known), len(values))}"


def _difference(found: Comparison, measure: str) -> str:
    digits = MEASURES[measure].digits
    if found.n < 1:
        return "no pairs"
    interval = f" [{found.low:+.{digits}f}, {found.high:+.{digits}f}]" if found.n > 1 else ""
    star = "*" if found.found else ""
    return f"{found.mean:+.{digits}f}{interval}{star}{_count(found.n, found.n + found.dropped)}"


def _count(known: int, seeds: int) -> str:
    """How many seeds have a number, where not all have one."""
    return f" ({known} of {seeds})" if known < seeds else ""


def _runs(found: Results, arm: str) -> str:
    """How many seeds an arm has, and how many of them diverged."""
    seeds, lost = len(found.numbers["accuracy"][arm]), len(found.diverged.get(arm, ()))
    return f"{seeds}" + (f" ({lost} diverged)" if lost else "")
