"""How a method looks: the same in every figure that names the methods in the same order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.axes import Axes

WIDTH = 6.4
"""Width of a figure with one column of axes, in inches."""

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
