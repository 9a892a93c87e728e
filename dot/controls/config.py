"""What is compared: arms of one study, each with a few values changed, and factors that are swept over several."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from dot.config import Losses, Optimisation, RunConfig, StudyConfig, load_study, unascended
from dot.rules import AboveZero, Method, Name, Seeds
from dot.tables import build, load, refuse, suggest

_DOTS = {"delta", "shared_gradient"}
_GAINS = {"train": {"lr", "momentum", "delta", "weight_decay"}, "losses": {"w_ce", "w_kd"}}
"""What decides how far a gradient moves the weights: where an arm sets one of them, it is matched to the recipe's."""


@dataclass(frozen=True)
class Arm:
    """A method with values of the study changed."""

    method: Method
    about: str = ""
    """What it rules out, in a line."""
    train: dict[str, Any] = field(default_factory=dict)
    """In place of values of ``student.train``."""
    losses: dict[str, Any] = field(default_factory=dict)
    """In place of values of ``losses``."""


@dataclass(frozen=True)
class Factor:
    """One value of an arm, swept: an arm for each, named ``<factor>=<value>``."""

    of: str
    """The arm."""
    vary: str
    """``train.<key>`` or ``losses.<key>``."""
    values: tuple[float, ...]


@dataclass(frozen=True)
class Controls:
    """Arms of one study, and the seeds of each; all share teacher, data, and by seed initial weights and data order."""

    name: Name
    study: str
    """A recipe of `reproduce`, by name or path: teacher, student, data, losses and what is measured."""
    seeds: Seeds
    baselines: tuple[str, ...]
    """Arms that every other one is compared with."""
    arms: dict[str, Arm]
    factors: dict[str, Factor] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    """Values in place of the recipe's, such as ``record.every=50``."""
    reach: AboveZero = 1.0
    """Test task loss whose first epoch is noted."""
    note: str = ""
    """What a reader of the numbers must know."""

    def faults(self) -> list[str]:
        """What is wrong between values, one sentence each."""
        faults = [] if self.baselines else ["baselines must name at least one arm. Got none."]
        if len(self.arms) + len(self.factors) < 2:
            faults.append(f"arms must be at least two, to be compared. Got {list(self.arms)}.")
        faults += [
            f"baselines must name arms. Got {name!r}.{suggest(name, self.arms)}"
            for name in self.baselines
            if name not in self.arms
        ]
        faults += [
            f"factors.{name}.of must name an arm. Got {factor.of!r}.{suggest(factor.of, self.arms)}"
            for name, factor in self.factors.items()
            if factor.of not in self.arms
        ]
        return faults


@dataclass(frozen=True)
class Job:
    """A run that is to be trained and measured."""

    arm: str
    seed: int
    run: RunConfig


@dataclass(frozen=True)
class Plan:
    """Controls with every arm resolved.

    Attributes:
        controls: As read.
        study: What the arms share.
        arms: By name, factors' values among them, in the order of the file.
        jobs: Those of the first seed first, so that what is there can be compared early. Arms that come to the same
            configuration share its run.
    """

    controls: Controls
    study: StudyConfig
    arms: dict[str, Arm]
    jobs: tuple[Job, ...]

    @property
    def runs(self) -> dict[str, RunConfig]:
        """Each run once, by its name, in the order of the jobs."""
        return {job.run.name: job.run for job in self.jobs}


