"""What was found, in words: which methods differ, and where the runs cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

from dot.findings import Findings
from dot.reporting.numbers import Compared
from landscape.report import Folded, Part, Point, Points
from landscape.sharpness import Verdict

_READ = (
    "A difference is said where the paired t test over seeds finds one at level 0.05, corrected (Holm) for the pairs "
    "of methods in one number, not for how many numbers there are: of many, a few are found by chance. Where it cannot "
    "tell, that does not show that there is no difference."
)


def in_words(findings: Findings, compared: Sequence[Compared]) -> list[Part]:
    """For every two methods what differs and what cannot be told; then each measure of flatness in a sentence."""
    if len(findings.groups) < 2:
        return ["The runs are of one method, so there is nothing to tell apart."]
    pairs = list(dict.fromkeys((each.one, each.other) for each in compared))
    points = [_of_pair(*pair, compared, findings.verdict) for pair in pairs]
    verdict = findings.verdict
    parts: list[Part] = [] if _any(compared, verdict) else ["The runs cannot tell the methods apart in anything."]
    parts += [Points(points), _READ]
    if verdict is None:
        return [*parts, "Flatness was not measured alike on all runs, so nothing is said of it."]
    notes = [" ".join(verdict.notes)] if verdict.notes else []
    each = Points([Point(sentence) for sentence in verdict.sentences()])
    return [*parts, *notes, Folded("Each measure of flatness in a sentence", [each])]


def _any(compared: Sequence[Compared], verdict: Verdict | None) -> bool:
    """Whether any difference was found."""
    flat = [] if verdict is None else [difference.found for row in verdict.rows for difference in row.differences]
    return any(flat) or any(one.found.found for one in compared)


def _of_pair(one: str, other: str, compared: Sequence[Compared], verdict: Verdict | None) -> Point:
    """What differs, then what cannot be told and from how many seeds."""
    numbers = [each for each in compared if (each.one, each.other) == (one, other)]
    differ = [f"{each.found.verdict} {each.name} ({each.said})" for each in numbers if each.found.found]
    unknown = [f"{each.name} ({each.said})" for each in numbers if each.found.n and not each.found.found]
    if verdict is not None:
        flat, left = _of_flatness(one, other, verdict)
        differ += flat
        unknown += left
    said = [f"{_capital('; '.join(differ))}."] if differ else []
    rows = () if verdict is None else verdict.rows
    seeds = max([each.found.n for each in numbers] + [row.between(one, other).n for row in rows])
    said += [f"{_from(seeds)} cannot tell: {', '.join(unknown)}."] if unknown else []
    lacking = [each.name for each in numbers if not each.found.n]
    said += [f"Not measured on both: {', '.join(lacking)}."] if lacking else []
    return Point(" ".join(said), head=f"{one} against {other}:")


def _of_flatness(one: str, other: str, verdict: Verdict) -> tuple[list[str], list[str]]:
    names: dict[str, list[str]] = {}
    for row in verdict.rows:
        names.setdefault(row.between(one, other).outcome, []).append(row.what.name)
    n = len(verdict.rows)
    words = {"flatter": "flatter", "sharper": "sharper", "same": "the same within 0.1 %"}
    told = {said: names[outcome] for outcome, said in words.items() if outcome in names}
    differ = [f"{outcome} by {len(of)} of {n} measures ({', '.join(of)})" for outcome, of in told.items()]
    left = n - sum(map(len, told.values()))
    which = "" if not left else f"all {n} measures of flatness" if left == n else f"{left} of {n} measures of flatness"
    return differ, [which] if left else []


def _from(seeds: int) -> str:
    return f"{seeds} seeds" if seeds > 1 else "A single seed"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
