"""The flatness of trained runs: measured once, kept in the run's folder, compared by method and pairwise by seed."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import landscape as ls
from dot import data as image_sets
from dot import runs
from dot.config import Measuring
from dot.grouping import paired
from dot.runs import Run
from landscape import describing, store
from landscape.averages import means
from landscape.directions import Directions
from landscape.provenance import digest_model
from landscape.sharpness import Flatness, Verdict
from landscape.sharpness.verdict import Difference

log = logging.getLogger(__name__)

LEGEND = (
    "ratios within each seed and their 95 % interval,\nwhere a difference was found (level 0.05, corrected for the "
    "pairs of groups, not for the number of measures);\nelse about how many more seeds would show a difference of the "
    "size that was seen"
)
"""How to read `brief`."""


@dataclass(frozen=True)
class Asked:
    """What is measured on a run, and how.

    Attributes:
        split: ``"train"`` or ``"test"``.
        term: ``"ce"``, ``"kd"``.
        images: So many of the split, drawn; 0 for all.
        seed: Of that draw; with the run's own seed added, of what is drawn to measure.
        directions: Random lines.
        extent: They go from minus this to this, in units of the direction.
        points: On each line.
        measures: Short names of those wanted; none for all.
    """

    split: str = "train"
    term: str = "ce"
    images: int = 0
    seed: int = 0
    directions: int = 20
    extent: float = 1.0
    points: int = 41
    measures: tuple[str, ...] = ()


def asked(use: Measuring) -> Asked:
    """What a study asks about each student."""
    return Asked(
        images=use.images,
        seed=use.seed,
        directions=use.directions,
        extent=use.line_extent,
        points=use.line_points,
        measures=use.flatness,
    )


def check(asked: Asked) -> None:
    """Refuse what is not known, before anything is trained or measured.

    Raises:
        ValueError: A name is none of a flatness number.
    """
    known = ls.sharpness.names()
    for name in asked.measures:
        if name not in known:
            raise ValueError(f"measures must be some of {', '.join(known)}. Got {name!r}.")


def kept_at(run: Run, asked: Asked) -> Path:
    """Where the flatness of a run is kept: a file for all that is measured alike."""
    alike = json.dumps(_way(asked), sort_keys=True)
    return run.path / f"flatness-{asked.split}-{asked.term}-{hashlib.sha256(alike.encode()).hexdigest()[:8]}.h5"


def measured(
    run: Run, asked: Asked, device: torch.device, out: Path | None = None, *, must_keep: bool = True
) -> Flatness:
    """The flatness of a trained run: what its file has, and the rest measured now and kept.

    Runs of one seed share their directions, those of different seeds do not, so that the noise of directions is in the
    spread over seeds.

    Args:
        run: A finished run.
        asked: What is measured.
        device: To measure on.
        out: Surface file of the lines, made or gone on with; None keeps them in memory.
        must_keep: Whether a file that cannot be written is an error, and not merely said.

    Returns:
        With the generalisation gap of the term, test minus training mean, as ``attrs["gap"]``.

    Raises:
        FileNotFoundError: The run is not finished, or its teacher is not there.
        ValueError: See `check`, `dot.runs.problem` and `landscape.sharpness.summary`.
        OSError: The file cannot be written.
    """
    check(asked)
    path = kept_at(run, asked)
    before = store.load_flatness(path) if path.exists() else None
    if before is not None:
        model = run.network(image_sets.load(run.config.data, device), device)
        before = before if before.attrs["checkpoint_sha256"] == digest_model(model) else None
    found = _with_missing(before, run, asked, device, out)
    if found is not before:
        try:
            found.save(path)
        except OSError as error:
            if must_keep:
                raise
            log.warning("%s It is not kept, and would be measured again.", error)
    return replace(found, measures=tuple(one for one in found if not asked.measures or one.key in asked.measures))


def _with_missing(before: Flatness | None, run: Run, asked: Asked, device: torch.device, out: Path | None) -> Flatness:
    """What was measured before, and what is asked for besides; all of it at once where all is asked for."""
    known = () if before is None else (*before.keys(), *before.left_out)
    missing = [key for key in asked.measures if key not in known]
    if before is not None and not missing and (asked.measures or before.attrs["all"]):
        return before
    problem = runs.problem(run.path, asked.split, device, asked.images, asked.seed)
    wanted = missing or ls.sharpness.names()
    gap = before.attrs["gap"] if before is not None else _gap(problem, run, asked, device)
    surface = None
    if set(wanted) & set(ls.sharpness.names(of_lines=True)):
        surface = ls.evaluate(problem, *lines(problem, run, asked), out=out, label=f"lines of {run.path.name}")
    seed = asked.seed + run.config.seed
    found = ls.sharpness.summary(problem, surface, term=asked.term, measures=missing or None, seed=seed)
    earlier = before if before is not None and missing else Flatness(())
    together = sorted((*earlier, *found), key=lambda one: ls.sharpness.names().index(one.key))
    more = {"gap": gap, "asked": _way(asked), "all": not missing, "left_out": earlier.left_out | found.left_out}
    return Flatness(tuple(together), found.attrs | more)


def _way(asked: Asked) -> dict[str, Any]:
    """How it is measured, whatever is measured."""
    return {key: value for key, value in asdict(asked).items() if key != "measures"}


def lines(problem: ls.Problem, run: Run, asked: Asked) -> tuple[Directions, ls.Grid1D]:
    """The random directions of a run's lines, and their points."""
    drawn = ls.directions.random(problem.model, n=asked.directions, seed=asked.seed + run.config.seed)
    return drawn, ls.Grid1D((-asked.extent, asked.extent, asked.points))


