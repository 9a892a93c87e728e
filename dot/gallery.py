"""The figures and the report of a study, drawn from its run folders; nothing is computed that is not in their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from plotly.graph_objects import Figure as Page

import landscape as ls
from dot.config import METHODS
from dot.runs import Run
from landscape import report, store
from landscape.progress import bar
from landscape.report import Section, Table
from landscape.sharpness import Verdict

_LOSSES = {"ce": "task loss", "kd": "distillation loss"}
_CAPTION = (
    "Mean ± standard deviation over seeds (n). Losses and accuracy on the test images; gradient cosine averaged over "
    "training, on training batches (augmented, in train mode, on the way of each method) and on a fixed held-out batch "
    "(in eval mode)."
)
Group = Mapping[str, Sequence[Run]]
"""Measured runs of each method, by its name in figures, in the order of their seeds."""


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs grouped by method, in the order of `METHODS`, each group in the order of its seeds.

    Raises:
        ValueError: Runs of a method differ in more than their seed, or methods have no seed in common.
    """
    groups = {}
    for method, name in METHODS.items():
        group = sorted((run for run in runs if run.config.method == method), key=lambda run: run.config.seed)
        if group:
            groups[name] = group
            _refuse_mixed(group)
    if not set.intersection(*({run.config.seed for run in group} for group in groups.values())):
        raise ValueError("the methods must have a seed in common, to be compared. Got none: add runs of the same seed.")
    return groups


def _refuse_mixed(group: Sequence[Run]) -> None:
    first = asdict(group[0].config)
    for run in group[1:]:
        other = asdict(run.config)
        differing = [key for key in first if key != "seed" and first[key] != other[key]]
        if differing or other["seed"] == first["seed"]:
            raise ValueError(
                f"runs of a method must differ in their seed alone. Got {group[0].path.name} and {run.path.name}, "
                f"which differ in {', '.join(differing) or 'nothing'}."
            )


def _one_seed(groups: Group) -> tuple[int, dict[str, Run]]:
    """The smallest seed that all methods have, and its run of each."""
    seed = min(set.intersection(*({run.config.seed for run in runs} for runs in groups.values())))
    return seed, {name: next(run for run in runs if run.config.seed == seed) for name, runs in groups.items()}


@dataclass(frozen=True)
class Picture:
    """A figure still to be drawn: the name of its file, its title, what it means, and how to draw it."""

    name: str
    title: str
    meaning: str
    draw: Callable[[], Figure | Page]


def pictures(groups: Group, verdict: Verdict | None = None) -> list[Picture]:
    """Every figure of a study, in the order of the report; those on flatness where there is a verdict."""
    lines = {name: [store.load_surface(run.path / "lines.h5") for run in runs] for name, runs in groups.items()}
    seed, shown = _one_seed(groups)
    planes = {name: store.load_surface(run.path / "surface.h5") for name, run in shown.items()}
    conflicts = {name: [store.load_conflict(run.conflict) for run in runs] for name, runs in groups.items()}
    heldout = {name: [conflict.groups["heldout"] for conflict in found] for name, found in conflicts.items()}
    return [
        *(_curves(lines, term, name) for term, name in _LOSSES.items()),
        *(_flatness(verdict) if verdict is not None else ()),
        *(_contours(planes, term, name, seed) for term, name in _LOSSES.items()),
        Picture(
            "explore",
            "The task loss in a random plane, in 3-D",
            "The same plane, on one height and colour scale; drag to rotate it, point at it to read a value. One "
            f"student (seed {seed}) of each method.",
            lambda: ls.explore(planes, term="ce"),
        ),
        Picture(
            "tradeoff",
            "Task loss against distillation loss over training",
            "Each line follows both losses on the test images from epoch to epoch, from the hollow marker to the "
            "filled one; crosses are where the learning rate drops. Lower and further left is better in both; a method "
            "that lowers one loss at the cost of the other moves up or to the right.",
            lambda: tradeoff(groups),
        ),
        Picture(
            "cosine",
            "Do the two gradients agree?",
            "The cosine between the gradients of the task loss and of the distillation loss on a fixed held-out "
            "batch, once an epoch: at 1 they pull the same way, below 0 they conflict. It is that of one batch, not "
            "of the whole data set.",
            lambda: ls.plot.cosine(heldout),
        ),
        Picture(
            "layers",
            "Where in the network they disagree",
            "The same cosine for the weights of each layer, averaged over training. A layer to the left is one in "
            "which the two losses pull apart.",
            lambda: ls.plot.layers(heldout),
        ),
    ]


