"""What the folders of runs hold, read once for their figures and their report; what is not there is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import landscape as ls
from dot import flatness
from dot.flatness import Asked
from dot.grouping import paired
from dot.runs import Run, open_run
from landscape import store
from landscape.sharpness import Flatness, Verdict

Groups = Mapping[str, Sequence[Run]]
"""Runs of each method, by its name in figures, in the order of their seeds."""
R = TypeVar("R")


@dataclass(frozen=True)
class Findings:
    """Measured runs and what was measured on them, by method; a method without a file of a kind is not among these.

    Attributes:
        groups: The runs.
        lines: Bundles of lines, one for each seed.
        planes: A plane of each method, all of one seed.
        seed: That seed; None without planes.
        conflicts: What was recorded while training, one for each seed.
        asked: How the flatness was measured that all runs have alike; None where there is none.
        flat: That flatness, one for each seed that all methods have.
        verdict: On it; None for a single method, or without it.
        files: Every plane, every bundle of lines, and the flatness that is measured alike, of all runs by their path.
    """

    groups: Groups
    lines: dict[str, list[ls.Surface]]
    planes: dict[str, ls.Surface]
    seed: int | None
    conflicts: dict[str, list[ls.Conflict]]
    asked: Asked | None
    flat: dict[str, list[Flatness]]
    verdict: Verdict | None
    files: Mapping[Path, ls.Surface | Flatness]

    @property
    def runs(self) -> list[Run]:
        """All of them."""
        return [run for group in self.groups.values() for run in group]

    @property
    def heldout(self) -> dict[str, list[ls.Conflict]]:
        """Conflict on the fixed held-out batch, once an epoch."""
        found = {
            name: [one.groups["heldout"] for one in seeds if "heldout" in one.groups]
            for name, seeds in self.conflicts.items()
        }
        return {name: seeds for name, seeds in found.items() if seeds and all(len(one.step) for one in seeds)}

    @property
    def teacher(self) -> Run | None:
        """The teacher of all of them; None where its folder does not lie beside theirs."""
        first = self.runs[0]
        beside = first.path.absolute().parent / first.config.teacher
        return open_run(beside) if first.config.teacher and (beside / "config.toml").exists() else None


def gather(groups: Groups) -> Findings:
    """Read what the runs hold.

    Raises:
        ValueError: A file is broken, or of another kind than its name says.
    """
    asked = flatness.kept_alike(groups)
    seed = _shown(groups)
    of_seed = {name: [run for run in group if run.config.seed == seed] for name, group in groups.items()}
    every = [run for group in groups.values() for run in group]
    surfaces = _loaded([where(run) for run in every for where in (plane_of, lines_of)], store.load_surface)
    alike = {} if asked is None else _loaded([flatness.kept_at(run, asked) for run in every], store.load_flatness)
    planes = _read(of_seed, plane_of, surfaces.__getitem__)
    flat = {} if asked is None else _paired(groups, asked, alike)
    return Findings(
        groups=groups,
        lines=_read(groups, lines_of, surfaces.__getitem__),
        planes={name: of[0] for name, of in planes.items()},
        seed=seed if planes else None,
        conflicts=_read(groups, lambda run: run.conflict, store.load_conflict),
        asked=asked,
        flat=flat,
        verdict=flatness.compare(flat) if flat else None,
        files={**surfaces, **alike},
    )


def plane_of(run: Run) -> Path:
    """Where the plane of a run is kept."""
    return run.path / "surface.h5"


def lines_of(run: Run) -> Path:
    """Where the lines of a run are kept."""
    return run.path / "lines.h5"


def _shown(groups: Groups) -> int | None:
    """The seed of which most methods have a plane, the smallest of these."""
    seeds = Counter(run.config.seed for group in groups.values() for run in group if plane_of(run).exists())
    return min(seeds, key=lambda seed: (-seeds[seed], seed), default=None)


def _loaded(paths: Sequence[Path], load: Callable[[Path], R]) -> dict[Path, R]:
    return {path: load(path) for path in paths if path.exists()}


def _paired(groups: Groups, asked: Asked, alike: Mapping[Path, Flatness]) -> dict[str, list[Flatness]]:
    """The flatness of the seeds that all methods have; empty where a file is not there."""
    paths = {name: [flatness.kept_at(run, asked) for run in group] for name, group in paired(groups).items()}
    if not all(path in alike for group in paths.values() for path in group):
        return {}
    return {name: [alike[path] for path in group] for name, group in paths.items()}


def _read(groups: Groups, where: Callable[[Run], Path], load: Callable[[Path], R]) -> dict[str, list[R]]:
    found = {name: [load(where(run)) for run in group if where(run).exists()] for name, group in groups.items()}
    return {name: of for name, of in found.items() if of}
