"""Axes to draw on: the caller's, or those of a new figure; and what is said of what was drawn."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plot._axis import count
from landscape.plot._style import for_paper, sized

Given = Axes | Sequence[Axes] | None
"""What a caller may give as ``ax``: axes, as many as there are panels, or nothing."""

_LETTERS, _LINE = 17.5, 0.16
"""Letters that fit into an inch, and the height of a line in inches."""


@dataclass(frozen=True)
class Canvas:
    """Where a figure is drawn.

    Attributes:
        figure: The whole figure.
        axes: One for each panel.
        own: Whether the figure was made here, so that legends and notes may stand outside of the axes.
        columns: How many panels stand side by side.
    """

    figure: Figure
    axes: list[Axes]
    own: bool
    columns: int = 1

    def legend(self, handles: Sequence[Any] | None = None, *, loc: Any = "outside upper center", **of: Any) -> None:
        """A legend outside of the axes of an own figure, at ``loc``; of other ones, in their first axes."""
        known: dict[str, Any] = {} if handles is None else {"handles": handles}
        if self.own:
            self.figure.legend(loc=loc, frameon=False, fontsize="small", **known, **of)
        else:
            self.axes[0].legend(fontsize="small", framealpha=0.9, **known)

    def label_x(self, text: str) -> None:
        """A name for the horizontal axes: of an own figure, for the lowest of them."""
        for ax in self.axes[-self.columns :] if self.own else self.axes:
            ax.set_xlabel(text)

    def label_y(self, text: str) -> None:
        """A name for the vertical axes: one for all in an own figure, else one for each."""
        if self.own:
            self.figure.supylabel(text, fontsize="medium")
        else:
            for ax in self.axes:
                ax.set_ylabel(text)

    def finish(self, said: str, note: str = "") -> Figure:
        """Keep what is said of the figure for `caption`, and write what must not be missed under an own one.

        Args:
            said: What is shown, and from how many examples, seeds and directions, in a sentence or two.
            note: How to read it, or how exact it is; the end of the caption. A figure for a page has it there alone.
        """
        self.axes[0].set_label(" ".join(filter(None, (said, note))))
        if note and self.own and not for_paper():
            lines = textwrap.wrap(note, max(30, int(_LETTERS * self.figure.get_figwidth())))
            self.figure.set_figheight(self.figure.get_figheight() + _LINE * (len(lines) + 0.5))
            self.figure.supxlabel("\n".join(lines), fontsize=7.5, color="#444444")  # which the layout leaves room for
        return self.figure


def canvas(
    ax: Given,
    n: int = 1,
    *,
    size: tuple[float, float],
    columns: int = 1,
    share_x: bool = False,
    share_y: bool = False,
    **of_axes: Any,
) -> Canvas:
    """Axes for ``n`` panels: those that are given, or those of a new figure.

    Args:
        ax: The caller's.
        n: How many panels.
        size: Of a new figure in inches, before a style scales it.
        columns: How many panels stand side by side in a new figure.
        share_x: Whether panels of a new figure share their horizontal scale.
        share_y: Whether they share their vertical scale.
        of_axes: For ``Figure.add_subplot``.

    Raises:
        ValueError: Other than ``n`` axes are given.
    """
    if ax is not None:
        given = [ax] if isinstance(ax, Axes) else list(np.ravel(np.asarray(ax, dtype=object)))
        if len(given) != n:
            raise ValueError(f"ax must be {count(n, 'panel')}, one for each part of the figure. Got {len(given)}.")
        figure = given[0].get_figure(root=True)
        assert figure is not None
        return Canvas(figure, given, own=False, columns=n)
    figure = Figure(figsize=sized(*size), layout="constrained")
    axes: list[Axes] = []
    for i in range(n):
        shared = {"sharex": axes[0] if share_x and axes else None, "sharey": axes[0] if share_y and axes else None}
        axes.append(figure.add_subplot(-(-n // columns), columns, i + 1, **shared, **of_axes))
    for i, own in enumerate(axes):
        own.tick_params(labelbottom=not share_x or i + columns >= n, labelleft=not share_y or i % columns == 0)
    return Canvas(figure, axes, own=True, columns=columns)
