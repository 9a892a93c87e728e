"""Runs that differ in their seed alone, together, so that groups can be compared pairwise by seed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from dot.config import METHODS, digest
from dot.runs import Run

log = logging.getLogger(__name__)


def by_setting(found: Sequence[Run]) -> dict[str, list[Run]]:
    """The groups of `alike`: of several, only the seeds that all of them have, so that equal positions are pairs.

    Raises:
        ValueError: A run is there twice, or the groups have no seed in common.
    """
    return paired(alike(found))


def alike(found: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs that differ in their seed alone, together, named by their method and by what else tells them from others.

    The teacher of others is left out. Each group is in the order of its seeds.

    Raises:
        ValueError: A run is there twice.
    """
    teachers = {run.config.teacher for run in found}
    students = [run for run in found if run.path.name not in teachers]
    groups: dict[str, list[Run]] = {}
    for run in sorted(students, key=lambda run: (list(METHODS).index(run.config.method), run.config.seed)):
        groups.setdefault(digest(replace(run.config, seed=0)), []).append(run)
    for group in groups.values():
        seeds = [run.config.seed for run in group]
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"each run must be given once. Got seeds {seeds} of one setting.")
    settings = {key: flat(asdict(group[0].config)) for key, group in groups.items()}
    return {_name(key, settings): group for key, group in groups.items()}


def paired(groups: Mapping[str, Sequence[Run]]) -> dict[str, list[Run]]:
    """The runs of the seeds that all groups have, in order.

    Raises:
        ValueError: They have none in common.
    """
    common = set.intersection(*({run.config.seed for run in group} for group in groups.values()))
    if not common:
        raise ValueError("the groups must have a seed in common, to be compared. Got none: add runs of the same seed.")
    left = [run.path.name for group in groups.values() for run in group if run.config.seed not in common]
    if left:
        log.warning("left out, for want of a run of the same seed in each group: %s", ", ".join(left))
    return {name: [run for run in group if run.config.seed in common] for name, group in groups.items()}


def _name(key: str, settings: Mapping[str, Mapping[str, object]]) -> str:
    """The method, and the values in which a setting differs from another one of the same method."""
    own = settings[key]
    alike = [other for other in settings.values() if other["method"] == own["method"]]
    told = [f"{name.rpartition('.')[2]}={own[name]}" for name in own if any(o.get(name) != own[name] for o in alike)]
    return " ".join([METHODS[str(own["method"])], *(part for part in told if not part.startswith("seed="))])


def flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """A table of tables as one, such as ``{"train.lr": 0.05}``."""
    found: dict[str, object] = {}
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found
