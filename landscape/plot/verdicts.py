"""Which groups of minima are told apart, and by which measure."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from landscape.plot._axis import count
from landscape.plot._canvas import Given, canvas
from landscape.plot._style import width
from landscape.plot._text import height, wrapped
from landscape.sharpness.verdict import Difference, Verdict

# A dark and a light colour, so that a greyscale print tells them apart; the words in the cells say it a second time.
_FACE = {"flatter": ("#2a5a9c", "white"), "sharper": ("#f3b27a", "black")}
_PLAIN = ("#f4f4f4", "#555555")
_LABEL, _CELL, _LEAST = 1.9, 1.15, 0.6
"""Inches of a measure's name, of a cell, and of the narrowest cell: with many pairs a figure is wider than a style."""
_PAD, _GAP = 0.12, 0.1
"""Inches around the text of a cell, above and below it and at its sides."""
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
    inches = width(_LABEL + _CELL * len(pairs))
    label = min(_LABEL, 0.38 * inches)
    cell = max(_LEAST, (inches - label) / len(pairs))
    names = [wrapped(row.what.name, label, "small") for row in verdict.rows]
    heads = [_head(pair, cell) for pair in pairs]
    texts = [[_text(difference, cell) for difference in row.differences] for row in verdict.rows]
    lines = [max(text.count("\n") for text in (*row, name)) + 1 for row, name in zip(texts, names, strict=True)]
    rows = height(max(lines), "small") + _PAD
    top = height(1 + max(head.count("\n") for head in heads), "small")
    on = canvas(ax, size=(max(inches, label + cell * len(pairs)), top + rows * len(names) + 0.3))
    (panel,) = on.axes
    for y, row in enumerate(verdict.rows):
        for x, difference in enumerate(row.differences):
            face, ink = _FACE.get(difference.outcome, _PLAIN)
            panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", linewidth=2))
            panel.text(x, y, texts[y][x], ha="center", va="center", fontsize="small", color=ink, linespacing=1.15)
    panel.set_xlim(-0.5, len(pairs) - 0.5)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xticks(np.arange(len(pairs)), heads, fontsize="small", parse_math=False)
    panel.set_yticks(np.arange(len(names)), names, fontsize="small", parse_math=False)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    n = sorted({difference.n for row in verdict.rows for difference in row.differences})
    of = count(n[-1], "pair") if len(n) == 1 else f"{n[0]} to {n[-1]} pairs"
    return on.finish(f"Which groups of minima are told apart, each two by {of} of one seed.", _READ_AS)


def _head(pair: Difference, inches: float) -> str:
    return "\n".join(wrapped(text, inches - _GAP, "small") for text in (pair.one, "against", pair.other))


def _text(difference: Difference, inches: float) -> str:
    if difference.outcome == "undefined":
        return "undefined"
    size = f"{difference.value:.3g} times" if difference.scale == "ratio" else f"{difference.value:+.3g}"
    return f"{wrapped(difference.outcome, inches - _GAP, 'small')}\n{wrapped(size, inches - _GAP, 'small')}"
