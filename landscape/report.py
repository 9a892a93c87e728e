"""One self-contained HTML page: a summary, a table, figures with their meaning, and what it takes to repeat them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from plotly import graph_objects as go
from plotly.offline import get_plotlyjs

from landscape.files import write_whole
from landscape.plot._save import render


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

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"expected rows of {len(self.columns)} cells, one a column. "
                    f"Got {len(row)} in {list(row)}. Fill the row up."
                )


@dataclass(frozen=True)
class Section:
    """A figure under its title, with a few sentences on how to read it.

    Attributes:
        title: Heading, and alternative text of the figure.
        meaning: What the figure shows and what it does not.
        figure: From ``landscape.plot`` or ``landscape.explorer``.
    """

    title: str
    meaning: str
    figure: Figure | go.Figure


def page(title: str, summary: str, table: Table, sections: Sequence[Section], details: Mapping[str, str]) -> str:
    """A whole page as text: pictures, styles and scripts are part of it, and it needs no network.

    Every argument is shown as text, never read as HTML.

    Args:
        title: Heading of the page.
        summary: What was found; an empty line starts a new paragraph.
        table: The numbers.
        sections: Figures, in order.
        details: Configuration, versions, commands: text to unfold, by heading.
    """
    interactive = any(not isinstance(section.figure, Figure) for section in sections)
    template = _environment().get_template("report.html.j2")
    return template.render(
        title=title,
        paragraphs=[part.strip() for part in summary.split("\n\n") if part.strip()],
        table=table,
        sections=[
            {"id": f"section-{i}", "title": s.title, "meaning": s.meaning, "figure": _figure(s, f"figure-{i}")}
            for i, s in enumerate(sections, start=1)
        ],
        details=details,
        # Once for all figures; it is larger than all the rest of the page.
        script=Markup(get_plotlyjs()) if interactive else None,
    )


def write(path: str | Path, html: str) -> None:
    """Write a page whole or not at all, replacing a file that is there.

    Raises:
        OSError: The file cannot be written; one that was there is unchanged.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, html.encode())


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("landscape"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _figure(section: Section, element: str) -> Markup:
    if isinstance(section.figure, Figure):
        data = base64.b64encode(render(section.figure, "png")).decode("ascii")
        return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, f"Figure: {section.title}")
    chart = section.figure.to_html(full_html=False, include_plotlyjs=False, div_id=element, config={"responsive": True})
    return Markup('<div class="chart" role="group" aria-label="{}">{}</div>').format(
        f"Interactive figure: {section.title}", Markup(chart)
    )
