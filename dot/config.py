"""Configurations: frozen dataclasses to and from TOML, checked whole, with every fault of a file named at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import Field, asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from dot.rules import (
    METHODS,
    AboveZero,
    AtLeastTwo,
    Count,
    Data,
    Degrees,
    Distillation,
    Epochs,
    Method,
    Methods,
    Model,
    Momentum,
    Name,
    NotNegative,
    Odd,
    Positive,
    Precision,
    Rising,
    Seeds,
    Sha256,
    Share,
)
from dot.tables import ConfigError, load, suggest

__all__ = [
    "METHODS",
    "Augmentation",
    "Compute",
    "ConfigError",
    "Losses",
    "Measuring",
    "Network",
    "Optimisation",
    "Paper",
    "Recording",
    "RunConfig",
    "StudyConfig",
    "digest",
    "load_run",
    "load_study",
    "to_toml",
]

D = TypeVar("D")


def _later(default: D) -> D:
    """A field that a later version has added: at its default it is no part of a digest, so that a finished run of an
    earlier version is found under its name.
    """
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class Augmentation:
    """What is done to an image each time it is seen, in this order: resized crop, rotation, shift, flip."""

    shift: Count = 0
    """Moved by up to this many pixels in both directions, black coming in (pad and crop)."""
    flip: bool = False
    """Mirrored left to right, one time in two."""
    rotate: Degrees = 0.0
    """Turned by up to this many degrees either way."""
    resized_crop: bool = False
    """A rectangle of 8 to 100 % of the area and a ratio of 3/4 to 4/3 is brought to the whole size."""

    @property
    def views(self) -> int | None:
        """In how many ways an image can be seen; None where they are without number."""
        if self.rotate > 0 or self.resized_crop:
            return None
        return (2 * self.shift + 1) ** 2 * (2 if self.flip else 1)


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained: SGD with step decay, and DOT's ``delta`` where the method uses it."""

    epochs: Positive
    batch_size: AtLeastTwo = 64
    lr: AboveZero = 0.05
    milestones: Rising = ()
    """The learning rate drops in the epoch after each of these; epochs count from 1."""
    gamma: Share = 0.1
    warmup_epochs: Count = 0
    momentum: Momentum = 0.9
    delta: float = 0.075
    weight_decay: NotNegative = 5e-4
    augment: Augmentation = field(default_factory=Augmentation)
    nesterov: bool = _later(False)
    """Look one step ahead, for each buffer."""
    shared_gradient: bool = _later(False)
    """kd-dot: each of the two buffers gets half the gradient of the summed losses, so that neither loss leads."""
    sam: NotNegative = _later(0.0)  # noqa: RUF009
    """ce and kd-sgd: radius rho of sharpness-aware minimisation (SAM), whose gradient is taken so far up the slope; 0
    for none. Needs the extra ``sam``, and takes two passes a step.
    """

    def faults(self) -> list[str]:
        """What is wrong between values, one sentence each."""
        if abs(self.delta) <= self.momentum and self.momentum + abs(self.delta) < 1:
            return []
        return [
            f"delta must be at most momentum in size, and momentum + |delta| below 1, or training diverges. "
            f"Got {self.delta} with momentum {self.momentum}."
        ]


@dataclass(frozen=True)
class Losses:
    """Total = w_ce cross-entropy + w_kd distillation; with method ``ce`` cross-entropy alone, at weight 1."""

    temperature: AboveZero = 4.0
    w_ce: NotNegative = 0.1
    w_kd: NotNegative = 0.9
    distillation: Distillation = "kd"
    """kd (Hinton), dkd, standardised-kd, hint (features), or your own as module:function; see `dot.distillation`."""
    warmup_epochs: Count = 0
    """The weight of the distillation loss grows evenly over these."""
    alpha: NotNegative = 1.0
    """dkd: weight of its target-class part."""
    beta: NotNegative = 8.0
    """dkd: weight of its other part."""
    student_layers: tuple[str, ...] = ()
    """hint: modules of the student whose outputs imitate those of the teacher's."""
    teacher_layers: tuple[str, ...] = ()
    """hint: as many modules of the teacher."""
    permute_teacher: bool = _later(False)
    """A broken teacher, as a control: each class gets the teacher's logit of the one before it."""

    def faults(self) -> list[str]:
        """What is wrong between values, one sentence each."""
        faults = [] if self.w_ce + self.w_kd > 0 else ["w_ce and w_kd must not both be 0. Got 0 and 0."]
        if self.distillation == "hint" and not 0 < len(self.student_layers) == len(self.teacher_layers):
            faults.append(
                "student_layers and teacher_layers must name as many modules, at least one, for distillation 'hint'. "
                f"Got {list(self.student_layers)} and {list(self.teacher_layers)}."
            )
        return faults


