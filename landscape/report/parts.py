"""What a report is made of, whatever it is written as; every text in it is shown as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeAlias

from matplotlib.figure import Figure

from landscape.plot._alt import alt_text
from landscape.plot._caption import caption
from landscape.plot._save import render

_LARGE = 250_000
"""Bytes of a vector picture above which it is a raster one."""
_NUMBER = re.compile(
    r"[+-]?(\d[\d,]*(\.\d+)?(e[+-]?\d+)?|inf|nan)(,? [^;]*)?$|undefined$|not (stated|measured)$|no pairs$|$"
)
"""A number, with what may follow it: a spread, an interval, a p value."""


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; the first column names the rows.

    Attributes:
        caption: What the table shows.
        columns: Headings.
        rows: Cells, as many in each row as there are headings.

    Raises:
        ValueError: A row has another number of cells than there are columns.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"expected rows of {len(self.columns)} cells, one a column. "
                    f"Got {len(row)} in {list(row)}. Fill the row up."
                )

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers; the names of the rows are none."""
        return [i > 0 and all(_NUMBER.match(row[i]) for row in self.rows) for i in range(len(self.columns))]


@dataclass(frozen=True)
class Picture:
    """A figure under its title, with a few sentences on how to read it.

    Attributes:
        name: Short, of letters, digits and hyphens: of its file, and of its place in a page.
        title: Heading.
        meaning: What the figure shows and what it does not.
        figure: From ``landscape.plot``.
    """

    name: str
    title: str
    meaning: str
    figure: Figure
    kind: ClassVar[str] = "picture"

    @property
    def caption(self) -> str:
        """What the figure says of itself, but for the note that is written in it already."""
        note = " ".join(self.figure.get_supxlabel().replace("-\n", "-").split())
        return caption(self.figure).removesuffix(note).strip()

    @property
    def alternative(self) -> str:
        """What stands for the figure where it is not seen."""
        return alt_text(self.figure)

    @cached_property
    def content(self) -> tuple[str, bytes]:
        """``"svg"`` or, where that is large, ``"png"``, and the bytes of the file."""
        vector = render(self.figure, "svg")
        return ("svg", vector) if len(vector) <= _LARGE else ("png", render(self.figure, "png"))


@dataclass(frozen=True)
class Point:
    """An entry of a list.

    Attributes:
        text: What it says.
        command: What to type for it, if anything.
        head: What it is about, in front of the text.
    """

    text: str
    command: str = ""
    head: str = ""


@dataclass(frozen=True)
class Points:
    """A list."""

    items: Sequence[Point]
    kind: ClassVar[str] = "points"


@dataclass(frozen=True)
class Code:
    """Text to be copied: commands, a configuration."""

    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Link:
    """A file beside the report, at a path relative to it.

    Raises:
        ValueError: The path is not relative, or is an address.
    """

    text: str
    target: str
    kind: ClassVar[str] = "link"

    def __post_init__(self) -> None:
        if self.target.startswith("/") or ":" in self.target:
            raise ValueError(f"target must be a path relative to the report. Got {self.target!r}.")


@dataclass(frozen=True)
class Folded:
    """What not every reader wants: it is there to unfold, and open in print."""

    title: str
    parts: Sequence[Part]
    kind: ClassVar[str] = "folded"


Part: TypeAlias = str | Table | Picture | Points | Code | Link | Folded
"""A paragraph as text, or one of the others."""


@dataclass(frozen=True)
class Section:
    """A part of a report under its heading."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        title: Heading.
        lead: What comes before the first section.
        sections: In order.
    """

    title: str
    lead: Sequence[Part]
    sections: Sequence[Section]
