"""The numbers of students as tables: means with their intervals, and every two methods compared within each seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy import stats

from dot.config import METHODS, Paper
from dot.findings import Findings
from dot.outcome import COLUMNS, Student
from dot.outcome import table as rows_of
from landscape.comparing import Comparison, holm, paired
from landscape.report import Table
from landscape.sharpness.measure import Measure

COMPARED = {"accuracy": 2, "ce": 3, "kd": 3}
"""Numbers in which methods are compared, and how many digits of them count."""
_CAPTION = (
    "Mean ± standard deviation over seeds (n){interval}. Losses and accuracy on the test images; gradient cosine "
    "averaged over training, on training batches (augmented, in train mode, on the way of each method) and on a fixed "
    "held-out batch (in eval mode)."
)
_INTERVAL = "; in brackets the 95 % interval of the mean (Student's t), which is wide for few seeds"


@dataclass(frozen=True)
class Compared:
    """One method minus another in a number, within each seed."""

    key: str
    one: str
    other: str
    found: Comparison

    @property
    def name(self) -> str:
        """What is compared."""
        return COLUMNS[self.key].removesuffix(" (%)")

    def __str__(self) -> str:
        """The mean difference with its interval and p, where it has these; in the unit of the number."""
        return self._said("")

    @property
    def said(self) -> str:
        """The same with its unit: a difference of percentages is in percentage points."""
        return self._said(" percentage points" if COLUMNS[self.key].endswith(" (%)") else "")

    def _said(self, unit: str) -> str:
        form = f"+.{COMPARED[self.key]}f"
        if self.found.n < 1:
            return "no pairs"
        interval = f" [{self.found.low:{form}}, {self.found.high:{form}}]" if self.found.n > 1 else ""
        p = f", p {self.found.p_holm:.2g}" if self.found.n > 1 else ""
        return f"{self.found.mean:{form}}{unit}{interval}{p}"


def table(students: Sequence[Student], paper: Paper | None = None) -> Table:
    """Every number of every method: mean ± standard deviation, and the interval of the mean from two seeds on."""
    heading, *rows = rows_of(students, paper)
    named = {title: key for key, title in COLUMNS.items()}
    groups = list(by_method(students).values())
    rows = [
        [row[0], *(f"{cell}{_interval(group, named[row[0]])}" for cell, group in zip(row[1:], groups, strict=True))]
        if row[0] in named
        else row
        for row in rows
    ]
    several = any(len(group) > 1 for group in groups)
    return Table(_CAPTION.format(interval=_INTERVAL if several else ""), heading, rows)


def by_method(students: Sequence[Student]) -> dict[str, list[Student]]:
    """Students of each method, by its name in figures."""
    groups: dict[str, list[Student]] = {}
    for student in students:
        groups.setdefault(METHODS[student.method], []).append(student)
    return groups


def _interval(group: Sequence[Student], key: str) -> str:
    values = [student.numbers.get(key, math.nan) for student in group]
    n = len(values)
    if n < 2 or not all(map(math.isfinite, values)):
        return ""
    mean, half = statistics.fmean(values), stats.t.ppf(0.975, n - 1) * statistics.stdev(values) / math.sqrt(n)
    digits = 2 if key.startswith("accuracy") else 3
    return f" [{mean - half:.{digits}f}, {mean + half:.{digits}f}]"


def compared(students: Sequence[Student]) -> list[Compared]:
    """Every later method against every earlier one, in the numbers of `COMPARED`; p is Holm's for the pairs of each."""
    groups = list(by_method(students).items())
    found = []
    for key in COMPARED:
        pairs = [(later, earlier) for i, later in enumerate(groups) for earlier in groups[:i]]
        each = [paired(_by_seed(one, key), _by_seed(other, key)) for (_, one), (_, other) in pairs]
        adjusted = holm([one.p for one in each])
        found += [
            Compared(key, one, other, replace(comparison, p_holm=p))
            for ((one, _), (other, _)), comparison, p in zip(pairs, each, adjusted, strict=True)
        ]
    return found


def _by_seed(group: Sequence[Student], key: str) -> Mapping[int, float]:
    return {student.seed: student.numbers.get(key, math.nan) for student in group}


def differences(found: Sequence[Compared]) -> Table:
    """Every two methods in every number."""
    pairs = list(dict.fromkeys((each.one, each.other) for each in found))
    cells = {(each.key, each.one, each.other): each for each in found}
    return Table(
        "Differences within each seed: their mean and its 95 % interval (Student's t), and p of the paired t test, "
        "by Holm for the pairs of a row.",
        ["", *(f"{one} minus {other}" for one, other in pairs)],
        [[_in_points(key), *(str(cells[key, *pair]) for pair in pairs)] for key in COMPARED],
    )


def _in_points(key: str) -> str:
    return COLUMNS[key].replace("(%)", "(percentage points)")


def flatness(findings: Findings) -> list[Table]:
    """The verdict's tables; of a single method the numbers of each seed; none where nothing was measured alike."""
    what = "of the task loss on the training images"
    if findings.verdict is not None:
        heading, *rows = findings.verdict.table()
        n = 2 + len(findings.groups)
        means = f"Flatness {what}: the mean of each method and its 95 % interval over seeds and directions."
        ratios = (
            f"Flatness {what}: what was found of every two methods, and their ratio within each seed, with its 95 % "
        )
        ratios += "interval (their difference, where a value is not positive)."
        if findings.verdict.rows[0].agreement is not None:
            ratios += " Tau is Kendall's rank correlation with the gap between test and training loss."
        return [
            Table(means, heading[:n], [row[:n] for row in rows]),
            Table(ratios, [heading[0], *heading[n:]], [[row[0], *row[n:]] for row in rows]),
        ]
    if not findings.flat:
        return []
    ((name, group),) = findings.flat.items()
    seeds = [f"{name}, seed {run.config.seed}" for run in findings.groups[name]]
    rows = [
        [first.name, first.what.flatter, *(_with_interval(one[first.key]) for one in group)]
        for first in group[0]
        if all(first.key in one.keys() for one in group)  # noqa: SIM118
    ]
    return [Table(f"Flatness {what}, and 95 % intervals over directions.", ["measure", "flatter is", *seeds], rows)]


def _with_interval(measure: Measure) -> str:
    bound = ">= " if measure.at_least else ""
    interval = "" if math.isnan(measure.low) else f" [{measure.low:.3g}, {measure.high:.3g}]"
    return f"{bound}{measure.value:.3g}{interval}"
