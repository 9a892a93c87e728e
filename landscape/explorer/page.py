"""One self-contained page: its data, the scripts that show them, and plotly.js."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs

from landscape.files import write_whole


@dataclass(frozen=True)
class Page:
    """A page with controls and charts, made in the browser from its data.

    Attributes:
        title: Heading, shown as text.
        scripts: Names in ``landscape/templates/explorer``, in the order in which they run, after ``common.js``.
        data: What the scripts show; of texts, numbers, lists and tables, arrays as by `landscape.explorer.arrays`.
        picture: Draws what stands in for the page where no script runs.
        styles: Names of its own style sheets, after ``page.css``.
    """

    title: str
    scripts: Sequence[str] = field(repr=False)
    data: Mapping[str, Any] = field(repr=False)
    picture: Callable[[], Figure] = field(repr=False)
    styles: Sequence[str] = field(default=(), repr=False)

    def to_html(self) -> str:
        """The whole page as text: pictures, styles and scripts are part of it, and it needs no network."""
        environment = Environment(
            loader=PackageLoader("landscape", "templates/explorer"), autoescape=True, undefined=StrictUndefined
        )
        return environment.get_template("page.html.j2").render(
            title=self.title,
            style=Markup("".join(map(_read, ("page.css", *self.styles)))),
            plotly=Markup(get_plotlyjs()),
            scripts=[Markup(_read(name)) for name in ("common.js", *self.scripts)],
            data=_as_json(self.data),
        )

    def write_html(self, path: str | Path) -> None:
        """Write the page whole or not at all, replacing a file that is there.

        Raises:
            OSError: The file cannot be written; one that was there is unchanged.
        """
        folder = Path(path).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"{folder} must be a folder that can be made. Got: {error.strerror or error}.") from error
        write_whole(path, self.to_html().encode(errors="replace"))

    def show(self) -> None:
        """Show the page to be used: in a notebook below the cell, elsewhere in the web browser.

        Where there is no display, it says which file to open on another machine.
        """
        from landscape import notebook

        notebook.show(self)

    def _repr_html_(self) -> str:
        from landscape import notebook

        return notebook.page_html(self)


def _as_json(data: Mapping[str, Any]) -> Markup:
    """Data for a script element, in which no text can end it: ``<`` is written as an escape."""
    return Markup(json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))


@cache
def _read(name: str) -> str:
    return (files("landscape") / "templates" / "explorer" / name).read_text(encoding="utf-8")
