"""What a comparison of groups of minima found: numbers, a table and sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from landscape.markup import paragraph, table
from landscape.sharpness.measure import Definition
from landscape.sharpness.ranking import Agreement

Outcome = Literal["flatter", "sharper", "not told apart", "same", "too few pairs", "undefined"]
"""Of the first group of a pair, against the second.

``"same"``: the whole interval lies within 0.1 % of no difference; ``"too few pairs"``: one, which says nothing of other
seeds; ``"undefined"``: none with a value on both sides.
"""


@dataclass(frozen=True)
class Group:
    """A measure in one group of minima.

    Attributes:
        name: Of the group.
        values: Of each minimum; inf where only a lower bound of it is known, NaN where undefined.
        value: Mean over the minima whose value is finite: the geometric one where the row is on a logarithmic scale.
        low: Lower end of its 95 % interval over seeds and directions, see `landscape.sharpness.two_levels.over_seeds`;
            of a single minimum, over its directions only; NaN where it has none.
        high: Upper end.
    """

    name: str
    values: tuple[float, ...]
    value: float
    low: float
    high: float

    @property
    def n(self) -> int:
        """Minima with a finite value."""
        return sum(map(math.isfinite, self.values))

    @property
    def missing(self) -> str:
        """Which minima have none, in words; empty where all have."""
        beyond = sum(value == math.inf for value in self.values)
        undefined = len(self.values) - self.n - beyond
        said = [f"{beyond} with no more than a lower bound"] if beyond else []
        said += [f"{undefined} undefined"] if undefined else []
        return f"{self.name}: {' and '.join(said)}, of {len(self.values)}" if said else ""

    def __str__(self) -> str:
        if not self.n and math.inf in self.values:
            return "a lower bound"
        return _between(self.value, self.low, self.high)


@dataclass(frozen=True)
class Difference:
    """One group against another, over the pairs of minima that share a seed.

    Attributes:
        one: The group that is spoken of.
        other: What it is compared with.
        scale: ``"ratio"``: ``one`` over ``other``, from the mean difference of logarithms; ``"difference"``: ``one``
            minus ``other``, where not every value is positive.
        value: Of the ratio or the difference; NaN where undefined.
        low: Lower end of its 95 % interval, Student's over the pairs; NaN below two pairs.
        high: Upper end.
        p: p value of no difference, of the paired t test.
        p_holm: The same, adjusted for all the pairs of groups (Holm); what decides.
        n: Pairs with a finite value on both sides.
        dropped: Other pairs. Leaving them out favours neither group, so that no false difference comes from it; the
            size of the difference is of the pairs that are left.
        outcome: See `Outcome`.
        more_seeds: About how many more would tell a difference of this size apart in 80 % of studies, at a level of 5 %
            that is shared out to the pairs of groups; None where that was not asked, or takes more than 10,000.
        directions: Samples (directions, draws) of each minimum; 0 where they differ in number.
        within: Share of the variance of the pairs' differences that comes from the directions alone; NaN below two
            pairs.
        directions_instead: How many directions a seed would do as well, where they are half of the variance or more.
    """

    one: str
    other: str
    scale: Literal["ratio", "difference"]
    value: float
    low: float
    high: float
    p: float
    p_holm: float
    n: int
    dropped: int
    outcome: Outcome
    more_seeds: int | None = None
    directions: int = 0
    within: float = math.nan
    directions_instead: int | None = None

    @property
    def found(self) -> bool:
        """Whether the groups are told apart."""
        return self.outcome in ("flatter", "sharper")

    @property
    def size(self) -> str:
        """The ratio or the difference with its interval."""
        return _between(self.value, self.low, self.high, sign=self.scale == "difference")

    @property
    def sentence(self) -> str:
        """In words, with numbers."""
        return f"{self._claim()}{self._left_out()}."

    def _claim(self) -> str:
        both = f"{self.one} and {self.other}"
        of = f"{self.size} {'times as large' if self.scale == 'ratio' else 'difference'}"
        if self.found:
            return f"{self.one} is {self.outcome} than {self.other}: {of} ({self._test()})"
        if self.outcome == "same":
            return f"{both} are the same within 0.1 % (n = {self.n})"
        if self.outcome == "undefined":
            return f"{both} cannot be compared: there is no pair with a value on both sides"
        if self.outcome == "too few pairs":
            return f"{both} are not told apart with 1 seed: {of}, which says nothing of other seeds; it takes 2 or more"
        return f"{both} are not told apart with {self.n} seeds ({self._test()}): {of}; {self._more()}"

    def _test(self) -> str:
        alone = "" if self.p == self.p_holm else f", {self.p:.2g} alone"
        return f"n = {self.n}, p {self.p_holm:.2g}{alone}"

    def _more(self) -> str:
        if self.more_seeds is None:
            return "more than 10,000 seeds would be needed to tell a difference of this size apart"
        told = f"about {_count(self.more_seeds, 'more seed')} would tell a difference of this size apart"
        if self.directions_instead is None:
            return told
        return (
            f"{told}, or about {self.directions_instead} directions a seed instead of {self.directions}, which make "
            f"{100 * self.within:.0f} % of the variance"
        )

    def _left_out(self) -> str:
        return f"; {_count(self.dropped, 'pair')} left out for want of a value" if self.dropped else ""


@dataclass(frozen=True)
class Row:
    """A measure: the groups, every two of them, and how it agrees with the generalisation gap.

    Attributes:
        what: The measure.
        log: Whether all values are positive, so that means and differences are of logarithms.
        groups: In the order given.
        differences: Of every two groups, the later against the earlier.
        agreement: With the gaps; None where none were given.
    """

    what: Definition
    log: bool
    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]
    agreement: Agreement | None = None

    def between(self, one: str, other: str) -> Difference:
        """The difference of two groups, in the order of the row.

        Raises:
            KeyError: There is none of these two, in this order.
        """
        for difference in self.differences:
            if (difference.one, difference.other) == (one, other):
                return difference
        known = ", ".join(f"{d.one} against {d.other}" for d in self.differences)
        raise KeyError(f"expected one of {known}. Got {one!r} against {other!r}.")


@dataclass(frozen=True)
class Verdict:
    """Whether groups of minima can be told apart, by every measure.

    Attributes:
        rows: One for each measure.
        notes: What must be known to read them, a sentence each.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def __getitem__(self, key: str) -> Row:
        for row in self.rows:
            if row.what.key == key:
                return row
        raise KeyError(f"expected one of {', '.join(row.what.key for row in self.rows)}. Got {key!r}.")

    def table(self) -> list[list[str]]:
        """A heading, and a line for each measure: the groups, then every two of them."""
        first = self.rows[0]
        head = ["measure", "flatter is", *(group.name for group in first.groups)]
        head += [f"{d.one} against {d.other}" for d in first.differences]
        head += ["tau with the gap"] if first.agreement is not None else []
        return [head, *(_cells(row) for row in self.rows)]

    def sentences(self) -> list[str]:
        """One for every two groups in every measure, and what has no value."""
        found = []
        for row in self.rows:
            found += [f"{row.what.name}: {difference.sentence}" for difference in row.differences]
            missing = "; ".join(filter(None, (group.missing for group in row.groups)))
            found += [f"{row.what.name}: without a value: {missing}."] if missing else []
        return found

    def __str__(self) -> str:
        table = self.table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
        return "\n".join([*lines, *self.sentences(), *self.notes])

    def _repr_html_(self) -> str:
        head, *rows = self.table()
        return table(head, rows) + Markup("").join(map(paragraph, [*self.sentences(), *self.notes]))


def _cells(row: Row) -> list[str]:
    cells = [row.what.name, row.what.flatter, *map(str, row.groups)]
    for difference in row.differences:
        unknown = difference.outcome == "undefined"
        cells.append(difference.outcome if unknown else f"{difference.outcome}: {difference.size}")
    return cells + ([str(row.agreement)] if row.agreement is not None else [])


def _between(value: float, low: float, high: float, *, sign: bool = False) -> str:
    if math.isnan(value):
        return "undefined"
    form = "+.3g" if sign else ".3g"
    return f"{value:{form}}" + ("" if math.isnan(low) else f" [{low:{form}}, {high:{form}}]")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