def names() -> list[str]:
    """Controls that ship with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _shipped().iterdir() if entry.name.endswith(".toml"))


def load_plan(recipe: str, changes: Sequence[str] = ()) -> Plan:
    """Read controls from a TOML file, or those that ship with the package by their name, and resolve every arm.

    Args:
        recipe: A path or a name.
        changes: Values in place of the study's, each as ``student.train.epochs=10`` or ``seeds=[0, 1]``; none that arms
            are matched to, such as the learning rate where an arm has a multiple of it.

    Raises:
        FileNotFoundError: Neither is there, or there is no such study.
        ConfigError: The file, its study or an arm has faults; those of all arms are named.
    """
    if recipe in names():
        with resources.as_file(_shipped() / f"{recipe}.toml") as path:
            return _plan(path, changes)
    if not recipe.endswith(".toml") or not Path(recipe).exists():
        raise FileNotFoundError(
            f"controls must be a TOML file or one of {', '.join(names())}. Got {recipe!r}.{suggest(recipe, names())}"
        )
    return _plan(Path(recipe), changes)


def is_controls(path: Path) -> bool:
    """Whether a TOML file holds controls, whole or with faults."""
    with suppress(OSError, ValueError):
        return "arms" in tomllib.loads(path.read_text(encoding="utf-8"))
    return False


def _shipped() -> Any:
    return resources.files("dot") / "recipes" / "controls"


def _plan(path: Path, changes: Sequence[str]) -> Plan:
    controls = load(Controls, path)
    beside = path.parent / controls.study
    recipe = str(beside) if controls.study.endswith(".toml") and beside.exists() else controls.study
    study = load_study(recipe, [f"seeds={list(controls.seeds)}", *controls.changes, *changes])
    arms = controls.arms | dict(_swept(controls, faults := _unmatched(controls, changes)))
    resolved = {name: _resolve(study, arm, f"arms.{name}.", faults) for name, arm in arms.items()}
    refuse(path, faults)
    jobs = [
        Job(name, seed, found.student_run(arms[name].method, seed))
        for seed in study.seeds
        for name, found in resolved.items()
        if found is not None
    ]
    return Plan(controls, study, arms, tuple(jobs))


def _unmatched(controls: Controls, changes: Sequence[str]) -> list[str]:
    """Changes from outside of what the arms of the file are matched to."""
    matched = any(
        _GAINS["train"] & arm.train.keys() | _GAINS["losses"] & arm.losses.keys() for arm in controls.arms.values()
    )
    faults = []
    for key in (change.partition("=")[0] for change in changes) if matched else ():
        table, _, name = key.rpartition(".")
        if name in _GAINS.get(table.rpartition(".")[2], ()) and not table.startswith("teacher"):
            faults.append(
                f"{key} must stay as it is: arms are matched to it. Got a change: copy the file, put it into its "
                "changes, and match its arms anew."
            )
    return faults


def _swept(controls: Controls, faults: list[str]) -> Iterator[tuple[str, Arm]]:
    """An arm for each value of each factor."""
    for name, factor in controls.factors.items():
        table, _, key = factor.vary.partition(".")
        arm = controls.arms[factor.of]
        named = {f"{name}={value:g}" for value in factor.values}
        if len(named) < max(len(factor.values), 1):
            faults.append(
                f"factors.{name}.values must be at least one, different to six digits. Got {list(factor.values)}."
            )
        if table not in ("train", "losses") or not key:
            faults.append(f"factors.{name}.vary must be train.<key> or losses.<key>. Got {factor.vary!r}.")
            continue
        for value in factor.values:
            changed = getattr(arm, table) | {key: int(value) if math.isfinite(value) and value == int(value) else value}
            yield f"{name}={value:g}", replace(arm, about="", **{table: changed})


def _resolve(study: StudyConfig, arm: Arm, where: str, faults: list[str]) -> StudyConfig | None:
    """The study with the values of an arm, or None where they have faults."""
    own = arm.train
    if arm.method != "kd-dot":
        faults += [
            f"{where}train.{key} is read by kd-dot alone. Got it with {arm.method}." for key in _DOTS & own.keys()
        ]
        own = own | {"delta": 0.0}
    train = build(Optimisation, _merged(study.student.train, own), f"{where}train.", faults)
    if arm.method == "ce" and arm.losses:
        faults.append(f"{where}losses are not read by ce, which has cross-entropy at weight 1. Got {arm.losses}.")
    losses = build(Losses, _merged(study.losses, arm.losses), f"{where}losses.", faults)
    if train is not None:
        faults += unascended((arm.method,), train, f"{where}train")
    if train is None or losses is None:
        return None
    return replace(study, student=replace(study.student, train=train), losses=losses)


def _merged(config: Optimisation | Losses, changes: dict[str, Any]) -> dict[str, Any]:
    """A table as it would stand in a file, with some of its values changed."""
    table = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(config).items()}
    return table | changes
