"""Whether groups of minima can be told apart by their flatness."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from landscape.problem import Problem
from landscape.sharpness.measure import Definition, Measure
from landscape.sharpness.pairs import differences
from landscape.sharpness.ranking import Agreement, agreement
from landscape.sharpness.two_levels import over_seeds
from landscape.sharpness.verdict import Group, Row, Verdict

Minimum = Problem | Iterable[Measure]
"""A problem at its minimum, or the flatness numbers of one."""

_Members = dict[str, list[dict[str, Measure]]]


def compare(
    groups: Mapping[str, Sequence[Minimum]],
    *,
    term: str | None = None,
    measures: Sequence[str] | None = None,
    gaps: Mapping[str, Sequence[float]] | None = None,
    seed: int = 0,
    **options: Any,
) -> Verdict:
    """Compare groups of minima, such as those of several training methods, in every measure of flatness.

    Members at the same position of two groups are a pair: of one seed of training. Every two groups are compared by the
    differences within pairs with the paired t test (see `landscape.comparing.paired`, also for why it is no bootstrap),
    of logarithms where every value is positive; Holm's adjustment covers the pairs of groups in one measure, not the
    measures. Groups of different sizes are compared over their common positions.

    Problems are measured here: the directions at a position are the same in each group, and others at each position, so
    that their noise is shared within a pair and independent between pairs. Measured minima should keep to that too.

    Args:
        groups: ``{name: minima}``, two groups or more, each minimum a problem or what `summary` returned.
        term: Which term of the problems; the first by default.
        measures: Keys of the measures to compare; all that were measured by default.
        gaps: Generalisation gap of each minimum, for the rank agreement of the measures with it: see `agreement`.
        seed: Of the directions and of the resampling of samples.
        options: Of `summary`, for the problems.

    Raises:
        TypeError: A group is no sequence, or a member is neither a problem nor measures.
        ValueError: There are fewer than two groups, a group is empty, a measure is not known or was measured in
            different ways, or the gaps are not one for each minimum.
    """
    _check(groups, gaps)
    if term is not None:
        options["term"] = term
    members: _Members = {
        name: [_measured(minimum, _seed(seed, i), options) for i, minimum in enumerate(of)]
        for name, of in groups.items()
    }
    definitions = _definitions(members, measures)
    rows = [_row(what, members, None if gaps is None else gaps, seed) for what in definitions]
    return Verdict(tuple(rows), tuple(_notes(members)))


def _check(groups: Mapping[str, Sequence[Minimum]], gaps: Mapping[str, Sequence[float]] | None) -> None:
    if len(groups) < 2:
        raise ValueError(f"groups must be two or more, {{name: minima}}. Got {len(groups)}.")
    for name, of in groups.items():
        if not isinstance(of, (list, tuple)):
            raise TypeError(f"group {name!r} must be a list of problems or of their measures. Got {type(of).__name__}.")
        if not of:
            raise ValueError(f"group {name!r} must have a minimum. Got none. Leave the group out.")
    if gaps is not None:
        expected = {name: len(of) for name, of in groups.items()}
        got = {name: len(of) for name, of in gaps.items()}
        if expected != got:
            raise ValueError(f"gaps must be one for each minimum: {expected}. Got {got}.")


def _seed(seed: int, position: int) -> int:
    return int(np.random.SeedSequence([seed, position]).generate_state(1, np.uint32)[0])


def _measured(minimum: Minimum, seed: int, options: dict[str, Any]) -> dict[str, Measure]:
    if isinstance(minimum, Problem):
        from landscape.sharpness.lines import summary

        minimum = summary(minimum, seed=seed, **options)  # type: ignore[assignment]
    found = list(minimum)  # type: ignore[arg-type]
    if not all(isinstance(measure, Measure) for measure in found):
        raise TypeError(f"a member of a group must be a Problem or the measures of one. Got {type(minimum).__name__}.")
    return {measure.what.key: measure for measure in found}


def _definitions(members: _Members, measures: Sequence[str] | None) -> list[Definition]:
    """Of the measures that are compared, each the same in all minima."""
    known: dict[str, Definition] = {}
    for name, group in members.items():
        for measure in (measure for minimum in group for measure in minimum.values()):
            what = known.setdefault(measure.what.key, measure.what)
            if what != measure.what:
                raise ValueError(
                    f"{what.key!r} must be measured the same way in all minima: {what.text} ({what.name}). "
                    f"Got {measure.what.text} ({measure.what.name}) in {name}."
                )
    for key in measures or ():
        if key not in known:
            raise ValueError(f"measures must be among those measured: {', '.join(known)}. Got {key!r}.")
    return list(known.values()) if measures is None else [known[key] for key in measures]


def _row(what: Definition, members: _Members, gaps: Mapping[str, Sequence[float]] | None, seed: int) -> Row:
    of = {name: [minimum.get(what.key, _missing(what)) for minimum in group] for name, group in members.items()}
    known = [measure.value for group in of.values() for measure in group if math.isfinite(measure.value)]
    log = all(value > 0 for value in known)
    groups = []
    for name, group in of.items():
        mean = over_seeds(group, log=log, seed=seed)
        groups.append(Group(name, tuple(float(measure.value) for measure in group), *mean))
    return Row(what, log, tuple(groups), tuple(differences(of, log=log, seed=seed)), _agreement(what, groups, gaps))


def _missing(what: Definition) -> Measure:
    return Measure(what, math.nan, math.nan, math.nan, np.full(1, np.nan))


def _agreement(what: Definition, groups: list[Group], gaps: Mapping[str, Sequence[float]] | None) -> Agreement | None:
    if gaps is None:
        return None
    values = [value for group in groups for value in group.values]
    return agreement(values, [gap for group in groups for gap in gaps[group.name]], what.flatter)


def _notes(members: _Members) -> list[str]:
    sizes = {name: len(group) for name, group in members.items()}
    said = []
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} {n}" for name, n in sizes.items())
        said.append(f"Groups of different sizes ({counts}) are compared over the positions that both have.")
    alone = [name for name, n in sizes.items() if n == 1]
    if alone:
        said.append(f"One seed ({', '.join(alone)}): its interval is over directions only, and says nothing of others.")
    return said
