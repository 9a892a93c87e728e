"""What the verbs share: common options, the form of an answer, and finding what is to be measured."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dot import importing
from dot.config import StudyConfig, load_study

if TYPE_CHECKING:
    from landscape import Problem

log = logging.getLogger(__name__)

Output = Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")]
Written = Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="PATH")]
"""An output that must be given."""


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every verb."""

    json: bool = False
    """Print the result on stdout as JSON."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Measured(Common):
    """Options of the verbs that measure: what, and where."""

    run: Annotated[str, tyro.conf.Positional] = ""
    """A run folder."""
    problem: str = ""
    """Instead of a run: module:function, which returns a landscape.Problem."""
    split: Literal["train", "test", ""] = ""
    """Which images of a run; train by default."""
    epoch: int | None = None
    """The student of a run as it was after this epoch, one of those whose weights are kept; as trained by default."""
    device: str = ""
    """Where to measure a run: auto (the default), cpu, cuda or mps."""


@dataclass(frozen=True, kw_only=True)
class Trained(Common):
    """Options of the verbs that train: how, and where."""

    changes: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE")] = ()
    """In place of a value of the recipe, such as train.epochs=10 or losses.w_kd=1; may be given again."""
    teacher: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """A checkpoint (.pth) whose weights the teacher takes, instead of training it."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""

    def study(self, recipe: str) -> StudyConfig:
        """The study of a recipe with these options.

        Raises:
            FileNotFoundError: The recipe or the checkpoint is not there.
            ConfigError: The recipe or a change has faults.
            ValueError: The recipe names another checkpoint.
        """
        find_beside_user()  # networks and losses by module:function
        config = load_study(recipe, self.changes)
        return replace(config, teacher=replace(config.teacher, weights=self.weights(config.teacher.weights)))

    def weights(self, named: str) -> str:
        """SHA-256 of the teacher's checkpoint; what the recipe names, where none is given.

        Raises:
            FileNotFoundError: The checkpoint is not there.
            ValueError: The recipe names another one.
        """
        if self.teacher is None:
            return named
        if not self.teacher.is_file():
            raise FileNotFoundError(f"--teacher must be a checkpoint. There is none at {self.teacher}.")
        weights = hashlib.sha256(self.teacher.read_bytes()).hexdigest()
        if named not in ("", weights):
            raise ValueError(
                f"--teacher must be the checkpoint that the recipe names, of SHA-256 {named}. "
                f"Got {self.teacher} of {weights}."
            )
        return weights


@dataclass(frozen=True)
class Reply:
    """The answer of a verb: for a person, and for a program."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)
    ok: bool = True


class UsageError(ValueError):
    """The options do not fit together; exit status 2, as for an option that does not exist."""


def at_least_one(paths: Sequence[Path], what: str) -> None:
    """Refuse an empty list of files.

    Raises:
        UsageError: It is empty.
    """
    if not paths:
        raise UsageError(f"expected at least one {what}. Got none.")


def another_file(output: Path, source: Path) -> None:
    """Refuse to write over what is read: a format that holds less would be all that is left.

    Raises:
        UsageError: Both are the same file.
    """
    if output.resolve() == source.resolve():
        raise UsageError(f"--output must be another file than the one that is read. Got {output} for both.")


def find_problem(what: Measured) -> tuple[Problem, Path]:
    """What a verb measures, and the folder where its result goes by default.

    Raises:
        UsageError: Neither or both are given, or options of a run with a problem.
        ValueError: ``problem`` is no ``module:function`` that returns a Problem.
        FileNotFoundError: The run is not there.
    """
    if bool(what.run) == bool(what.problem):
        came = "both" if what.run else "neither"
        raise UsageError(f"expected a run folder, or --problem module:function. Got {came}.")
    if what.run:
        from dot import devices, runs

        on = devices.pick(what.device or "auto")
        return runs.problem(what.run, what.split or "train", on, epoch=what.epoch), Path(what.run)
    if what.split or what.device or what.epoch is not None:
        raise UsageError(
            "--split, --epoch and --device go with a run folder. Got --problem, whose function chooses them."
        )
    return load_problem(what.problem), Path()


def own_name(what: Measured, stem: str) -> str:
    """The name of a result by default: each split and epoch of a run has a file of its own."""
    test = "-test" if what.split == "test" else ""
    epoch = "" if what.epoch is None else f"-epoch-{what.epoch:04d}"
    return f"{stem}{test}{epoch}.h5"


def find_beside_user() -> None:
    """Let modules be imported from the current folder, as `python -m` would; theirs too."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def load_problem(path: str) -> Problem:
    """The problem that a function returns.

    Raises:
        ValueError: ``path`` is no ``module:function`` that returns a Problem.
    """
    from landscape import Problem

    find_beside_user()
    found = importing.find(path, argument="--problem", example="my_network:problem")()
    if not isinstance(found, Problem):
        raise ValueError(f"{path} must return a landscape.Problem. Got {type(found).__name__}.")
    return found


def by_name(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Result files by how they are named in a figure.

    Those in run folders by their method and what else tells them apart, in the order of their seeds; others each by its
    own path.

    Raises:
        ValueError: A run folder has two of the files.
    """
    from dot import grouping, runs

    owners = {path: runs.open_run(path.parent) for path in paths if runs.is_run(path.parent)}
    named: dict[str, list[Path]] = {}
    if owners:
        files = {run.path: path for path, run in owners.items()}
        groups = grouping.alike(list(owners.values()))
        named = {name: [files[run.path] for run in group] for name, group in groups.items()}
    return named | {str(path.with_suffix("")): [path] for path in paths if path not in owners}


def by_folder(paths: Sequence[Path]) -> dict[str, list[Path]]:
    """Result files by how they are named, those of one run folder together: of each method the run of smallest seed.

    Files that are in no run folder are each by its own path.

    Raises:
        ValueError: As `by_name`.
    """
    from dot import runs

    folders: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(paths):
        folders.setdefault(path.parent if runs.is_run(path.parent) else path, []).append(path)
    together = {files[0]: files for files in folders.values()}
    named = by_name(list(together))
    left = [str(path.parent) for found in named.values() for path in found[1:]]
    if left:
        log.warning("not shown, being other seeds of a method that is: %s", ", ".join(left))
    return {name: together[found[0]] for name, found in named.items()}
