"""Putting parts of a surface together: shards of its cells, and parts of its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from landscape import identity, sampled, store
from landscape.averages import Moments, as_pairs, pool
from landscape.files import claim
from landscape.grid import order
from landscape.parts import Part
from landscape.plan import Plan
from landscape.provenance import command_line, now
from landscape.results import DONE, NOT_FINITE, PENDING, Sampled, Surface

Parts = Mapping[str, Surface]
"""Surfaces by what they are called in a message."""


def merge(parts: Sequence[str | Path | Surface], out: str | Path | None = None) -> Surface:
    """Put the parts of a surface together that ``evaluate(..., shard=, data_shard=)`` measured.

    Shards give, on machines that compute alike, the same bits as one process would have; parts of the data the same
    means to rounding (1e-14), and standard errors likewise.

    Args:
        parts: Files, or surfaces in memory, in any order.
        out: HDF5 file to write; a file that is there is replaced in a single step.

    Returns:
        The whole surface.

    Raises:
        ValueError: There are none; one is of another measurement or plan (what differs is named); a cell is there
            twice, or is missing (the parts that lack it are named).
        FileNotFoundError: A file is not there.
        OSError: ``out`` cannot be written.
    """
    named = _load(parts)
    _refuse_others(named)
    by_data: dict[Part, dict[str, Surface]] = {}
    for name, surface in named.items():
        by_data.setdefault(_part(surface, "data_shard"), {})[name] = surface
    missing = _missing([*by_data])
    if missing and len(by_data) > 1:
        raise ValueError(f"every part of the data must be there. Got none of {missing}.")
    whole = _pooled([_overlaid(by_data[part]) for part in sorted(by_data, key=lambda part: part.index)])
    whole.directions = next(iter(named.values())).directions
    if out is not None:
        if any(not isinstance(part, Surface) and Path(part).absolute() == Path(out).absolute() for part in parts):
            raise ValueError(f"the whole must not replace one of its parts. Got {out}: write to another file.")
        with claim(Path(out)):
            store.create_surface(out, whole)
    return whole


def _load(parts: Sequence[str | Path | Surface]) -> dict[str, Surface]:
    named: dict[str, Surface] = {}
    for i, part in enumerate(parts):
        name = f"part {i}" if isinstance(part, Surface) else str(part)
        if name in named:
            raise ValueError(f"every part must be given once. Got {name} twice.")
        loaded = part if isinstance(part, Surface) else _with_samples(part)
        named[name] = replace(loaded, directions=None) if named else loaded  # those of one part are enough to hold
    if not named:
        raise ValueError("expected at least one part of a surface. Got none.")
    return named


def _with_samples(path: str | Path) -> Surface:
    surface = store.load_surface(path)
    if surface.sampled is not None:
        surface.sampled.samples = store.load_samples(path)
    return surface


def _part(surface: Surface, which: str) -> Part:
    return Part.parse(surface.attrs.get(which, "0/1"))


def _refuse_others(named: Parts) -> None:
    first_name, first = next(iter(named.items()))
    for name, surface in named.items():
        differing = [
            key
            for key in (*identity.SAME_FOR_PARTS, "plan", "goal", "session")
            if surface.attrs.get(key) != first.attrs.get(key)
        ]
        differing += [axis for axis in identity.AXES if not identity.same_axis(surface, first, axis)]
        differing += ["terms"] if surface.terms != first.terms else []
        counts = [(_part(s, "shard").count, _part(s, "data_shard").count) for s in (surface, first)]
        differing += ["the number of parts"] if counts[0] != counts[1] else []
        if differing:
            hint = " Measure the one with the older plan again." if differing == ["plan"] else ""
            raise ValueError(
                f"all parts must be of one measurement. Got {name}, which differs from {first_name} in "
                f"{', '.join(differing)}.{hint}"
            )


def _missing(found: Sequence[Part]) -> str:
    count = found[0].count
    return ", ".join(str(Part(i, count)) for i in range(count) if Part(i, count) not in found)


def _overlaid(shards: Parts) -> Surface:
    """The surface of one part of the data, from shards that have no cell in common and leave none out."""
    names, surfaces = list(shards), list(shards.values())
    whole = surfaces[0]
    owner = np.full(whole.status.shape, -1)
    for i, surface in enumerate(surfaces):
        identity.refuse_another_origin(surface, whole.origin, names[i])
        done = surface.status != PENDING
        twice = done & (owner >= 0)
        if twice.any():
            raise ValueError(
                f"no cell may be there twice. Got {int(twice.sum())} of {names[i]} in {names[owner[twice][0]]} too."
            )
        owner[done] = i
    if (owner < 0).any():
        raise ValueError(_gaps(shards, int((owner < 0).sum())))
    merged = _blank(whole)
    for i, surface in enumerate(surfaces):
        mine = owner == i
        for to, source in _arrays(merged, surface):
            to[mine] = source[mine]
    if merged.sampled is not None:
        merged.sampled.samples = sampled.together([s.sampled.samples for s in surfaces if s.sampled is not None])
        merged.attrs["evaluated"] = int(merged.sampled.n_examples.sum())
    return merged


def _gaps(shards: Parts, cells: int) -> str:
    given = {name: _part(surface, "shard") for name, surface in shards.items()}
    absent = _missing([*given.values()])
    said = [f"no file of shard {absent}"] if absent else []
    pending = [f"cells pending in {name}" for name, s in shards.items() if _unfinished(s)]
    said += pending if not absent else []
    return f"every cell must be there. Got {cells} missing: {'; '.join(said) or 'some are pending'}. Run those parts."


def _unfinished(surface: Surface) -> bool:
    coarse_to_fine = Plan.of(surface.attrs).order == "coarse-to-fine"
    mine = _part(surface, "shard").of(order(surface.dims, surface.status.shape, coarse_to_fine))
    return any(surface.status[index] == PENDING for unit in mine for index in unit)


def _blank(like: Surface) -> Surface:
    """A surface of the same shape with nothing in it."""

    def blank(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.full_like(values, np.nan) for name, values in arrays.items()}

    return Surface(
        x=like.x,
        y=like.y,
        dims=like.dims,
        means=blank(like.means),
        sems=blank(like.sems),
        status=np.full_like(like.status, PENDING),
        origin=dict(like.origin),
        attrs=like.attrs | {"shard": "0/1", "created_at": now(), "command": command_line()},
        directions=like.directions,
        path=like.path,
        sums={key: blank(arrays) for key, arrays in like.sums.items()},
        sampled=like.sampled
        and Sampled(np.zeros_like(like.sampled.n_examples), *map(blank, like.sampled.arrays.values())),
    )


def _blank_samples(like: Sampled, blank: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]) -> Sampled:
    return Sampled(np.zeros_like(like.n_examples), *(blank(arrays) for arrays in like.arrays.values()))


def _arrays(a: Surface, b: Surface) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = [(a.means, b.means), (a.sems, b.sems), *((a.sums[key], b.sums[key]) for key in a.sums)]
    found: list[tuple[np.ndarray, np.ndarray]] = [(a.status, b.status)]
    if a.sampled is not None and b.sampled is not None:
        pairs += zip(a.sampled.arrays.values(), b.sampled.arrays.values(), strict=True)
        found += [(a.sampled.n_examples, b.sampled.n_examples)]
    return [(x[name], y[name]) for x, y in pairs for name in x] + found


def _pooled(parts: list[Surface]) -> Surface:
    """The surface over all the data, from those over parts of it."""
    if len(parts) == 1:
        return parts[0]
    whole = _blank(parts[0])
    counts = {}
    for term in whole.terms:
        cells = pool([_moments(part, term, part.means[term], *_sums(part, term)) for part in parts])
        whole.means[term], whole.sems[term] = cells.mean, np.asarray(cells.sem)
        origin = pool([_moments(p, term, p.origin[term][0], *p.attrs["origin_sums"][term]) for p in parts])
        whole.origin[term] = as_pairs({term: origin})[term]
        counts[term] = cells.n
    finite = np.all([np.isfinite(values) for values in whole.means.values()], axis=0)
    whole.status[...] = np.where(finite, DONE, NOT_FINITE)
    whole.sums = {}
    whole.attrs = {key: value for key, value in whole.attrs.items() if key not in ("counts", "origin_sums")}
    same = len(set(counts.values())) == 1
    whole.attrs |= {"data_shard": "0/1", "n_examples": next(iter(counts.values())) if same else counts}
    return whole


def _sums(part: Surface, term: str) -> tuple[np.ndarray, np.ndarray]:
    return part.sums["squares"][term], part.sums["cross"][term]


def _moments(part: Surface, term: str, mean: object, squares: object, cross: object) -> Moments:
    return Moments(mean, squares, cross, *part.attrs["counts"][term])