def _flatness(verdict: Verdict) -> list[Picture]:
    return [
        Picture(
            "verdicts",
            "Can the methods be told apart?",
            "Each measure of flatness on the training images, for every two methods: the ratio of the first to the "
            "second within each seed. Coloured where they are told apart at level 0.05 (paired t test, Holm for the "
            "pairs of a measure, not for the number of measures); else no difference was found, which does not show "
            "that there is none.",
            lambda: ls.plot.verdicts(verdict),
        ),
        Picture(
            "flatness",
            "How flat are the minima?",
            "Each measure in each method: a dot a seed, and their mean with its 95 % interval over seeds and "
            "directions. The heading says whether a flat minimum has a small or a large value.",
            lambda: ls.plot.flatness(verdict),
        ),
    ]


def _curves(lines: Mapping[str, Sequence[ls.Surface]], term: str, name: str) -> Picture:
    return Picture(
        f"curves-{term}",
        f"The {name} along random directions",
        f"How fast the {name} on the training images rises when the trained weights move along filter-normalised "
        "random directions; a flatter curve is a flatter minimum. The band shows how far directions and seeds differ, "
        "which a single curve would hide.",
        lambda: ls.plot.curves(lines, term=term),
    )


def _contours(planes: Mapping[str, ls.Surface], term: str, name: str, seed: int) -> Picture:
    return Picture(
        f"contours-{term}",
        f"The {name} in a random plane",
        f"The {name} on the training images in the plane of two random directions, one student (seed {seed}) of each "
        "method, all on one colour scale. A single plane is an illustration: the numbers in the table rest on many "
        "directions and all seeds.",
        lambda: ls.plot.contour(planes, term=term),
    )


def tradeoff(groups: Group) -> Figure:
    """Both losses on the test images over training, with marks where the learning rate drops.

    Raises:
        ValueError: A run has no distillation loss, being a teacher.
    """
    drops = {name: runs[0].config.train.milestones for name, runs in groups.items()}
    return ls.plot.tradeoff(paths(groups), labels=("task loss (test)", "distillation loss (test)"), marks=drops)


def paths(groups: Group) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Task and distillation loss on the test images after each epoch, for each method and seed.

    Raises:
        ValueError: A run has no distillation loss, being a teacher.
    """
    return {name: [(_losses(run, "ce"), _losses(run, "kd")) for run in runs] for name, runs in groups.items()}


def _losses(run: Run, term: str) -> np.ndarray:
    found = [epoch["test"] for epoch in run.metrics]
    if any(term not in numbers for numbers in found):
        raise ValueError(f"runs must be students. Got {run.path}, which has no {term!r}: is it the teacher?")
    return np.array([numbers[term] for numbers in found], np.float64)


def draw(
    title: str,
    summary: str,
    groups: Group,
    table: Sequence[Sequence[str]],
    verdict: Verdict | None,
    details: Mapping[str, str],
    page: Path,
    folder: Path | None = None,
) -> None:
    """Write the report: one page with the table, every figure with what it means, and how to repeat it.

    Args:
        title: Heading of the page.
        summary: Its first paragraphs.
        groups: Measured runs.
        table: Their numbers, as `dot.outcome.table` gives them.
        verdict: On their flatness; None where it was not measured.
        details: Text to unfold, by heading.
        page: The report.
        folder: Where given, each figure is written there too: PDF and PNG, and a page for the one in 3-D.

    Raises:
        OSError: A file cannot be written.
    """
    sections = []
    todo = pictures(groups, verdict)
    with bar(len(todo) + 1, "figures and report", "figure") as progress:
        for picture in todo:
            figure = picture.draw()
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                _write_figure(figure, folder / picture.name)
            sections.append(Section(picture.title, picture.meaning, figure))
            progress.update()
        heading, *rows = table
        if verdict is not None:
            details = {"Flatness, in words": str(verdict), **details}
        report.write(page, report.page(title, summary, Table(_CAPTION, heading, rows), sections, details))


def _write_figure(figure: Figure | Page, stem: Path) -> None:
    if isinstance(figure, Figure):
        ls.plot.save(figure, stem)
    else:
        report.write(stem.with_suffix(".html"), figure.to_html())
