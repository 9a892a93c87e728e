"""What was not measured, and the command that would: from what the files of the runs hold and do not hold."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import landscape as ls
from dot import findings as files
from dot.findings import Findings
from dot.runs import Run
from dot.wording import Named, directions, finite, told
from landscape.report import Point, Points
from landscape.results import NOT_FINITE, PENDING

_ANEW = " It is kept while training, and a finished run is not trained again: this needs a new run, in another folder"
_FEW = 3
"""Seeds below which a spread over them says next to nothing."""


def not_measured(findings: Findings, folder: Path | None = None) -> Points:
    """One point for each thing that a reader might take for measured.

    Args:
        findings: What the runs hold.
        folder: Where the commands are typed; the current one by default.
    """
    return Points(
        [
            *_seeds(findings),
            *_files(findings, folder),
            *_surfaces(findings, folder),
            *_flatness(findings, folder),
            *_gradients(findings, folder),
            Point(
                "Other settings: one data set, one pair of networks, one recipe. No method was tuned for itself, so "
                "this does not rank them in general."
            ),
        ]
    )


def _seeds(findings: Findings) -> list[Point]:
    few = {name: len(group) for name, group in findings.groups.items() if len(group) < _FEW}
    alone = {len(group) for group in findings.groups.values()} == {1}
    points = []
    if few:
        had = "one seed" if alone else ", ".join(f"{name}: {n}" for name, n in few.items())
        points.append(Point(f"Enough seeds: fewer than {_FEW} ({had}) say little of how seeds differ."))
    seeds = {tuple(run.config.seed for run in group) for group in findings.groups.values()}
    if len(seeds) > 1:
        points.append(Point("The same seeds of each method: only those that two methods share are compared."))
    if len(findings.groups) < 2:
        points.append(Point("Another method: there is nothing to compare with."))
    return points


def _files(findings: Findings, folder: Path | None) -> list[Point]:
    kinds: tuple[tuple[str, Callable[[Run], Path], str, str], ...] = (
        ("The plane around the minimum", files.plane_of, "dot-landscape surface {run}", ""),
        ("Lines through the minimum", files.lines_of, "dot-landscape surface {run} --lines 20 --x -1 1 41", ""),
        (
            "The conflict of the two gradients while training",
            lambda run: run.conflict,
            "",
            f"{_ANEW}, with record.every above 0.",
        ),
        (
            "Losses and accuracy in each epoch",
            lambda run: run.path / "metrics.jsonl",
            "",
            f"{_ANEW}.",
        ),
    )
    points = []
    for what, where, command, note in kinds:
        without = [run for run in findings.runs if not where(run).exists()]
        if without:
            name = where(without[0]).name
            which = "any run" if len(without) == len(findings.runs) else ", ".join(run.path.name for run in without)
            points.append(Point(f"{what} of {which}: there is no {name}.{note}", _each(command, without, folder)))
    return points


def _each(command: str, runs: Sequence[Run], folder: Path | None) -> str:
    return "\n".join(command.format(run=_typed(run, folder)) for run in runs) if command else ""


def _typed(run: Run, folder: Path | None) -> str:
    """The path of a run, as it is typed."""
    return shlex.quote(str(run.path if folder is None else os.path.relpath(run.path, folder)))


def _surfaces(findings: Findings, folder: Path | None) -> list[Point]:
    planes, lines = list(findings.planes.values()), [one for seeds in findings.lines.values() for one in seeds]
    every, shown = [*planes, *lines], {name: [plane] for name, plane in findings.planes.items()}
    points = [*_nothing("planes", shown), *_nothing("lines", findings.lines)]
    if findings.planes:
        points.append(
            Point(
                f"More than one plane: each student has one, of two {told(shown, directions)}, and the figures show "
                f"that of seed {findings.seed}. What rests on many directions are the curves and the measures of "
                "flatness."
            )
        )
    without = [run for run in findings.runs if not (run.path / "surface-test.h5").exists()]
    if without and every and all(one.attrs.get("split") == "train" for one in every):
        points.append(
            Point(
                "Surfaces of the test images: all of these are of training images.",
                _each("dot-landscape surface {run} --split test", without[:1], folder),
            )
        )
    return points + [
        Point(f"Cells of {kind}: {n} {said}.")
        for kind, of in (("planes", planes), ("lines", lines))
        for n, said in _cells(of)
        if n
    ]


def _nothing(kind: str, surfaces: Named) -> list[Point]:
    """The losses of which surfaces have nothing to show."""
    every = [one for group in surfaces.values() for one in group]
    terms = dict.fromkeys(term for one in every for term in one.terms)
    return [
        Point(f"{term} of all {kind}: no cell has a finite value, so there is no figure of it.")
        for term in terms
        if not any(term in one.terms and finite(one, term) for one in every)
    ]


def _cells(surfaces: Sequence[ls.Surface]) -> list[tuple[int, str]]:
    """How many are pending and not finite."""
    return [
        (sum(int((one.status == status).sum()) for one in surfaces), said)
        for status, said in (
            (PENDING, "are pending; the command that measured them goes on"),
            (NOT_FINITE, "have a loss that is not finite"),
        )
    ]


def _flatness(findings: Findings, folder: Path | None) -> list[Point]:
    runs = " ".join(_typed(run, folder) for run in findings.runs)
    if not findings.flat:
        return [Point("Flatness, alike on all runs.", f"dot-landscape sharpness {runs}")]
    had = set.intersection(*(set(one.keys()) for group in findings.flat.values() for one in group))
    lacking = [key for key in ls.sharpness.names() if key not in had]
    why = {key: text for group in findings.flat.values() for one in group for key, text in one.left_out.items()}
    others = {"of the distillation loss": ("train-kd", "--term kd"), "on the test images": ("test-ce", "--split test")}
    points = [
        Point(f"Flatness {what}.", f"dot-landscape sharpness {how} {runs}")
        for what, (kept, how) in others.items()
        if not all(list(run.path.glob(f"flatness-{kept}-*.h5")) for run in findings.runs)
    ]
    if lacking:
        told = ", ".join(f"{key} ({why[key]})" if key in why else key for key in lacking)
        points.append(
            Point(
                f"Some measures of flatness: {told}.",
                "" if why.keys() >= set(lacking) else f"dot-landscape sharpness {runs}",
            )
        )
    return points


def _gradients(findings: Findings, folder: Path | None) -> list[Point]:
    if not findings.conflicts:
        return []
    points = []
    without = [run for run in findings.runs if not (run.path / "conflict-measured.h5").exists()]
    if without and all(one.whole is None for seeds in findings.conflicts.values() for one in seeds):
        points.append(
            Point(
                "The cosine of the gradients over all the images: what was recorded is of single batches, whose noise "
                "biases it.",
                _each("dot-landscape conflict {run}", without[:1], folder),
            )
        )
    if findings.heldout:
        points.append(
            Point(
                "Held-out gradients of more than one batch: the cosine is that of one fixed batch of "
                f"{findings.runs[0].config.record.heldout} test images."
            )
        )
    if all(not len(one.step) for seeds in findings.conflicts.values() for one in seeds):
        points.append(Point("The cosine on training batches: nothing was recorded while training (record.every is 0)."))
    return points