def _gap(problem: ls.Problem, run: Run, asked: Asked, device: torch.device) -> float:
    """Mean of a term over all test images minus that over the training images, as many as are measured on.

    Raises:
        ValueError: There is no such term.
    """
    of_train = asked.split == "train"
    train = means(problem if of_train else runs.problem(run.path, "train", device, asked.images, asked.seed))
    if asked.term not in train:
        raise ValueError(f"term must be among those of the objective: {', '.join(train)}. Got {asked.term!r}.")
    test = run.metrics[-1]["test"].get(asked.term)
    if test is None:
        test = means(runs.problem(run.path, "test", device))[asked.term][0]
    return float(test) - train[asked.term][0]


def kept(groups: Mapping[str, Sequence[Run]], asked: Asked) -> dict[str, list[Flatness]]:
    """What was measured of runs before, in this way; empty where that is not so of each."""
    paths = {name: [kept_at(run, asked) for run in group] for name, group in groups.items()}
    if not all(path.exists() for group in paths.values() for path in group):
        return {}
    return {name: list(map(store.load_flatness, group)) for name, group in paths.items()}


def kept_alike(groups: Mapping[str, Sequence[Run]]) -> Asked | None:
    """How the training loss of all runs was measured alike, along the most directions; None where it was not."""
    every = [run for group in groups.values() for run in group]
    names = set.intersection(*({path.name for path in run.path.glob("flatness-train-ce-*.h5")} for run in every))
    ways = [Asked(**store.load_flatness(every[0].path / name).attrs["asked"]) for name in sorted(names)]
    return max(ways, key=lambda asked: asked.directions, default=None)


def compare(groups: Mapping[str, Sequence[Flatness]]) -> Verdict | None:
    """Whether methods can be told apart; None for a single one. Members are of the same seeds, in the same order."""
    if len(groups) < 2:
        return None
    known = all("gap" in one.attrs for group in groups.values() for one in group)
    gaps = {name: [one.attrs["gap"] for one in group] for name, group in groups.items()} if known else None
    return ls.sharpness.compare(groups, gaps=gaps)


def verdict(groups: Mapping[str, Sequence[Run]], asked: Asked) -> Verdict | None:
    """Whether methods whose runs were all measured can be told apart; None where not all were, or for a single one."""
    found = kept(paired(groups), asked)
    return compare(found) if found else None


def brief(found: Verdict) -> list[list[str]]:
    """A verdict as a table for a terminal: a heading; for each measure the groups' values and how every two compare.

    Where two are not told apart, with about how many more seeds a difference of the size that was seen would be.
    """
    first = found.rows[0]
    head = ["flatness", *(group.name for group in first.groups)]
    head += [f"{d.one} against {d.other}" for d in first.differences]
    return [
        head,
        *(
            [row.what.name, *(f"{group.value:.3g}" for group in row.groups), *map(_said, row.differences)]
            for row in found.rows
        ),
    ]


def _said(difference: Difference) -> str:
    if difference.found:
        return f"{difference.outcome} ({'x ' if difference.scale == 'ratio' else ''}{difference.size})"
    more = difference.more_seeds
    needed = "" if more is None else f" ({more} more {'seed' if more == 1 else 'seeds'}?)"
    return f"{difference.outcome}{needed}"


def as_plain(found: Flatness) -> dict[str, Any]:
    """The numbers of a minimum and where they come from, as plain data."""
    rows = [describing.describe_measure(one) | {"samples": one.samples.tolist()} for one in found]
    return found.attrs | {"measures": rows}
