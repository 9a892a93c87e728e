"""The figures of runs and what each means, and their report; nothing is computed that is not in their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import landscape as ls
from dot import wording
from dot.config import METHODS
from dot.findings import Findings, Groups
from dot.runs import Run
from landscape import report
from landscape.progress import bar
from landscape.sharpness import Verdict

_LOSSES = {"ce": "task loss", "kd": "distillation loss"}


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


@dataclass(frozen=True)
class Picture:
    """A figure still to be drawn: the name of its file, its title, what it means, and how to draw it."""

    name: str
    title: str
    meaning: str
    draw: Callable[[], Figure]


def pictures(findings: Findings) -> list[Picture]:
    """Every figure that the runs have the files for, in the order of the report."""
    return [
        *(_curves(findings, term) for term in _known(findings.lines)),
        *(_flatness(findings.verdict) if findings.verdict is not None else ()),
        *_planes(findings),
        *_tradeoff(findings.groups),
        *(_gradients(findings.heldout) if findings.heldout else ()),
    ]


def _known(surfaces: Mapping[str, Sequence[ls.Surface]]) -> list[str]:
    """The losses that all surfaces have and of which there is anything to see, if there are any."""
    every = [surface for group in surfaces.values() for surface in group]
    return [
        term
        for term in _LOSSES
        if all(term in surface.terms for surface in every) and any(wording.finite(surface, term) for surface in every)
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
            "directions. The arrow points to where a minimum is flatter.",
            lambda: ls.plot.flatness(verdict),
        ),
    ]


def _curves(findings: Findings, term: str) -> Picture:
    name = _LOSSES[term]
    flat = "a flatter curve is a flatter minimum"
    if not wording.scaled(findings.lines):
        flat = "as these are not scaled alike, a flatter curve need not be a flatter minimum"
    return Picture(
        f"curves-{term}",
        f"The {name} along {'random directions' if wording.random(findings.lines) else 'lines'}",
        f"How fast the {name} on {wording.told(findings.lines, wording.images)} rises when the trained weights move "
        f"along {wording.told(findings.lines, wording.directions)}; {flat}. The band shows how far directions and "
        "seeds differ, which a single curve would hide.",
        lambda: ls.plot.curves(findings.lines, term=term),
    )


def _contours(findings: Findings, term: str) -> Picture:
    name, planes = _LOSSES[term], _each(findings.planes)
    kind = "random plane" if wording.random(planes) else "plane"
    return Picture(
        f"contours-{term}",
        f"The {name} in a {kind}",
        f"The {name} on {wording.told(planes, wording.images)} in the plane of two "
        f"{wording.told(planes, wording.directions)}, one student (seed {findings.seed}) of each method, all on one "
        "colour scale. A single plane is an illustration: the numbers in the table rest on many directions and all "
        "seeds.",
        lambda: ls.plot.contour(findings.planes, term=term),
    )


def _planes(findings: Findings) -> list[Picture]:
    planes = _each(findings.planes)
    terms, kind = _known(planes), "random plane" if wording.random(planes) else "plane"
    relief = Picture(
        "relief",
        f"The task loss in a {kind}, in 3-D",
        "The same planes as surfaces, all on one scale, which height and colour both show; holes are cells without a "
        "value.",
        lambda: ls.plot.relief(findings.planes, term="ce"),
    )
    return [*(_contours(findings, term) for term in terms), *([relief] if "ce" in terms else [])]


def _each(planes: Mapping[str, ls.Surface]) -> dict[str, list[ls.Surface]]:
    return {name: [plane] for name, plane in planes.items()}


def _tradeoff(groups: Groups) -> list[Picture]:
    if not all(run.metrics for group in groups.values() for run in group):
        return []
    milestones = any(run.config.train.milestones for group in groups.values() for run in group)
    drops = "; crosses are where the learning rate drops" if milestones else ""
    return [
        Picture(
            "tradeoff",
            "Task loss against distillation loss over training",
            "Each line follows both losses on the test images from epoch to epoch, from the hollow marker to the "
            f"filled one{drops}. Lower and further left is better in both; a method that lowers one loss at the cost "
            "of the other moves up or to the right.",
            lambda: tradeoff(groups),
        )
    ]


def _gradients(heldout: Mapping[str, Sequence[ls.Conflict]]) -> list[Picture]:
    return [
        Picture(
            "cosine",
            "Do the two gradients agree?",
            "The cosine between the gradients of the task loss and of the distillation loss on a fixed held-out "
            "batch, once an epoch: at 1 they pull the same way, below 0 they conflict. It is that of one batch, not "
            "of the whole data set.",
            lambda: ls.plot.cosine(heldout),
        ),
        Picture(
            "decomposition",
            "What they share, and what is left of each",
            "The same two gradients, each split into a part that both share and one that the other does not (see "
            "landscape.conflict.decompose): how large each part is, over training.",
            lambda: ls.plot.decomposition(heldout),
        ),
        Picture(
            "layers",
            "Where in the network they disagree",
            "The same cosine for the weights of each layer, averaged over training. A layer to the left is one in "
            "which the two losses pull apart.",
            lambda: ls.plot.layers(heldout),
        ),
        Picture(
            "heatmap",
            "Where and when they disagree",
            "The same cosine in each layer over training, of the first seed of each method: red and dark is conflict, "
            "blue and light is agreement.",
            lambda: ls.plot.heatmap({name: seeds[0] for name, seeds in heldout.items()}),
        ),
    ]


def tradeoff(groups: Groups) -> Figure:
    """Both losses on the test images over training, with marks where the learning rate drops.

    Raises:
        ValueError: A run has no distillation loss, being a teacher.
    """
    drops = {name: runs[0].config.train.milestones for name, runs in groups.items()}
    return ls.plot.tradeoff(paths(groups), labels=("task loss (test)", "distillation loss (test)"), marks=drops)


def paths(groups: Groups) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
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


def draw(findings: Findings, folder: Path | None = None) -> list[report.Picture]:
    """Draw every figure, for the report.

    Args:
        findings: What the runs hold.
        folder: Where given, each figure is written there too, as PDF, SVG and PNG.

    Raises:
        OSError: A file cannot be written.
    """
    drawn = []
    todo = pictures(findings)
    with bar(len(todo), "figures", "figure") as progress:
        for picture in todo:
            figure = picture.draw()
            if folder is not None:
                ls.plot.save(figure, folder / picture.name)
            drawn.append(report.Picture(picture.name, picture.title, picture.meaning, figure))
            progress.update()
    return drawn
