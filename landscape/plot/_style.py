"""How figures look: the methods, the same in every figure that names them in one order; and the place they are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes

WIDTH = 6.4
"""Width of a figure with one column of axes, in inches, where no style says otherwise."""

BAND_ALPHA = 0.18
"""Opacity of a band, so that three of them can lie on each other."""

MISSING_COLOR = "#8c8c8c"
"""Of what stands for absent values and of reference lines."""


@dataclass(frozen=True)
class Look:
    """Colour, line style and marker of one method."""

    color: str
    linestyle: str | tuple[int, tuple[float, ...]]
    marker: str


# Hues that stay apart for colour-blind readers, in an order in which neighbours differ in luminance too (CIE L* 21, 49,
# 70, 30, 51, 74), so that a greyscale print still tells them apart; line style and marker say it a second time.
_LOOKS = (
    Look("#1b2f6e", "solid", "o"),
    Look("#cc4c02", (0, (5.0, 1.5)), "s"),
    Look("#5ab4e5", (0, (5.0, 1.5, 1.0, 1.5)), "D"),
    Look("#6b2360", (0, (1.0, 1.2)), "^"),
    Look("#1a8a5a", (0, (8.0, 2.0)), "v"),
    Look("#d9b13b", (0, (3.0, 1.0, 1.0, 1.0, 1.0, 1.0)), "P"),
)


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each method, by order of appearance.

    Raises:
        ValueError: There is no method, or more than there are looks.
    """
    names = list(names)
    if not 1 <= len(names) <= len(_LOOKS):
        raise ValueError(f"expected 1 to {len(_LOOKS)} methods. Got {len(names)}. Draw several figures.")
    return dict(zip(names, _LOOKS, strict=False))


def tidy(ax: Axes) -> None:
    """Leave only what carries information: two spines and a faint grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)


_COLUMN = {1: 3.25, 2: 6.75}
"""Width of a figure over one and over two columns of a journal's page, in inches."""

_PAPER: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.labelsize": "medium",
    "axes.titlesize": "medium",
    "axes.linewidth": 0.6,
    "legend.fontsize": "small",
    "xtick.labelsize": "small",
    "ytick.labelsize": "small",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
}

_width: ContextVar[float | None] = ContextVar("width of figures in inches", default=None)


@contextmanager
def style(name: Literal["paper"], *, columns: Literal[1, 2] = 1) -> Iterator[None]:
    """Draw for a journal: ``with ls.plot.style("paper"): figure = ls.plot.contour(surface, term="ce")``.

    Figures are as wide as a column (3.25 inches) or two (6.75), letters have 7 to 8 points, and what is else written
    under a figure is left to `caption`. Within the block matplotlib's settings are changed as by
    ``matplotlib.rc_context``; after it they are as before.

    Args:
        name: ``"paper"``.
        columns: How many columns of a page a figure spans.

    Raises:
        ValueError: There is no such style, or ``columns`` is neither 1 nor 2.
    """
    if name != "paper":
        raise ValueError(f"name must be 'paper'. Got {name!r}.")
    if columns not in _COLUMN:
        raise ValueError(f"columns must be 1 or 2. Got {columns!r}.")
    token = _width.set(_COLUMN[columns])
    try:
        with mpl.rc_context(_PAPER):
            yield
    finally:
        _width.reset(token)


def for_paper() -> bool:
    """Whether figures are drawn for a page, where a caption stands under them in the page's own type."""
    return _width.get() is not None


def width(inches: float) -> float:
    """How wide a figure is: as a style sets it, else so many inches."""
    return _width.get() or inches


def sized(inches: float, height: float) -> tuple[float, float]:
    """The size of a figure in inches: as it is asked for, or scaled to the width that a style sets."""
    return width(inches), height * width(inches) / inches
