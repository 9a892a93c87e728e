"""Results as HTML for a notebook: tables, in which every text is shown as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

_STYLE = "text-align:left;padding:.15em 1em .15em 0;max-width:40em;overflow-wrap:break-word"


def paragraph(text: str, *, bold: bool = False) -> Markup:
    """A text of its own; names may be long, and break where they must."""
    weight = ";font-weight:bold" if bold else ""
    return Markup('<p style="overflow-wrap:anywhere{}">{}</p>').format(weight, text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Rows of texts under their headings; the first of a row names it."""
    columns = Markup("").join(_heading("col", text) for text in head)
    lines = Markup("").join(Markup("<tr>{}</tr>").format(_cells(row)) for row in rows)
    return Markup("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>").format(columns, lines)


def _cells(row: Sequence[str]) -> Markup:
    cell = Markup('<td style="{}">{}</td>')
    return _heading("row", row[0]) + Markup("").join(cell.format(_STYLE, text) for text in row[1:])


def _heading(scope: str, text: str) -> Markup:
    return Markup('<th scope="{}" style="{}">{}</th>').format(scope, _STYLE, text)