@dataclass(frozen=True)
class Recording:
    """What is kept while training."""

    every: Count = 50
    """Steps between two records of the gradients' conflict; 0 for none."""
    heldout: Positive = 256
    """Test examples of the batch on which conflict is recorded once an epoch."""
    checkpoints: Epochs = ()
    """Epochs after which the weights are kept, besides the last."""


@dataclass(frozen=True)
class Compute:
    """How sums are made: the last bits of every result depend on it, or more."""

    threads: Count = 0
    """Of the CPU; 0 leaves torch's choice. Small networks like 1 best."""
    precision: Precision = "float32"
    """Of the student's forward and backward pass; bf16 is torch.autocast, weights and buffers staying float32."""
    teacher_precision: Precision = "float32"
    """Of the teacher's forward pass."""
    cache_teacher: bool = False
    """Keep the teacher's logits of each image in each view in float16, for all runs of a study."""
    sync_batch_norm: bool = False
    """With several processes, statistics of the whole batch; else each normalises by its own part."""


@dataclass(frozen=True)
class RunConfig:
    """One training run, resolved; its digest names the run's folder."""

    method: Method
    model: Model
    seed: Count
    data: Data
    teacher: str
    """Name of the teacher's run folder; empty for none."""
    train: Optimisation
    losses: Losses
    record: Recording
    compute: Compute = field(default_factory=Compute)
    weights: Sha256 = ""
    """SHA-256 of the checkpoint that this run's weights were taken from, instead of training them; empty: trained."""

    @property
    def name(self) -> str:
        """``<method>-<model>-<hash8>``."""
        return f"{self.method}-{self.model.replace(':', '.')}-{digest(self)[:8]}"

    def faults(self) -> list[str]:
        """What is wrong between values, one sentence each."""
        return unascended((self.method,), self.train, "train") + _uncacheable(
            self.compute, self.train.augment, self.losses
        )


@dataclass(frozen=True)
class Measuring:
    """What is measured on each trained student."""

    plane_points: Odd = 21
    plane_extent: AboveZero = 1.0
    line_points: Odd = 41
    line_extent: AboveZero = 1.0
    directions: AtLeastTwo = 10
    """Random directions of the lines, from which flatness is read."""
    images: Count = 0
    """So many training images, drawn with the seed; 0 for all."""
    seed: Count = 0
    flatness: tuple[str, ...] = _later(())
    """Short names of the flatness numbers, such as width-0.1; all by default. Those that are not read from the lines
    cost about a thousand passes over the images, and hundreds of products with the Hessian, for each student."""


@dataclass(frozen=True)
class Network:
    """A network and how it is trained."""

    model: Model
    train: Optimisation
    seed: Count = 0
    """Of the teacher; a student's seeds are those of the study."""
    weights: Sha256 = ""
    """Of the teacher: SHA-256 of the checkpoint that its weights are taken from; empty: it is trained."""


@dataclass(frozen=True)
class Paper:
    """A row of the paper's tables, to be shown beside what was measured."""

    source: str = ""
    """Which table."""
    teacher: NotNegative = 0.0
    """Top-1 accuracy in per cent; 0 where none is stated, as below."""
    ce: NotNegative = 0.0
    kd_sgd: NotNegative = 0.0
    kd_dot: NotNegative = 0.0


