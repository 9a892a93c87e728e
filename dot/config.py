"""Configurations: frozen dataclasses to and from TOML, checked whole, with every fault of a file named at once."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

import tomli_w

METHODS = {"ce": "CE", "kd-sgd": "KD+SGD", "kd-dot": "KD+DOT"}
"""Training methods and how they are written in figures."""

T = TypeVar("T")


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained: SGD with step decay, and DOT's ``delta`` where the method uses it."""

    epochs: int
    batch_size: int = 64
    lr: float = 0.05
    milestones: tuple[int, ...] = ()
    """The learning rate drops in the epoch after each of these; epochs count from 1."""
    gamma: float = 0.1
    warmup_epochs: int = 0
    momentum: float = 0.9
    delta: float = 0.075
    weight_decay: float = 5e-4
    shift: int = 1
    """Augmentation: each image moves by up to this many pixels."""

    def faults(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = [
            f"{name} must be {words}. Got {getattr(self, name)}."
            for name, good, words in (
                ("epochs", self.epochs >= 1, "at least 1"),
                ("batch_size", self.batch_size >= 2, "at least 2"),
                ("lr", self.lr > 0, "above 0"),
                ("gamma", 0 < self.gamma <= 1, "above 0 and at most 1"),
                ("warmup_epochs", self.warmup_epochs >= 0, "at least 0"),
                ("weight_decay", self.weight_decay >= 0, "at least 0"),
                ("shift", self.shift >= 0, "at least 0"),
                ("momentum", 0 <= self.momentum < 1, "at least 0 and below 1"),
                ("milestones", list(self.milestones) == sorted(set(self.milestones)), "rising"),
            )
            if not good
        ]
        if abs(self.delta) > self.momentum or self.momentum + abs(self.delta) >= 1:
            found.append(
                f"delta must be at most momentum in size, and momentum + |delta| below 1, or training diverges. "
                f"Got {self.delta} with momentum {self.momentum}."
            )
        return found


@dataclass(frozen=True)
class Losses:
    """Total = w_ce cross-entropy + w_kd distillation; with method ``ce`` cross-entropy alone, at weight 1."""

    temperature: float = 4.0
    w_ce: float = 0.1
    w_kd: float = 0.9

    def faults(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        return [
            f"{name} must be {words}. Got {getattr(self, name)}."
            for name, good, words in (
                ("temperature", self.temperature > 0, "above 0"),
                ("w_ce", self.w_ce >= 0, "at least 0"),
                ("w_kd", self.w_kd >= 0, "at least 0"),
            )
            if not good
        ]


@dataclass(frozen=True)
class Recording:
    """What is kept while training."""

    every: int = 10
    """Steps between two records of the gradients' conflict; 0 for none."""
    heldout: int = 256
    """Test examples of the batch on which conflict is recorded once an epoch."""
    checkpoints: tuple[int, ...] = ()
    """Epochs after which the weights are kept, besides the last."""

    def faults(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        return [
            f"{name} must be at least {least}. Got {value}."
            for name, value, least in (("every", self.every, 0), ("heldout", self.heldout, 1))
            if value < least
        ]


@dataclass(frozen=True)
class RunConfig:
    """One training run, resolved; its digest names the run's folder."""

    method: str
    model: str
    seed: int
    data: str
    teacher: str
    """Name of the teacher's run folder; empty for none."""
    train: Optimisation
    losses: Losses
    record: Recording
    threads: int = 0
    """CPU threads; 0 leaves torch's choice. The last bits of a result depend on them; small networks like 1 best."""

    @property
    def name(self) -> str:
        """``<method>-<model>-<hash8>``."""
        return f"{self.method}-{self.model}-{digest(self)[:8]}"


@dataclass(frozen=True)
class Measuring:
    """What is measured on each trained student."""

    plane_points: int = 21
    plane_extent: float = 1.0
    line_points: int = 41
    line_extent: float = 1.0
    directions: int = 10
    """Random directions of the lines, from which flatness is read."""
    seed: int = 0

    def faults(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = [
            f"{name} must be odd and at least 3, so that 0 is on the grid. Got {points}."
            for name, points in (("plane_points", self.plane_points), ("line_points", self.line_points))
            if points < 3 or points % 2 == 0
        ]
        found += [
            f"{name} must be above 0. Got {extent}."
            for name, extent in (("plane_extent", self.plane_extent), ("line_extent", self.line_extent))
            if not extent > 0
        ]
        return found + ([f"directions must be at least 2. Got {self.directions}."] if self.directions < 2 else [])


@dataclass(frozen=True)
class Network:
    """A network and how it is trained."""

    model: str
    train: Optimisation
    seed: int = 0
    """Of the teacher; a student's seeds are those of the study."""


@dataclass(frozen=True)
class StudyConfig:
    """A whole study: a teacher, students of each method and seed, and what is measured on them."""

    name: str
    data: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    teacher: Network
    student: Network
    losses: Losses = field(default_factory=Losses)
    record: Recording = field(default_factory=Recording)
    measure: Measuring = field(default_factory=Measuring)
    threads: int = 0
    """CPU threads of every part; see `RunConfig`."""

    def faults(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        found = [
            f"methods must be among {', '.join(METHODS)}. Got {method!r}.{_suggest(method, METHODS)}"
            for method in self.methods
            if method not in METHODS
        ]
        for name, values in (("methods", self.methods), ("seeds", self.seeds)):
            if not values or len(set(values)) < len(values):
                found.append(f"{name} must be at least one, each once. Got {list(values)}.")
        if self.threads < 0:
            found.append(f"threads must be at least 0. Got {self.threads}.")
        return found

    def teacher_run(self) -> RunConfig:
        """The run that trains the teacher: cross-entropy alone, nothing recorded."""
        return RunConfig(
            method="ce",
            model=self.teacher.model,
            seed=self.teacher.seed,
            data=self.data,
            teacher="",
            train=self.teacher.train,
            losses=self.losses,
            record=Recording(every=0),
            threads=self.threads,
        )

    def student_run(self, method: str, seed: int) -> RunConfig:
        """The run of a student.

        Raises:
            ValueError: The method is unknown.
        """
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}. Got {method!r}.{_suggest(method, METHODS)}")
        return RunConfig(
            method=method,
            model=self.student.model,
            seed=seed,
            data=self.data,
            teacher=self.teacher_run().name,
            train=self.student.train,
            losses=self.losses,
            record=self.record,
            threads=self.threads,
        )


class ConfigError(ValueError):
    """A configuration with faults, all of them in the message."""


def digest(config: RunConfig | StudyConfig) -> str:
    """SHA-256 of a resolved configuration; it holds no device, path or number of workers."""
    return hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()


def to_toml(config: RunConfig | StudyConfig) -> str:
    """The configuration as TOML, every value written out."""
    return tomli_w.dumps(asdict(config))


def load_run(path: Path) -> RunConfig:
    """Read a run's configuration; see `load_study` for errors."""
    return _load(RunConfig, path)


def load_study(recipe: str) -> StudyConfig:
    """Read a study from a TOML file, or a recipe that ships with the package by its name.

    Raises:
        FileNotFoundError: Neither is there.
        ConfigError: The file has faults: all are named, with close matches for misspelt names.
    """
    shipped = resources.files("dot") / "recipes"
    names = sorted(entry.name.removesuffix(".toml") for entry in shipped.iterdir() if entry.name.endswith(".toml"))
    if recipe in names:
        with resources.as_file(shipped / f"{recipe}.toml") as path:
            return _load(StudyConfig, path)
    if not recipe.endswith(".toml") or not Path(recipe).exists():
        raise FileNotFoundError(
            f"recipe must be a TOML file or one of {', '.join(names)}. Got {recipe!r}.{_suggest(recipe, names)}"
        )
    return _load(StudyConfig, Path(recipe))


def _load(kind: type[T], path: Path) -> T:
    try:
        with open(path, "rb") as file:
            raw = tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} must be TOML. Got a syntax error: {error}.") from error
    faults: list[str] = []
    config = _build(kind, raw, "", faults)
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ConfigError(f"{path} has {count}: " + " | ".join(faults))
    assert config is not None  # there is one wherever there is no fault
    return config


def _build(kind: type[T], raw: dict[str, Any], where: str, faults: list[str]) -> T | None:
    """A dataclass from a table, or None; everything wrong with the table is added to ``faults``."""
    hints, known = typing.get_type_hints(kind), {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    before = len(faults)
    for key in raw.keys() - known.keys():
        faults.append(f"{where}{key} is not known.{_suggest(key, known)}")
    values = {}
    for name, entry in known.items():
        if name in raw:
            values[name] = _value(hints[name], raw[name], f"{where}{name}", faults)
        elif entry.default is entry.default_factory:  # both are dataclasses.MISSING
            faults.append(f"{where}{name} is missing.")
    if len(faults) > before:
        return None
    config = kind(**values)
    faults += [where + fault for fault in getattr(config, "faults", list)()]
    return config


def _value(hint: Any, raw: Any, where: str, faults: list[str]) -> Any:
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(raw, dict):
        return _build(hint, raw, f"{where}.", faults)
    if typing.get_origin(hint) is tuple and isinstance(raw, list):
        return tuple(_value(typing.get_args(hint)[0], item, f"{where}[{i}]", faults) for i, item in enumerate(raw))
    if hint is float and type(raw) is int:
        return float(raw)
    if type(raw) is hint:
        return raw
    faults.append(f"{where} must be {_words(hint)}. Got {raw!r}.")
    return None


def _words(hint: Any) -> str:
    if is_dataclass(hint):
        return "a table"
    if typing.get_origin(hint) is tuple:
        return f"a list of {_words(typing.get_args(hint)[0])}s"
    assert not isinstance(hint, UnionType)
    return {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}[hint]


def _suggest(name: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]}?" if close else ""
