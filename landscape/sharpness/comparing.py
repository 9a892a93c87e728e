"""Whether groups of minima can be told apart by their flatness."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from landscape.problem import Problem
from landscape.sharpness.flatness import Flatness
from landscape.sharpness.measure import Definition, Measure
from landscape.sharpness.pairs import differences
from landscape.sharpness.ranking import agreement
from landscape.sharpness.summarising import summary
from landscape.sharpness.two_levels import over_seeds
from landscape.sharpness.verdict import Group, Row, Verdict

Minimum = Problem | Flatness
"""A problem at its minimum, or the flatness numbers of one."""

_Members = Mapping[str, Sequence[Flatness]]


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

    A value that is not finite, or no more than a lower bound (its lines ended too early, say), is left out with its
    pair, and said. A number that is a lower bound by its definition is compared as it is, and said.

    Problems are measured here: the directions at a position are the same in each group, and others at each position, so
    that their noise is shared within a pair and independent between pairs. Minima measured before should keep to that.

    Args:
        groups: ``{name: minima}``, two groups or more; of each minimum the problem, or what `summary` returned.
        term: Which term of the problems; the first by default.
        measures: Short names of those to compare; all that were measured by default.
        gaps: Generalisation gap of each minimum, for the rank agreement of the measures with it, within groups: see
            `agreement`. A width whose lines ended too early is the largest there; other lower bounds do not count.
        seed: Of the directions and of the resampling of samples.
        options: Of `summary`, for the problems.

    Returns:
        The verdict: print it, or take its rows.

    Raises:
        TypeError: A group is no sequence, or a member neither a problem nor a `Flatness`.
        ValueError: There are fewer than two groups, or a group is empty; a measure is not known; minima were measured
            in different ways, at different settings, or of different terms or splits; or the gaps are not one for each
            minimum. See `summary`, too.
    """
    _check(groups, gaps)
    of_problems = options | {"term": term, "measures": measures}
    members = {
        name: [_measured(minimum, _seed(seed, position), of_problems) for position, minimum in enumerate(group)]
        for name, group in groups.items()
    }
    _agree(members, term)
    rows = [_row(what, members, gaps, seed) for what in _definitions(members, measures)]
    return Verdict(tuple(rows), tuple(_notes(rows, members)))


def _check(groups: Mapping[str, Sequence[Minimum]], gaps: Mapping[str, Sequence[float]] | None) -> None:
    if len(groups) < 2:
        raise ValueError(f"groups must be two or more, {{name: minima}}. Got {len(groups)}.")
    for name, group in groups.items():
        if not isinstance(group, (list, tuple)):
            raise TypeError(f"group {name!r} must be a list of minima. Got {type(group).__name__}. Put it in a list.")
        if not group:
            raise ValueError(f"group {name!r} must have a minimum. Got none. Leave the group out.")
        for minimum in group:
            if not isinstance(minimum, (Problem, Flatness)):
                raise TypeError(
                    f"a minimum of {name!r} must be a Problem, or the Flatness that summary returned. "
                    f"Got {type(minimum).__name__}."
                )
    if gaps is not None:
        expected, got = ({name: len(of) for name, of in table.items()} for table in (groups, gaps))
        if expected != got:
            raise ValueError(f"gaps must be one for each minimum, {expected}. Got {got}.")


def _seed(seed: int, position: int) -> int:
    return int(np.random.SeedSequence([seed, position]).generate_state(1)[0])


def _measured(minimum: Minimum, seed: int, options: Mapping[str, Any]) -> Flatness:
    return summary(minimum, seed=seed, **options) if isinstance(minimum, Problem) else minimum


def _agree(members: _Members, term: str | None) -> None:
    """Refuse minima of different terms, splits or settings; what a minimum does not tell is not compared."""
    for key, asked in (("term", term), ("split", None)):
        known = [str(one.attrs[key]) for group in members.values() for one in group if key in one.attrs]
        found = dict.fromkeys(known if asked is None else [asked, *known])
        if len(found) > 1:
            raise ValueError(f"all minima must be measured on the same {key}. Got {', '.join(found)}.")
    _same_settings(members)


