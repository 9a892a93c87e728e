"""Agreement of every two of several gradients."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from landscape.conflict.result import Conflict
from landscape.plot._axis import count
from landscape.plot._bands import mean_of_known
from landscape.plot._canvas import Given, canvas

_COLORS = "RdBu"
_CELL = 0.85


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
    size = 1.6 + _CELL * len(conflict.terms)
    on = canvas(ax, size=(size + 1.0, size))
    (panel,) = on.axes
    image = panel.imshow(mean, cmap=_COLORS, vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(mean):
        if not np.isnan(value):
            color = "white" if abs(value) > 0.6 else "black"
            text = _text(conflict, row, column, value)
            panel.text(column, row, text, ha="center", va="center", fontsize="small", color=color)
    ticks = np.arange(len(conflict.terms))
    panel.set_xticks(ticks, labels=conflict.terms, fontsize="small")
    panel.set_yticks(ticks, labels=conflict.terms, fontsize="small")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    on.figure.colorbar(image, ax=panel, shrink=0.8, label="cosine of the gradients")
    note = f"Mean over {count(len(conflict.step), 'record')}."
    if conflict.whole is not None:
        note += " In brackets: of the gradients over all the examples read."
    return on.finish("Cosine of the gradients of every two terms.", note)


def _text(conflict: Conflict, row: int, column: int, value: float) -> str:
    if conflict.whole is None or row == column:
        return f"{value:.2f}"
    return f"{value:.2f}\n({conflict.whole.cosines[row, column]:.2f})"
