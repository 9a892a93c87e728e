"""Filling a surface whose cells are estimated from samples of the examples."""

from __future__ import annotations

import logging
import math
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landscape import store
from landscape.batches import rows_of
from landscape.files import claimed
from landscape.grid import Cell
from landscape.parts import Part
from landscape.preparation import Ready
from landscape.progress import bar
from landscape.results import DONE, NOT_FINITE, Array, Surface
from landscape.sample_log import LogReader, SampleLog
from landscape.sampling import Goal, Request, Sampler

_LOG = logging.getLogger(__name__)

_PATIENCE = 60.0
"""Seconds after which what another part was to measure is measured here."""


class Peer(NamedTuple):
    """Another part that measures the same surface at the same time.

    Attributes:
        number: Of the part.
        surface: Its file, which is claimed as long as it is at work.
        log: Its samples.
    """

    number: int
    surface: Path
    log: LogReader


def axes(surface: Surface) -> tuple[Array, ...]:
    """The coordinates that a sampler works on: of a plane, or of one line."""
    return (surface.x,) if surface.y is None else (surface.y, surface.x)


def new(surface: Surface, ready: Ready, goal: Goal, *, keep: bool) -> list[Sampler]:
    """A sampler of a plane or a line, or one for each line of a bundle.

    Raises:
        ValueError: The goal names a term that there is not.
    """
    assert ready.losses is not None
    unknown = set(goal.abs_error) - set(surface.means) if isinstance(goal.abs_error, Mapping) else set()
    if unknown:
        raise ValueError(
            f"abs_error must name terms of the objective: {', '.join(surface.means)}. Got {', '.join(sorted(unknown))}."
        )
    lines = len(surface.status) if surface.dims[0] == "direction" else 1
    examples = len(next(iter(ready.losses.values())).values)
    found = _labels(ready.examples, examples)
    return [Sampler(axes(surface), examples, list(surface.means), goal, labels=found, keep=keep) for _ in range(lines)]


def state(samplers: Sequence[Sampler]) -> dict[str, NDArray[Any]]:
    """Everything, as arrays by name."""
    return {f"{line}/{name}": array for line, s in enumerate(samplers) for name, array in s.state().items()}


