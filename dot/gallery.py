"""The figures and the report of a study, drawn from its run folders; nothing is computed that is not in their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from plotly.graph_objects import Figure as Page

import landscape as ls
from dot.config import METHODS
from dot.outcome import Student, table
from dot.runs import Run
from landscape import report, store
from landscape.progress import bar
from landscape.report import Section, Table

_LOSSES = {"ce": "task loss", "kd": "distillation loss"}
_CAPTION = (
    "Mean ± standard deviation over seeds (n). Losses and accuracy on the test images; basin widths and curvature of "
    "the task loss on the training images, each student's the mean over random filter-normalised directions, in filter "
    "norms; gradient cosine on training batches, averaged over training. ≥: some lines ended before the rise."
)
Group = Mapping[str, Sequence[Run]]
"""Measured runs of each method, by its name in figures, in the order of their seeds."""


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs grouped by method, in the order in which methods first appear."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(METHODS[run.config.method], []).append(run)
    return groups


@dataclass(frozen=True)
class Picture:
    """A figure still to be drawn: the name of its file, its title, what it means, and how to draw it."""

    name: str
    title: str
    meaning: str
    draw: Callable[[], Figure | Page]


def pictures(groups: Group) -> list[Picture]:
    """Every figure of a study, in the order of the report."""
    lines = {name: [store.load_surface(run.path / "lines.h5") for run in runs] for name, runs in groups.items()}
    planes = {name: store.load_surface(runs[0].path / "surface.h5") for name, runs in groups.items()}
    conflicts = {name: [store.load_conflict(run.conflict) for run in runs] for name, runs in groups.items()}
    heldout = {name: [conflict.groups["heldout"] for conflict in found] for name, found in conflicts.items()}
    seed = next(iter(groups.values()))[0].config.seed
    return [
        *(_curves(lines, term, name) for term, name in _LOSSES.items()),
        *(_contours(planes, term, name, seed) for term, name in _LOSSES.items()),
        Picture(
            "explore",
            "The task loss to turn around",
            "The task-loss plane in 3-D, on one height and colour scale; drag to turn, point to read a value. One "
            f"student (seed {seed}) of each method.",
            lambda: ls.explore(planes, term="ce"),
        ),
        Picture(
            "tradeoff",
            "Task loss against distillation loss over training",
            "Each line is the way a method takes through both losses on the test images, an epoch a step, from the "
            "hollow marker to the filled one. Lower and further left is better in both; a method that lowers one at "
            "the cost of the other moves along the diagonal.",
            lambda: ls.plot.tradeoff(paths(groups), labels=("task loss (test)", "distillation loss (test)")),
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


def paths(groups: Group) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Task and distillation loss on the test images after each epoch, for each method and seed."""
    return {
        name: [
            (
                np.array([epoch["test"]["ce"] for epoch in run.metrics]),
                np.array([epoch["test"]["kd"] for epoch in run.metrics]),
            )
            for run in runs
        ]
        for name, runs in groups.items()
    }


def draw(
    title: str,
    summary: str,
    groups: Group,
    students: Sequence[Student],
    details: Mapping[str, str],
    page: Path,
    folder: Path | None = None,
) -> None:
    """Write the report: one page with the table, every figure with what it means, and how to repeat it.

    Args:
        title: Heading of the page.
        summary: Its first paragraphs.
        groups: Measured runs.
        students: Their numbers.
        details: Text to unfold, by heading.
        page: The report.
        folder: Where given, each figure is written there too: PDF and PNG, and a page for the one in 3-D.

    Raises:
        OSError: A file cannot be written.
    """
    sections = []
    todo = pictures(groups)
    with bar(len(todo) + 1, "figures and report", "figure") as progress:
        for picture in todo:
            figure = picture.draw()
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                _write_figure(figure, folder / picture.name)
            sections.append(Section(picture.title, picture.meaning, figure))
            progress.update()
        heading, *rows = table(students)
        report.write(page, report.page(title, summary, Table(_CAPTION, heading, rows), sections, details))


def _write_figure(figure: Figure | Page, stem: Path) -> None:
    if isinstance(figure, Figure):
        ls.plot.save(figure, stem)
    else:
        report.write(stem.with_suffix(".html"), figure.to_html())
