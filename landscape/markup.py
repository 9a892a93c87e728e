"""Results as HTML for a notebook: tables, in which every text is shown as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape


def paragraph(text: str, *, bold: bool = False) -> Markup:
    """A text of its own; names may be long, and break where they must."""
    weight = ";font-weight:bold" if bold else ""
    return Markup('<p style="overflow-wrap:anywhere{}">{}</p>').format(weight, text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Rows of texts under their headings; the first of a row names it."""
    columns = Markup("").join(Markup('<th scope="col" style="text-align:left">{}</th>').format(text) for text in head)
    lines = Markup("").join(Markup("<tr>{}</tr>").format(_cells(row)) for row in rows)
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(columns, lines)


def _cells(row: Sequence[str]) -> Markup:
    first, *others = (escape(text) for text in row)
    name = Markup('<th scope="row" style="text-align:left;max-width:24em;overflow-wrap:anywhere">{}</th>').format(first)
    cells = (
        Markup('<td style="text-align:left;max-width:40em;overflow-wrap:anywhere">{}</td>').format(c) for c in others
    )
    return name + Markup("").join(cells)
