"""A report as one self-contained HTML page: no network, no script."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from landscape.files import write_whole
from landscape.report.parts import Picture, Report


def page(report: Report) -> str:
    """A whole page as text: pictures and styles are part of it."""
    environment = Environment(
        loader=PackageLoader("landscape"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["image"] = _image
    environment.filters["unbroken"] = _unbroken
    environment.tests["text"] = lambda part: isinstance(part, str)
    return environment.get_template("report.html.j2").render(report=report)


def write(path: str | Path, report: Report) -> None:
    """Write the page whole or not at all, replacing a file that is there.

    Raises:
        OSError: The file cannot be written; one that was there is unchanged.
    """
    path = Path(path)
    make_folder(path.parent)
    write_whole(path, page(report).encode())


def make_folder(path: Path) -> None:
    """Make a folder where it is not there yet.

    Raises:
        OSError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{path} cannot be made: {error.strerror}. Give another place to write to.") from error


def _unbroken(cell: str) -> str:
    """A cell of a table whose intervals are not broken over two lines."""
    return re.sub(r"\[.*?\]", lambda interval: interval[0].replace(" ", "\u00a0"), cell)


def _image(picture: Picture) -> Markup:
    kind, content = picture.content
    data = base64.b64encode(content).decode("ascii")
    width, height = (round(96 * inches) for inches in picture.figure.get_size_inches())
    return Markup('<img src="data:image/{};base64,{}" width="{}" height="{}" alt="{}">').format(
        {"svg": "svg+xml", "png": "png"}[kind], data, width, height, picture.alternative
    )
