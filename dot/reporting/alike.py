"""Whether what was measured on runs is what a study measures: every value that their files tell is compared."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import landscape as ls
from dot import flatness
from dot.config import Measuring
from dot.findings import Findings, lines_of, plane_of
from dot.runs import Run
from landscape.grid import Grid1D
from landscape.sharpness import Flatness

KINDS = ("planes", "lines", "flatness")
_USUAL = {
    "kind": "random",
    "normalize": "filter",
    "ignore": "biasbn",
    "bn_mode": "eval",
    "precision": "float32",
    "split": "train",
    "data_shard": "0/1",
}
"""What the surfaces of a study say of themselves."""
_OTHERS = {"--orthogonal", "--directions", "--problem", "--epoch"}
"""Options by which a surface is another one, and its attributes may not say so."""


def unlike(findings: Findings, use: Measuring) -> list[str]:
    """Those of `KINDS` of which a file is not as a study would make it that measures ``use``."""
    found = {kind for run in findings.runs for kind in _of_run(run, findings, use)}
    if findings.asked is not None and (
        replace(findings.asked, measures=()) != replace(flatness.asked(use), measures=())
        or any(names != set(use.flatness or ls.sharpness.names()) for names in names_of(findings))
    ):
        found.add("flatness")
    return [kind for kind in KINDS if kind in found]


def names_of(findings: Findings) -> list[set[str]]:
    """The measures of each run's flatness, those among them that could not be measured too."""
    flat = [one for one in findings.files.values() if isinstance(one, Flatness)]
    return [{*one.keys(), *one.left_out} for one in flat]


def _of_run(run: Run, findings: Findings, use: Measuring) -> Iterator[str]:
    flat = None if findings.asked is None else findings.files.get(flatness.kept_at(run, findings.asked))
    plane, lines = findings.files.get(plane_of(run)), findings.files.get(lines_of(run))
    if isinstance(plane, ls.Surface):
        x = Grid1D((-use.plane_extent, use.plane_extent, use.plane_points)).xs
        fits = plane.dims == ("y", "x") and _equal(plane.x, x) and _equal(plane.y, x)
        if not (fits and plane.attrs.get("seed") == use.seed and _usual(plane, flat)):
            yield "planes"
    if isinstance(lines, ls.Surface):
        x = Grid1D((-use.line_extent, use.line_extent, use.line_points)).xs
        fits = lines.dims == ("direction", "x") and len(lines.status) == use.directions and _equal(lines.x, x)
        if not (fits and lines.attrs.get("seed") == use.seed + run.config.seed and _usual(lines, flat)):
            yield "lines"


def _equal(points: NDArray[np.float64] | None, others: NDArray[np.float64]) -> bool:
    """Whether points are the same, to rounding."""
    return points is not None and points.shape == others.shape and np.allclose(points, others, rtol=1e-12, atol=1e-14)


def _usual(surface: ls.Surface, flat: ls.Surface | Flatness | None) -> bool:
    """Whether it is exact, along usual directions, of the weights and the images of the run's flatness."""
    words = shlex.split(str(surface.attrs.get("command", "")))
    if surface.sampled is not None or _OTHERS & {word.split("=")[0] for word in words}:
        return False
    if any(surface.attrs.get(key) != value for key, value in _USUAL.items()):
        return False
    if flat is None:  # how many images were drawn is not in the file; the verb draws none
        return words[1:2] == ["surface"]
    return all(surface.attrs.get(key) == flat.attrs.get(key) for key in ("checkpoint_sha256", "data_sha256"))
