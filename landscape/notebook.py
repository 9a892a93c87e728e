"""How results show themselves in a notebook: small and static by themselves, as a whole page when asked to.

IPython is imported by nobody here: where it runs, it is there already.
"""

from __future__ import annotations

import base64
import html
import os
import sys
import tempfile
import warnings
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from landscape.conflict.result import Conflict
from landscape.explorer import Page, explore
from landscape.markup import paragraph, table
from landscape.plot import alt_text, contour, cosine, curves
from landscape.results import NOT_FINITE, PENDING, Array, Surface

_LARGEST = 40_000
"""Bytes of a picture: a notebook keeps every one of them as text, a third longer."""
_DPI = (110, 80, 55)
_COLORS = 96
_HEIGHT = 900
"""Of a page below a cell, in pixels."""


def page_html(page: Page) -> str:
    """A page as a picture, and how to get the whole."""
    return (
        paragraph(page.title, bold=True)
        + picture(page.picture)
        + Markup("<p><code>.show()</code> opens the page to be used, <code>.write_html(path)</code> writes it.</p>")
    )


def surface_html(surface: Surface) -> str:
    """Axes, cells and the values at the origin of a surface, and a picture of its first term."""
    how = ", ".join(
        f"{name} {surface.attrs[key]}" if name else str(surface.attrs[key])
        for key, name in (("split", "split"), ("epoch", "epoch"), ("normalize", "directions normalised by"))
        if surface.attrs.get(key) not in (None, "")
    )
    return (
        paragraph(f"Surface of {', '.join(surface.terms)}", bold=True)
        + (paragraph(how) if how else "")
        + table(("axis", "from", "to", "points"), _axes(surface))
        + paragraph(_cells(surface))
        + table(("term", "at the origin", "lowest", "highest"), [_values(surface, term) for term in surface.terms])
        + paragraph("What follows ± is half of a 95 % interval over examples like these.")
        + picture(lambda: _drawn(surface, surface.terms[0]))
    )


def conflict_picture(conflict: Conflict) -> str:
    """The cosine of the first two terms, drawn."""
    a, b = conflict.terms[:2]
    return picture(lambda: cosine({f"{a} and {b}": [replace(conflict, groups={}).pair(a, b)]}))


def _drawn(surface: Surface, term: str) -> Figure:
    if not np.isfinite(surface.values(term)[surface.status != PENDING]).any():
        raise ValueError(f"expected at least one finite value of {term!r}. Got none.")
    return contour(surface, term=term) if surface.y is not None else curves({"": [surface]}, term=term)


def show(result: Page | Surface | Conflict) -> None:
    """Show a page, or that of a result: in a notebook below the cell, elsewhere in the web browser."""
    page = result if isinstance(result, Page) else explore(result)
    shell = _notebook()
    if shell is not None:
        import_module("IPython.display").display({"text/html": _frame(page), "text/plain": page.title}, raw=True)
        return
    path = Path(tempfile.mkdtemp(prefix="landscape-")) / "page.html"
    page.write_html(path)
    if not (_has_display() and webbrowser.open(path.as_uri())):
        print(f"{path} holds the page. There is no web browser here to show it: open the file in one, offline too.")


def picture(draw: Callable[[], Figure]) -> Markup:
    """A figure as a small picture with its alternative text; nothing where there is nothing to draw."""
    try:
        with warnings.catch_warnings():  # of letters that no font here has: names stand in the text beside it
            warnings.simplefilter("ignore")
            figure = draw()
            content, width = _small_png(figure)
            said = alt_text(figure)
    except Exception:  # a result shows its numbers, whatever a figure of it stumbles on
        return Markup("")
    data = base64.b64encode(content).decode("ascii")
    tag = '<img src="data:image/png;base64,{}" alt="{}" style="width:{}px;max-width:100%;background:#fff">'
    return Markup(tag).format(data, said, width)


def _small_png(figure: Figure) -> tuple[bytes, int]:
    """The picture as finely drawn as its size allows, and how wide it is to be shown in pixels."""
    width = round(100 * figure.get_figwidth())
    for dpi in _DPI:
        drawn, kept = BytesIO(), BytesIO()
        figure.savefig(drawn, format="png", dpi=dpi)
        Image.open(drawn).convert("RGB").quantize(_COLORS).save(kept, format="png", optimize=True)
        if kept.tell() <= _LARGEST:
            break
    return kept.getvalue(), width


def _axes(surface: Surface) -> list[tuple[str, str, str, str]]:
    sizes = dict(zip(surface.dims, surface.status.shape, strict=True))
    coordinates: dict[str, Array | None] = {"x": surface.x, "y": surface.y}
    return [
        (f"{name} ({surface.unit})", f"{c.min():.4g}", f"{c.max():.4g}", str(size))
        if (c := coordinates.get(name)) is not None and c.size
        else (name, "", "", str(size))
        for name, size in sizes.items()
    ]


def _cells(surface: Surface) -> str:
    done, broken = int((surface.status != PENDING).sum()), int((surface.status == NOT_FINITE).sum())
    return f"{done} of {surface.status.size} cells done" + (f", {broken} of them not finite." if broken else ".")


def _values(surface: Surface, term: str) -> tuple[str, str, str, str]:
    known = surface.values(term)[surface.status != PENDING]
    ends = (f"{known.min():.4g}", f"{known.max():.4g}") if known.size else ("", "")
    mean, sem = surface.origin.get(term, (float("nan"),) * 2)
    return (term, f"{mean:.4g} ± {1.96 * sem:.2g}", *ends)


def _frame(page: Page) -> str:
    """The whole page in a frame of its own, so that its styles and scripts are its own too."""
    content, title = html.escape(page.to_html()), html.escape(page.title)
    return f'<iframe title="{title}" srcdoc="{content}" width="100%" height="{_HEIGHT}" style="border:0"></iframe>'


def _notebook() -> Any:
    """The shell of a notebook's kernel; None in a terminal and where there is no IPython."""
    find = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)
    shell = find()
    return shell if hasattr(shell, "kernel") else None


def _has_display() -> bool:
    """Whether a web browser can be seen here; one for the terminal would wait for keys."""
    own = sys.platform in ("darwin", "win32")
    return own or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
