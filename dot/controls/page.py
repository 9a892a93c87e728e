"""The report of a study with controls: what was found, its tables, a figure for each baseline, and how to repeat it."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure

import landscape as ls
from dot.config import METHODS
from dot.controls.measuring import MEASURES
from dot.controls.results import SHOWN, Results, differences, means
from landscape import report
from landscape.plot import Effect
from landscape.provenance import versions
from landscape.report import Code, Folded, Link, Part, Picture, Point, Points, Report, Section, Table

_FEW = 3
_COLUMNS = 6
"""Measures in a table, so that it fits a page."""


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
    """Write ``controls.html``, beside ``controls.json``, and ``figures/against-<baseline>``.

    Raises:
        OSError: A file cannot be written.
    """
    pictures = []
    for baseline in found.baselines:
        drawn = figure(found, baseline)
        ls.plot.save(drawn, folder / "figures" / f"against-{baseline}")
        title = f"Every arm against {baseline}"
        pictures.append(Picture(f"against-{baseline}", title, _MEANING.format(baseline=baseline), drawn))
    report.write(folder / "controls.html", compose(found, pictures))


def compose(found: Results, pictures: list[Picture]) -> Report:
    """The report, with the figures of `figure`."""
    note = [part.strip() for part in found.note.split("\n\n") if part.strip()]
    question = (
        "Which part of a method makes the difference? A method and its controls, each of which changes one thing: in "
        "accuracy, in both losses, in curvature and in whether the gradients of task loss and distillation loss agree."
    )
    made: list[Part] = [f"Made {found.made['created_at']} on {found.made['machine']} by:", Code(found.made["command"])]
    return Report(
        f"Study {found.name}: a method and its controls",
        [question, *note],
        [
            Section("What was found", [_found(found), _READ]),
            Section("Setting", _setting(found)),
            Section("Numbers", _numbers(found)),
            Section("Figures", pictures),
            Section("What was not measured", [_not_measured(found)]),
            Section("How to repeat it", made),
            Section("Environment", [_environment(found)]),
        ],
    )


def _found(found: Results) -> Points:
    """Against each baseline, which arms differ in which measure, and in which it cannot tell."""
    return Points(
        [
            Point(_of_measure(found, baseline, measure), head=f"{MEASURES[measure].short} against {baseline}:")
            for baseline in found.baselines
            for measure in SHOWN
        ]
    )


def _of_measure(found: Results, baseline: str, measure: str) -> str:
    arms: dict[str, list[str]] = {}
    for arm, compared in found.comparisons(baseline, measure).items():
        arms.setdefault(compared.verdict, []).append(arm)
    said = [f"{verdict} in {', '.join(arms[verdict])}" for verdict in ("higher", "lower") if verdict in arms]
    left = [arm for verdict in ("no difference found", "too few pairs") for arm in arms.get(verdict, ())]
    said += [f"it cannot tell {'the others' if said and len(left) > 1 else ', '.join(left)}"] if left else []
    return f"{'; '.join(said)}."


def _setting(found: Results) -> list[Part]:
    seeds = len(next(iter(found.numbers["accuracy"].values())))
    arms = [
        Point(f"{METHODS[arm['method']]}{_changed(arm)}. {arm['about']}", head=f"{name}:")
        for name, arm in found.arms.items()
    ]
    return [
        f"{len(found.arms)} arms, {seeds} seeds each: a {found.study['student']['model']} student of a "
        f"{found.study['teacher']['model']} teacher on {found.study['data']}. For a seed, all arms share teacher, "
        "initial weights and order of the data, and differ in what is said of them alone; so they are compared "
        "pairwise by seed.",
        Points(arms),
        Folded("What all arms share", [Code(json.dumps(found.study, indent=2))]),
    ]


def _changed(arm: dict[str, dict[str, object]]) -> str:
    values = [f"{part}.{key}={value}" for part in ("train", "losses") for key, value in arm[part].items()]
    return f" with {', '.join(values)}" if values else ""


def _numbers(found: Results) -> list[Part]:
    caption = _CAPTION.format(reach=found.reach)
    others = [measure for measure in MEASURES if measure not in SHOWN]
    more: list[Part] = [
        _table(caption, means(found, others[i : i + _COLUMNS])) for i in range(0, len(others), _COLUMNS)
    ]
    return [
        _table(caption, means(found)),
        *(_table(_DIFFERENCES.format(baseline=b), differences(found, b)) for b in found.baselines),
        Folded("Every other measure", more),
        Link("Every comparison, with p after Holm and effect size: controls.json.", "controls.json"),
    ]


def _table(caption: str, rows: list[list[str]]) -> Table:
    return Table(caption, rows[0], rows[1:])


def _not_measured(found: Results) -> Points:
    seeds = {arm: len(of) for arm, of in found.numbers["accuracy"].items()}
    few = [f"{arm} ({n})" for arm, n in seeds.items() if n < _FEW]
    points = [f"Enough seeds: fewer than {_FEW} say little of how seeds differ: {', '.join(few)}."] if few else []
    points += [
        f"What becomes of {arm} with seeds {', '.join(map(str, lost))}: its loss was no longer finite."
        for arm, lost in found.diverged.items()
    ]
    unknown = [
        MEASURES[measure].name
        for measure, arms in found.numbers.items()
        if not any(value == value for of_seed in arms.values() for value in of_seed.values())
    ]
    points += [f"In no run: {', '.join(unknown)}."] if unknown else []
    points += [
        "Flatness by other measures than curvature and basin widths, along random lines.",
        "Other settings: one data set, one pair of networks. What is not named by an arm was not varied.",
    ]
    return Points([Point(text) for text in points])


def _environment(found: Results) -> Table:
    here = versions()
    made = found.made["versions"]
    rows = [[name, str(made.get(name, "")), here.get(name, "")] for name in dict.fromkeys([*made, *here])]
    return Table(
        "Programs and machines.", ["", "comparison", "this report"], [*rows, ["machine", found.made["machine"], ""]]
    )


_MEANING = (
    "Differences from {baseline} within each seed: their mean and its 95 % interval (Student's t). Filled where a "
    "difference was found at level 0.05, corrected by Holm for all arms of a column. A hollow one is no proof of "
    "equality: its interval says how large a difference may be."
)
_READ = (
    "A difference is said where the paired t test over seeds finds one at level 0.05, corrected (Holm) for all arms "
    "of a measure, not for how many measures there are. Where it cannot tell, that does not show that there is none."
)
_DIFFERENCES = (
    "Differences from {baseline} within each seed: their mean and its 95 % interval (Student's t); a star where a "
    "difference was found."
)
_CAPTION = (
    "Mean ± standard deviation over n seeds, after the last epoch; what is of training is averaged over it. "
    "Epochs are those to a test task loss of {reach:g}; runs that never reach it are left out."
)
