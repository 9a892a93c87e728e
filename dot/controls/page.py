"""The report of a study with controls: its tables, a figure for each baseline, and how to repeat it."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

import landscape as ls
from dot.config import METHODS
from dot.controls.measuring import MEASURES
from dot.controls.results import SHOWN, Results, means
from landscape import report
from landscape.plot import Effect


def figure(found: Results, baseline: str) -> Figure:
    """Every arm against a baseline, in the measures of `SHOWN`."""
    measures = {
        MEASURES[measure].short: {
            arm: Effect(c.mean, c.low, c.high, c.found) for arm, c in found.comparisons(baseline, measure).items()
        }
        for measure in SHOWN
    }
    return ls.plot.effects(measures, baseline)


def draw(found: Results, folder: Path) -> None:
    """Write ``controls.html`` and ``figures/against-<baseline>``.

    Raises:
        OSError: A file cannot be written.
    """
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    sections = []
    for baseline in found.baselines:
        drawn = figure(found, baseline)
        ls.plot.save(drawn, figures / f"against-{baseline}")
        sections.append(report.Section(f"Every arm against {baseline}", _MEANING.format(baseline=baseline), drawn))
    heading, *rows = means(found, list(MEASURES))
    table = report.Table(_CAPTION.format(reach=found.reach), heading, rows)
    arms = "\n".join(
        f"{name}: {METHODS[arm['method']]}, train {arm['train']}, losses {arm['losses']}. {arm['about']}"
        for name, arm in found.arms.items()
    )
    details = {
        "The arms": arms,
        "Every comparison: difference [95 % interval], p after Holm, effect size d, pairs": _every_comparison(found),
        "How to repeat it": f"{found.made['command']}\n\nmade {found.made['created_at']} on {found.made['machine']}",
        "What all arms share": json.dumps(found.study, indent=2),
        "Versions": json.dumps(found.made["versions"], indent=2),
    }
    report.write(
        folder / "controls.html",
        report.page(f"Study {found.name}: a method and its controls", _summary(found), table, sections, details),
    )


def _every_comparison(found: Results) -> str:
    """A line for each baseline, measure and arm."""
    return "\n".join(
        f"{arm} against {baseline}, {MEASURES[measure].name}: {compared}"
        for baseline in found.baselines
        for measure in found.numbers
        for arm, compared in found.comparisons(baseline, measure).items()
    )


_MEANING = (
    "Differences from {baseline} within each seed: their mean and its 95 % interval (Student's t). Filled where a "
    "difference was found at level 0.05, corrected by Holm for all arms of a column. A hollow one is no proof of "
    "equality: its interval says how large a difference may be."
)
_CAPTION = (
    "Mean ± standard deviation over n seeds, after the last epoch; what is of training is averaged over it. "
    "Epochs are those to a test task loss of {reach:g}; runs that never reach it are left out."
)


def _summary(found: Results) -> str:
    seeds = len(next(iter(found.numbers["accuracy"].values())))
    note = f"{found.note}\n\n" if found.note else ""
    return note + (
        f"{len(found.arms)} arms, {seeds} seeds each: a {found.study['student']['model']} student of a "
        f"{found.study['teacher']['model']} teacher on {found.study['data']}. For a seed, all arms share teacher, "
        "initial weights and order of the data, and differ in what is said of them alone; so they are compared "
        "pairwise by seed."
    )
