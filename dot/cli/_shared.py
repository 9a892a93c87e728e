"""What the verbs share: common options, the form of an answer, and finding what is to be measured."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from landscape import Problem

Output = Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")]


@dataclass(frozen=True, kw_only=True)
class Common:
    """Options of every verb."""

    json: bool = False
    """Print the result on stdout as JSON."""
    debug: bool = False
    """Show the traceback of an error."""


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


def find_problem(run: str, problem: str, split: str, device: str) -> tuple[Problem, Path]:
    """What a verb measures, and the folder where its result goes by default.

    Raises:
        UsageError: Neither or both are given.
        ValueError: ``problem`` is no ``module:function`` that returns a Problem.
        FileNotFoundError: The run is not there.
    """
    if bool(run) == bool(problem):
        raise UsageError("expected a run folder, or --problem module:function. Got " + ("both." if run else "neither."))
    if run:
        from dot import devices, runs

        return runs.problem(run, split, devices.pick(device)), Path(run)
    return _call(problem), Path()


def _call(path: str) -> Problem:
    from landscape import Problem

    module, colon, function = path.partition(":")
    if not (module and colon and function):
        raise ValueError(f"--problem must be module:function, such as my_network:problem. Got {path!r}.")
    sys.path.insert(0, os.getcwd())  # a file beside the user, as `python -m` would find it
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--problem must name a function that can be imported. Got {path!r}: {error}.") from error
    finally:
        sys.path.pop(0)
    found = make()
    if not isinstance(found, Problem):
        raise ValueError(f"{path} must return a landscape.Problem. Got {type(found).__name__}.")
    return found


def label_of(path: Path) -> str:
    """How a result file is named in a figure: by the method of its run folder, else by its own name."""
    from dot.config import METHODS, load_run

    settings = path.parent / "config.toml"
    return METHODS[load_run(settings).method] if settings.exists() else path.stem