@dataclass(frozen=True)
class StudyConfig:
    """A whole study: a teacher, students of each method and seed, and what is measured on them."""

    name: Name
    data: Data
    methods: Methods
    seeds: Seeds
    teacher: Network
    student: Network
    losses: Losses = field(default_factory=Losses)
    record: Recording = field(default_factory=Recording)
    measure: Measuring = field(default_factory=Measuring)
    note: str = ""
    """What a reader of its numbers must know; shown above them."""
    compute: Compute = field(default_factory=Compute)
    paper: Paper = field(default_factory=Paper)

    def faults(self) -> list[str]:
        """What is wrong between values, one sentence each."""
        faults = [
            f"{name} must be at least one, each once. Got {list(values)}."
            for name, values in (("methods", self.methods), ("seeds", self.seeds))
            if not values or len(set(values)) < len(values)
        ]
        faults += unascended(self.methods, self.student.train, "student.train")
        return faults + _uncacheable(self.compute, self.student.train.augment, self.losses)

    def teacher_run(self) -> RunConfig:
        """The run that trains the teacher: cross-entropy alone, nothing recorded."""
        return RunConfig(
            method="ce",
            model=self.teacher.model,
            seed=self.teacher.seed,
            data=self.data,
            teacher="",
            train=self.teacher.train,
            losses=Losses(),  # not read: a teacher does not change with the temperature of its students
            record=Recording(every=0),
            compute=replace(self.compute, cache_teacher=False, teacher_precision="float32"),  # it has none
            weights=self.teacher.weights,
        )

    def student_run(self, method: str, seed: int) -> RunConfig:
        """The run of a student.

        Raises:
            ValueError: The method is unknown, or the seed negative.
        """
        if seed < 0:
            raise ValueError(f"seed must be at least 0. Got {seed}.")
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}. Got {method!r}.{suggest(method, METHODS)}")
        return RunConfig(
            method=method,
            model=self.student.model,
            seed=seed,
            data=self.data,
            teacher=self.teacher_run().name,
            train=self.student.train if method == "kd-dot" else replace(self.student.train, delta=0.0),
            losses=self.losses,
            record=self.record,
            compute=self.compute,
        )


def unascended(methods: Sequence[str], use: Optimisation, where: str) -> list[str]:
    """Why a training cannot be sharpness-aware, where it is to be."""
    if use.sam and "kd-dot" in methods:
        return [f"{where}.sam must be 0 with kd-dot, whose step is not SAM's. Got {use.sam}: use ce or kd-sgd."]
    return []


def _uncacheable(compute: Compute, augment: Augmentation, losses: Losses) -> list[str]:
    """Why a teacher's logits cannot be kept, where they are to be."""
    if not compute.cache_teacher:
        return []
    if augment.views is None:
        return ["compute.cache_teacher must be false with rotate or resized_crop: no view comes twice. Got true."]
    if losses.distillation == "hint" or ":" in losses.distillation:
        return [f"compute.cache_teacher must be false with {losses.distillation!r}, which may read features. Got true."]
    return []


def digest(config: RunConfig | StudyConfig) -> str:
    """SHA-256 of a resolved configuration; it holds no device, path or number of workers."""
    return hashlib.sha256(json.dumps(_counted(config), sort_keys=True).encode()).hexdigest()


def _counted(config: Any) -> dict[str, Any]:
    """The values that are part of a digest."""
    found = {}
    for entry in fields(config):
        value = getattr(config, entry.name)
        if not _is_as_before(entry, value):
            found[entry.name] = _counted(value) if is_dataclass(value) else value
    return found


def _is_as_before(entry: Field[Any], value: Any) -> bool:
    return "later" in entry.metadata and bool(value == entry.default)


def to_toml(config: RunConfig | StudyConfig) -> str:
    """The configuration as TOML, every value written out."""
    return tomli_w.dumps(asdict(config))


def load_run(path: Path) -> RunConfig:
    """Read a run's configuration; see `load_study` for errors."""
    return load(RunConfig, path)


def load_study(recipe: str, changes: Sequence[str] = ()) -> StudyConfig:
    """Read a study from a TOML file, or a recipe that ships with the package by its name.

    Args:
        recipe: A path or a name.
        changes: Values in place of the file's, each as ``student.train.lr=0.1``; ``train.lr=0.1`` is for teacher and
            student alike. What stands after the ``=`` is TOML, or else a string.

    Raises:
        FileNotFoundError: Neither is there.
        ConfigError: The file or a change has faults: all are named, with close matches for misspelt names.
    """
    shipped = resources.files("dot") / "recipes"
    names = sorted(entry.name.removesuffix(".toml") for entry in shipped.iterdir() if entry.name.endswith(".toml"))
    if recipe in names:
        with resources.as_file(shipped / f"{recipe}.toml") as path:
            return load(StudyConfig, path, changes)
    if not recipe.endswith(".toml") or not Path(recipe).exists():
        raise FileNotFoundError(
            f"recipe must be a TOML file or one of {', '.join(names)}. Got {recipe!r}.{suggest(recipe, names)}"
        )
    return load(StudyConfig, Path(recipe), changes)
