"""The figures and the report of a study, drawn from its run folders; nothing is computed that is not in their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from plotly.graph_objects import Figure as Page

import landscape as ls
from dot.config import METHODS
from dot.outcome import Student, table
from dot.runs import Run
from landscape import store
from landscape.report import Section, Table, page, write

Group = Mapping[str, Sequence[Run]]
"""Measured runs of each method, by its name in figures, in the order of their seeds."""


def by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs grouped by method, in the order in which methods first appear."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(METHODS[run.config.method], []).append(run)
    return groups


def figures(groups: Group) -> dict[str, tuple[Figure, str, str]]:
    """Every figure of a study: ``{file name: (figure, title, meaning)}``."""
    lines = {name: [store.load_surface(run.path / "lines.h5") for run in runs] for name, runs in groups.items()}
    planes = {name: store.load_surface(runs[0].path / "surface.h5") for name, runs in groups.items()}
    conflicts = {name: [store.load_conflict(run.conflict) for run in runs] for name, runs in groups.items()}
    heldout = {name: [conflict.groups["heldout"] for conflict in found] for name, found in conflicts.items()}
    seed = next(iter(groups.values()))[0].config.seed
    drawn: dict[str, tuple[Figure, str, str]] = {}
    for term, name in (("ce", "task loss"), ("kd", "distillation loss")):
        drawn[f"curves-{term}"] = (
            ls.plot.curves(lines, term=term),
            f"The {name} along random directions",
            f"How fast the {name} on the training images rises when the trained weights move along filter-normalised "
            "random directions; a flatter curve is a flatter minimum. The band shows how much directions and seeds "
            "differ: where bands overlap, these data do not tell the methods apart.",
        )
        drawn[f"contours-{term}"] = (
            ls.plot.contour(planes, term=term),
            f"The {name} in a random plane",
            f"The {name} on the training images in the plane of two random directions, one student (seed {seed}) of "
            "each method, all on one colour scale. A single plane is an illustration: the numbers in the table rest "
            "on many directions and all seeds.",
        )
    drawn["tradeoff"] = (
        ls.plot.tradeoff(paths(groups), labels=("task loss (test)", "distillation loss (test)")),
        "Task loss against distillation loss over training",
        "Each line is the way a method takes through both losses on the test images, an epoch a step, from the hollow "
        "marker to the filled one. Lower and further left is better in both; a method that lowers one at the cost of "
        "the other moves along the diagonal.",
    )
    drawn["cosine"] = (
        ls.plot.cosine(heldout),
        "Do the two gradients agree?",
        "The cosine between the gradients of the task loss and of the distillation loss on a fixed held-out batch, "
        "once an epoch: at 1 they pull the same way, below 0 they conflict. It is a mini-batch cosine, which is "
        "nearer to 0 than that of the whole data set would be.",
    )
    drawn["layers"] = (
        ls.plot.layers(heldout),
        "Where in the network they disagree",
        "The same cosine for the weights of each layer, averaged over training. A layer to the left is one in which "
        "the two losses pull apart.",
    )
    return drawn


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


def explorer(groups: Group) -> Page:
    """The task-loss surfaces of one student of each method, side by side in 3-D."""
    planes = {name: store.load_surface(runs[0].path / "surface.h5") for name, runs in groups.items()}
    return ls.explore(planes, term="ce")


def report(
    path: Path, title: str, summary: str, groups: Group, students: Sequence[Student], details: Mapping[str, str]
) -> None:
    """Write the report: one page with the table, every figure with what it means, and how to repeat it.

    Raises:
        OSError: The page cannot be written.
    """
    heading, *rows = table(students)
    caption = (
        "Mean ± standard deviation over seeds (n). Losses and accuracy on the test images; basin widths and curvature "
        "of the task loss on the training images, each student's the mean over random filter-normalised directions, in "
        "filter norms; gradient cosine on training batches, averaged over training. ≥: some lines ended before that."
    )
    sections = [Section(title, meaning, figure) for figure, title, meaning in figures(groups).values()]
    sections.insert(
        2,
        Section(
            "The same surfaces to turn around",
            "Task loss over the same plane, on one height and colour scale; drag to turn, point to read a value. One "
            "student of each method.",
            explorer(groups),
        ),
    )
    write(path, page(title, summary, Table(caption, heading, rows), sections, details))
