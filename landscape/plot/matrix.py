"""Agreement of every two of several gradients."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from landscape.conflict.result import Conflict
from landscape.plot._axis import count
from landscape.plot._bands import mean_of_known
from landscape.plot._canvas import Given, canvas
from landscape.plot._conflicts import examples_said
from landscape.plot._style import width
from landscape.plot._text import height, wide, wrapped

_COLORS = "RdBu"
_CELL, _NAME = 0.85, 1.0
"""Inches of a cell, and of a term's name at most."""


def cosines(conflict: Conflict, *, ax: Given = None) -> Figure:
    """Mean cosine of every two terms' gradients over the records, as a matrix with its values written in the cells.

    Red is conflict and blue agreement, on a scale from -1 to 1. Below each mean stands, in brackets, the cosine of the
    gradients over all the examples, where these were measured. A cell of terms that never have a cosine is empty.

    Args:
        conflict: Of two or more terms.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: It has no records.
    """
    if not len(conflict.step):
        raise ValueError("conflict must have records. Got none.")
    mean = mean_of_known(conflict.cosines, axis=0)
    n = len(conflict.terms)
    rows = [wrapped(term, _NAME, "small") for term in conflict.terms]
    left = max(wide(name, "small") for name in rows) + 0.2
    inches = width(left + 0.2 + _CELL * n)
    cell = min(_CELL, (inches - left) / n)
    columns = [wrapped(term, cell, "small") for term in conflict.terms]
    on = canvas(ax, size=(inches, 1.0 + height(max(name.count("\n") for name in columns) + 1, "small") + cell * n))
    (panel,) = on.axes
    image = panel.imshow(mean, cmap=_COLORS, vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(mean):
        if not np.isnan(value):
            color = "white" if abs(value) > 0.6 else "black"
            text = _text(conflict, row, column, value)
            panel.text(column, row, text, ha="center", va="center", fontsize="small", color=color)
    ticks = np.arange(len(conflict.terms))
    panel.set_xticks(ticks, columns, fontsize="small", parse_math=False)
    panel.set_yticks(ticks, rows, fontsize="small", parse_math=False)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    bar = on.figure.colorbar(image, ax=panel, location="bottom", shrink=0.8, aspect=25, ticks=[-1, -0.5, 0, 0.5, 1])
    bar.set_label("cosine of the gradients", fontsize="small")
    bar.ax.tick_params(labelsize="small")
    note = f"Mean over {count(len(conflict.step), 'record')}."
    if conflict.whole is not None:
        note += " In brackets: of the gradients over all the examples read."
    said = "; ".join(filter(None, ("Cosine of the gradients of every two terms", examples_said([conflict]))))
    return on.finish(f"{said}.", note)


def _text(conflict: Conflict, row: int, column: int, value: float) -> str:
    if conflict.whole is None or row == column:
        return f"{value:.2f}"
    return f"{value:.2f}\n({conflict.whole.cosines[row, column]:.2f})"
