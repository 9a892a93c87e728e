"""A report as GitHub-flavoured Markdown, with its figures in a folder beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from landscape.files import write_whole
from landscape.report.html import make_folder
from landscape.report.parts import Code, Folded, Link, Part, Picture, Point, Points, Report, Table


def markdown(report: Report, folder: str) -> tuple[str, dict[str, bytes]]:
    """The text, and the figures that it names.

    Args:
        report: What to write.
        folder: Where the figures will lie, relative to the text.

    Returns:
        The text; and ``{name: content}`` of the files for that folder.
    """
    files: dict[str, bytes] = {}
    blocks = [f"# {_inline(report.title)}", *_blocks(report.lead, folder, files)]
    for section in report.sections:
        blocks += [f"## {_inline(section.title)}", *_blocks(section.parts, folder, files)]
    return "\n\n".join(blocks) + "\n", files


def write_markdown(path: str | Path, report: Report) -> list[Path]:
    """Write the text and, in the folder ``<name>-figures`` beside it, the figures; files that are there are replaced.

    Returns:
        The paths of what was written, the text first.

    Raises:
        OSError: A file cannot be written.
    """
    path = Path(path)
    folder = path.with_name(f"{path.stem}-figures")
    text, files = markdown(report, folder.name)
    make_folder(folder if files else path.parent)
    for name, content in files.items():
        write_whole(folder / name, content)
    write_whole(path, text.encode())
    return [path, *(folder / name for name in files)]


def _blocks(parts: Sequence[Part], folder: str, files: dict[str, bytes]) -> list[str]:
    return [block for part in parts for block in _block(part, folder, files)]


def _block(part: Part, folder: str, files: dict[str, bytes]) -> list[str]:
    if isinstance(part, Table):
        return [_inline(part.caption), _table(part)]
    if isinstance(part, Picture):
        return _picture(part, folder, files)
    if isinstance(part, Points):
        return ["\n".join(map(_point, part.items))] if part.items else []
    if isinstance(part, Code):
        return [_fenced(part.text)]
    if isinstance(part, Link):
        return [f"[{_inline(part.text)}]({quote(part.target)})"]
    if isinstance(part, Folded):
        return [
            f"<details>\n<summary>{_html(part.title)}</summary>",
            *_blocks(part.parts, folder, files),
            "</details>",
        ]
    return [_inline(part)]


def _table(table: Table) -> str:
    rule = ["---:" if numeric else ":---" for numeric in table.numeric]
    rows = [[_inline(cell) for cell in row] for row in (table.columns, *table.rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def _picture(picture: Picture, folder: str, files: dict[str, bytes]) -> list[str]:
    kind, content = picture.content
    name = f"{picture.name}.{kind}"
    files[name] = content
    image = f"![{_inline(picture.alternative)}]({quote(f'{folder}/{name}')})"
    said = [_inline(picture.caption)] if picture.caption else []
    return [f"### {_inline(picture.title)}", _inline(picture.meaning), image, *said]


def _point(point: Point) -> str:
    said = f"**{_inline(point.head)}** {_inline(point.text)}" if point.head else _inline(point.text)
    if not point.command:
        return f"- {said}"
    code = "\n".join(f"  {line}" for line in _fenced(point.command).splitlines())
    return f"- {said}\n\n{code}\n"


def _fenced(text: str) -> str:
    """Text between fences that are longer than any run of backticks in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text.rstrip()}\n{fence}"


def _inline(text: str) -> str:
    """Text of which nothing is read as Markdown or HTML, in one line."""
    line = " ".join(text.split())
    escaped = re.sub(r"([\\`*_\[\]<>|~#&$])", r"\\\1", line)
    return re.sub(r"^(?=[-+=])|^\d+(?=[.)](?: |$))", r"\g<0>\\", escaped)  # what would begin a list or a heading


def _html(text: str) -> str:
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
