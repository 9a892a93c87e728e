"""Which groups of minima are told apart, and by which measure."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from landscape.plot._canvas import Given, canvas
from landscape.sharpness.verdict import Difference, Verdict

# A dark and a light colour, so that a greyscale print tells them apart; the words in the cells say it a second time.
_FACE = {"flatter": ("#2a5a9c", "white"), "sharper": ("#f3b27a", "black")}
_PLAIN = ("#f4f4f4", "#555555")
_LETTERS = 26
_READ_AS = (
    "The first against the second: so many times as large, or the difference. Dark: the first is flatter; light: "
    "sharper; grey: neither was found."
)


def verdicts(verdict: Verdict, *, ax: Given = None) -> Figure:
    """A line for each measure and a column for every two groups: what the first is, against the second.

    Coloured where the groups are told apart: dark where the first is flatter, light where it is sharper. The number is
    the ratio of the first to the second, or their difference where it has a sign.

    Args:
        verdict: Of two groups or more.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: It has no measure.
    """
    if not verdict.rows:
        raise ValueError("verdict must have a measure. Got none.")
    pairs = verdict.rows[0].differences
    names = [textwrap.fill(row.what.name, _LETTERS) for row in verdict.rows]
    label = 0.075 * max(len(line) for name in names for line in name.splitlines())
    heads = [f"{pair.one}\nagainst\n{pair.other}" for pair in pairs]
    wide = max(1.15, 0.085 * max(len(line) for head in heads for line in head.splitlines()))
    height = 1.15 + 0.42 * len(names)
    on = canvas(ax, size=(label + wide * len(pairs) + 0.4, height))
    (panel,) = on.axes
    for y, row in enumerate(verdict.rows):
        for x, difference in enumerate(row.differences):
            face, ink = _FACE.get(difference.outcome, _PLAIN)
            panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=2))
            panel.text(x, y, _text(difference), ha="center", va="center", fontsize=7.5, color=ink, linespacing=1.15)
    panel.set_xlim(-0.5, len(pairs) - 0.5)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xticks(np.arange(len(pairs)), heads, fontsize="small")
    panel.set_yticks(np.arange(len(names)), names, fontsize="small")
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    return on.finish("Which groups of minima are told apart.", _READ_AS)


def _text(difference: Difference) -> str:
    if difference.outcome == "undefined":
        return "undefined"
    size = f"{difference.value:.3g} times" if difference.scale == "ratio" else f"{difference.value:+.3g}"
    return f"{difference.outcome}\n{size}"