def restored(arrays: Mapping[str, NDArray[Any]]) -> list[Sampler]:
    """The samplers of a `state`."""
    by_line: dict[int, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        line, _, key = name.partition("/")
        by_line.setdefault(int(line), {})[key] = array
    return [Sampler.restored(by_line[line]) for line in sorted(by_line)]


def together(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """The `state` of a whole surface, from those of its parts; empty where one was not kept."""
    if not all(parts):
        return {}
    whole, *others = [restored(part) for part in parts]
    for other in others:
        for sampler, theirs in zip(whole, other, strict=True):
            sampler.absorb(theirs)
    return state(whole)


class Measuring:
    """Evaluates what samplers ask for.

    Args:
        ready: What is measured with.
        terms: In the order wanted.
        points: The coordinates of each cell along all directions, by line and number.
    """

    def __init__(self, ready: Ready, terms: Sequence[str], points: Mapping[tuple[int, int], tuple[float, ...]]) -> None:
        assert ready.losses is not None
        self._ready, self._terms, self._points, self._origin = ready, terms, points, ready.losses
        # Of tokens a sequence has a sum; divided by the mean number of tokens, these average to the mean over tokens.
        self._counts = {name: 1.0 if of.counts is None else of.counts.mean() for name, of in ready.losses.items()}

    def losses(self, line: int, request: Request) -> NDArray[np.float32]:
        """``[terms, k]`` at the examples of a request.

        Raises:
            ValueError: The objective returns other terms than at the origin.
        """
        point = self._points.get((line, request.cell))
        if point is None or not any(point):
            found = {name: of.values[request.examples] for name, of in self._origin.items()}
        else:
            rows = torch.from_numpy(request.examples).to(self._ready.walker.reader.device)
            measured = self._ready.walker.losses(point, rows_of(self._ready.examples, rows))
            if measured.keys() != self._origin.keys():
                raise ValueError(
                    f"the objective must return the same terms everywhere: {', '.join(self._origin)}. Got "
                    f"{', '.join(measured)} at {point}."
                )
            found = {name: of.values for name, of in measured.items()}
        with np.errstate(over="ignore"):
            return np.stack([found[name] / self._counts[name] for name in self._terms]).astype(np.float32)


def fill(
    surface: Surface,
    samplers: Sequence[Sampler],
    ready: Ready,
    units: list[list[Cell]],
    *,
    log: SampleLog,
    part: Part,
    peers: Sequence[Peer],
    writer: store.SurfaceWriter | None,
    label: str,
) -> None:
    """Estimate the cells of a part; the anchors are shared among all parts, which wait for each other.

    Args:
        surface: Takes the estimates.
        samplers: See `new`.
        ready: What is measured with.
        units: All cells, in the order of their evaluation.
        log: Of the losses; what is there already is not measured again.
        part: Which of the units are ours.
        peers: The other parts.
        writer: Of the surface's file; None in memory.
        label: Name on the progress bar.

    Raises:
        ValueError: The objective returns other terms somewhere.
        OSError: A file cannot be written.
    """
    points = {_number(surface, index): point for unit in units for index, point in unit}
    measuring = Measuring(ready, list(surface.means), points)
    ours = [_number(surface, index) for unit in part.of(units) for index, _ in unit]
    with bar(len(ours), label, "cell") as progress:
        for line, sampler in enumerate(samplers):
            source = _Source(line, measuring, log, part, peers)
            cells = [cell for of_line, cell in ours if of_line == line]
            for cell in _finishing(sampler, cells, source):
                index = _index(surface, line, cell)
                _take(surface, index, sampler, cell)
                if writer is not None:
                    writer.add(index)
                progress.update()


def replay(samplers: Sequence[Sampler], log: SampleLog) -> None:
    """Bring samplers to where they were when the log ended."""
    for line, sampler in enumerate(samplers):
        for request in sampler.requests():
            known = log.find(line, request.cell, request.positions)
            if known is None:
                break
            sampler.give(request, dict(zip(sampler.setup.terms, known, strict=True)))


class _Source:
    """Where the losses of one line come from: the logs, our own walker, or, in the first phase, another part."""

    def __init__(self, line: int, measuring: Measuring, log: SampleLog, part: Part, peers: Sequence[Peer]) -> None:
        self._line, self._measuring, self._log, self._part, self._peers = line, measuring, log, part, peers
        self._since = time.monotonic()

    def losses(self, request: Request, *, shared: bool) -> NDArray[np.float32] | None:
        """Of a request; None where another part is at it."""
        finders = [self._log.find, *(peer.log.find for peer in self._peers if shared)]
        for find in finders:
            known = find(self._line, request.cell, request.positions)
            if known is not None:
                self._since = time.monotonic()
                return known
        if shared and not self._is_ours(request.cell):
            return None
        losses = self._measuring.losses(self._line, request)
        self._log.add(self._line, request.cell, request.positions, losses)
        self._since = time.monotonic()
        return losses

    def wait(self) -> None:
        """Until the others may have got further."""
        time.sleep(0.02)
        for peer in self._peers:
            peer.log.read()

    def _is_ours(self, cell: int) -> bool:
        """Whether no other part is at work on a shared cell, or seems to be."""
        owner = zlib.crc32(str(cell).encode()) % self._part.count
        others = {peer.number: peer for peer in self._peers}
        late = time.monotonic() - self._since > _PATIENCE
        return owner == self._part.index or late or not claimed(others[owner].surface)


def _finishing(sampler: Sampler, cells: list[int], source: _Source) -> Iterator[int]:
    """Drive a sampler, and yield each of our cells once it has its estimate."""
    wanted, seen = set(cells), 0

    def newly() -> list[int]:
        nonlocal seen
        found = [cell for cell in sampler.finished[seen:] if cell in wanted]
        seen = len(sampler.finished)
        wanted.difference_update(found)
        return found

    planned = sampler.first_phase_done
    while wanted:
        before = sampler.evaluated
        for request in sampler.requests(cells):
            losses = source.losses(request, shared=not sampler.first_phase_done)
            if losses is not None:
                sampler.give(request, dict(zip(sampler.setup.terms, losses, strict=True)))
            if sampler.first_phase_done and not planned:
                planned = True
                _say(sampler)
            yield from newly()
        yield from newly()
        if wanted and sampler.evaluated == before:
            source.wait()


def _say(sampler: Sampler) -> None:
    """How much is to come, once the first phase has shown it."""
    _, level, first, costs = sampler.first_phase.step
    setup = sampler.setup
    expected, all_ = min(costs, default=0.0), setup.population * setup.cells
    anchors = f"{len(setup.grid_of(level).ravel())} anchors on {first:,} examples" if level else "no anchors"
    size = 4e-6 * expected * (1 + len(setup.terms))
    _LOG.info("%s; about %.2g %% of all evaluations, samples of %.0f MB", anchors, 100 * expected / all_, size)


def _take(surface: Surface, index: tuple[int, ...], sampler: Sampler, cell: int) -> None:
    sampled = surface.sampled
    assert sampled is not None
    estimates, root = sampler.estimate(cell), math.sqrt(sampler.setup.population)
    for name, of in estimates.items():
        known = (of.mean, math.hypot(of.sem, of.deviation / root))
        surface.means[name][index], surface.sems[name][index] = (
            surface.origin[name] if cell == sampler.setup.origin else known
        )
        sampled.sampling_sem[name][index], sampled.half[name][index] = of.sem, of.half
        sampled.sem_diff[name][index] = math.hypot(of.sem, of.deviation_diff / root)
    sampled.n_examples[index] = sampler.samples.count(cell)
    finite = all(math.isfinite(of.mean) for of in estimates.values())
    surface.status[index] = DONE if finite else NOT_FINITE


def _number(surface: Surface, index: tuple[int, ...]) -> tuple[int, int]:
    """The line and the number of a cell, as its sampler counts."""
    if surface.dims[0] == "direction":
        return index[0], index[1]
    return 0, int(np.ravel_multi_index(index, surface.status.shape))


def _index(surface: Surface, line: int, cell: int) -> tuple[int, ...]:
    if surface.dims[0] == "direction":
        return line, cell
    return tuple(int(i) for i in np.unravel_index(cell, surface.status.shape))


def _labels(batch: Any, examples: int) -> NDArray[np.int64] | None:
    """Classes, where a batch is ``(inputs, targets)`` or has ``"labels"``, one whole number for each example."""
    found = batch.get("labels") if isinstance(batch, Mapping) else None
    if isinstance(batch, (tuple, list)) and len(batch) == 2:
        found = batch[1]
    if not isinstance(found, Tensor) or found.shape != (examples,) or found.is_floating_point() or found.is_complex():
        return None
    return found.cpu().numpy().astype(np.int64)
