"""A sampled surface and its file: begun, gone on with, refined, and finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from landscape import sampled, store
from landscape.cells import warn_if_flat
from landscape.grid import Cell
from landscape.parts import Part, part_path
from landscape.preparation import Ready
from landscape.results import Array, Surface
from landscape.sample_log import LogReader, SampleLog, log_path
from landscape.sampled import Peer
from landscape.sampling import Goal, Sampler


def describes(goal: Goal) -> dict[str, Any]:
    """A goal as it is kept among a surface's attributes."""
    return asdict(goal)


def is_enough(found: Surface, goal: Goal, axes: tuple[Array, ...]) -> bool:
    """Whether a surface has these axes and was measured to an error as small as this, or smaller."""
    was = Goal(**found.attrs["goal"])
    smaller = was == goal or (
        not isinstance(was.abs_error, Mapping)
        and not isinstance(goal.abs_error, Mapping)
        and (was.rel_error or 0.0) <= (goal.rel_error or 0.0)
        and (was.abs_error or 0.0) <= (goal.abs_error or 0.0)
    )
    return smaller and _same(found, axes)


def is_same(found: Surface, goal: Goal, axes: tuple[Array, ...]) -> bool:
    """Whether a surface has these axes and this goal, so that it can be gone on with."""
    return Goal(**found.attrs["goal"]) == goal and _same(found, axes)


def _same(found: Surface, axes: tuple[Array, ...]) -> bool:
    ours = sampled.axes(found)
    return len(ours) == len(axes) and all(map(np.array_equal, ours, axes))


def begun(path: Path, found: Surface) -> list[Sampler]:
    """The samplers of a file that was finished or broken off, with all that was measured.

    Raises:
        ValueError: Its samples were not kept.
    """
    samplers = _of_file(path)
    log = SampleLog(log_path(path), bytes.fromhex(found.attrs["session"]), len(found.means))
    try:
        sampled.replay(samplers, log)
    finally:
        log.close()
    return samplers


def _of_file(path: Path) -> list[Sampler]:
    samples = store.load_samples(path)
    if not samples:
        raise ValueError(f"{path} must have its samples, to be refined. Got one without: write to another file.")
    return sampled.restored(samples)


def session(measured: Mapping[str, Any], goal: Goal, axes: tuple[Array, ...], base: list[Sampler] | None) -> str:
    """What the samples of a log belong to: the same for all parts of one measurement."""
    words = {key: value for key, value in measured.items() if key not in ("shard", "errors")}
    words |= {"goal": describes(goal), "axes": [axis.tolist() for axis in axes]}
    words["base"] = [sampler.evaluated for sampler in base or ()]
    return hashlib.sha256(json.dumps(words, sort_keys=True, default=str).encode()).hexdigest()


def start(path: Path | None, found: Surface, ready: Ready, goal: Goal, base: list[Sampler] | None, keep: bool) -> None:
    """Write the file of a surface of which nothing is estimated yet, with the samples that there are."""
    assert found.sampled is not None
    if base is None:
        samplers = sampled.new(found, ready, goal, keep=keep)
    else:
        samplers = [sampler.refined(goal, sampled.axes(found)) for sampler in base]
    found.attrs["population"] = samplers[0].setup.population
    found.sampled.samples = sampled.state(samplers)
    if path is not None:
        store.create_surface(path, found)


def finish(
    path: Path | None,
    out: Path | None,
    found: Surface,
    ready: Ready,
    units: list[list[Cell]],
    *,
    part: Part,
    keep: bool,
    label: str,
) -> Surface:
    """Estimate the cells of a part that are pending, and write the file with its samples, or without them.

    Args:
        path: The file of this part; None in memory.
        out: That of the whole.
        found: The surface, as `start` has left it, or as it was read.
        ready: What is measured with.
        units: All cells, in the order of their evaluation.
        part: Which of the units are ours.
        keep: Whether the samples stay.
        label: Name on the progress bar.
    """
    assert found.sampled is not None
    samplers = _of_file(path) if path is not None else sampled.restored(found.sampled.samples)
    token, terms = bytes.fromhex(found.attrs["session"]), len(found.means)
    others = [] if out is None else [part_path(out, Part(i, part.count), Part()) for i in range(part.count)]
    peers = [
        Peer(i, other, LogReader(log_path(other), token, terms)) for i, other in enumerate(others) if i != part.index
    ]
    log = SampleLog(None if path is None else log_path(path), token, terms)
    try:
        with store.SurfaceWriter(path, found) if path is not None else nullcontext() as writer:
            sampled.fill(found, samplers, ready, units, log=log, part=part, peers=peers, writer=writer, label=label)
    finally:
        log.close()
    found.attrs["evaluated"] = sum(sampler.evaluated for sampler in samplers)
    found.sampled.samples = sampled.state(samplers) if keep else {}
    if path is not None:
        store.create_surface(path, found)
        log_path(path).unlink(missing_ok=True)
        found.sampled.samples = {}
    warn_if_flat(found)
    return found