def _same_settings(members: _Members) -> None:
    first: tuple[str, str] | None = None
    for name, group in members.items():
        for position, minimum in enumerate(group):
            if "settings" not in minimum.attrs:
                continue
            found = json.dumps(minimum.attrs["settings"], sort_keys=True)  # a file has lists for tuples
            first = first or (name, found)
            if found != first[1]:
                raise ValueError(
                    f"all minima must be measured at the same settings. Got others at position {position} of {name!r} "
                    f"than first in {first[0]!r}. Measure them all with one Settings."
                )


def _definitions(members: _Members, measures: Sequence[str] | None) -> list[Definition]:
    """Of the measures that are compared, each the same in all minima."""
    known: dict[str, Definition] = {}
    for name, group in members.items():
        for measure in (measure for minimum in group for measure in minimum):
            what = known.setdefault(measure.key, measure.what)
            if what != measure.what:
                raise ValueError(
                    f"{what.key!r} must be the same number in all minima, {what.name}: {what.text} "
                    f"Got another in {name!r}, {measure.name}: {measure.definition}"
                )
    for key in measures or ():
        if key not in known:
            raise ValueError(f"measures must be some of {', '.join(known)}. Got {key!r}.")
    return list(known.values()) if measures is None else [known[key] for key in measures]


def _row(what: Definition, members: _Members, gaps: Mapping[str, Sequence[float]] | None, seed: int) -> Row:
    of = {name: [_known(minimum, what) for minimum in group] for name, group in members.items()}
    log = all(m.value > 0 for group in of.values() for m in group if math.isfinite(m.value))
    groups = [
        Group(name, tuple(m.value for m in group), *over_seeds(group, log=log, seed=seed)) for name, group in of.items()
    ]
    found = None if gaps is None else agreement({n: (_ranked(of[n]), gaps[n]) for n in of}, what.flatter)
    return Row(what, log, tuple(groups), tuple(differences(of, log=log, seed=seed)), found)


def _known(minimum: Flatness, what: Definition) -> Measure:
    """A measure of a minimum: NaN where it has none, inf where no more than a lower bound was found."""
    for measure in minimum:
        if measure.key == what.key:
            bounded = measure.at_least and what.bound == "none"
            return replace(measure, value=math.inf) if bounded else measure
    return Measure(what, math.nan, math.nan, math.nan, np.full(1, np.nan))


def _ranked(group: Sequence[Measure]) -> list[float]:
    """What ranks: of lower bounds those of samples that ended too early are the largest, of others nothing is known."""
    return [math.nan if math.isinf(m.value) and not m.censored else m.value for m in group]


def _notes(rows: Sequence[Row], members: _Members) -> list[str]:
    sizes = {name: len(group) for name, group in members.items()}
    said = []
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} {n}" for name, n in sizes.items())
        said.append(f"Groups of different sizes ({counts}) are compared over the positions that both have.")
    alone = [name for name, n in sizes.items() if n == 1]
    if alone:
        said.append(f"One seed ({', '.join(alone)}): its interval is over directions, and says nothing of other seeds.")
    if any(_repeats(group) for group in members.values()):
        said.append(
            "Several seeds of a group were measured along the same directions (the same seed of summary): the noise of "
            "directions is shared by the pairs, and the intervals leave it out."
        )
    bounds = [row.what.name for row in rows if row.what.bound == "lower"]
    if bounds:
        said.append(f"Lower bounds by definition, compared as they are: {', '.join(bounds)}.")
    if len({one.attrs["data_sha256"] for group in members.values() for one in group if "data_sha256" in one.attrs}) > 1:
        said.append(
            "Not all minima were measured on the same batches: differences may be of the data. (Examples in another "
            "order, or what other teachers gave for them, are other batches too.)"
        )
    return said + _nowhere(members)


def _nowhere(members: _Members) -> list[str]:
    """Measures that every minimum leaves out, with the first sentence of why."""
    each = [minimum.left_out for group in members.values() for minimum in group]
    everywhere = [key for key in each[0] if all(key in left for left in each)]
    return [f"Left out in every minimum: {key}: {_first_sentence(each[0][key])}" for key in everywhere]


def _first_sentence(text: str) -> str:
    return text.partition("\n")[0].partition(". ")[0].rstrip(".") + "."


def _repeats(group: Sequence[Flatness]) -> bool:
    seeds = [minimum.attrs["seed"] for minimum in group if "seed" in minimum.attrs]
    return len(set(seeds)) < len(seeds)
