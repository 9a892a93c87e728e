"""Axes to draw on: the caller's, or those of a new figure; and what is said of what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.plot._axis import count
from landscape.plot._names import visible
from landscape.plot._style import for_paper, sized
from landscape.plot._text import height, wide, wrapped

Given = Axes | Sequence[Axes] | None
"""What a caller may give as ``ax``: axes, as many as there are panels, or nothing."""

_MARGIN, _GAP = 0.6, 0.1
"""Inches of a figure's width that are left of its panels, and between two of them."""
_NUMBER = 4.0
"""Width that a number under a panel takes with the room beside it, in heights of a line."""
_KEY = 3.8
"""Width of what stands before and after a text in a legend, in heights of a line."""


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

    def legend(
        self,
        handles: Sequence[Any] | None = None,
        *,
        loc: Any = "outside upper center",
        ncols: int | None = None,
        title: str | None = None,
    ) -> None:
        """A legend outside of the axes of an own figure, at ``loc``; of other ones, in their first axes.

        Names are shown as they are, never read as formulas, and broken where they are wider than the figure. As many
        stand side by side as there is room for, up to ``ncols``; the figure grows with their lines.
        """
        if handles is None:
            handles = [handle for ax in self.axes for handle in ax.get_legend_handles_labels()[0]]
        if not handles:
            return
        room = self.figure.get_figwidth() if self.own else self.width(self.axes[0])
        names = [visible(wrapped(str(handle.get_label()), 0.8 * room, "small")) for handle in handles]
        of: dict[str, Any] = {"fontsize": "small", "title_fontsize": "small", "title": title}
        if self.own:
            fits = int(room / (max(wide(name, "small") for name in names) + _KEY * height(size="small")))
            rows = -(-len(names) // max(1, min(fits, ncols or fits)))
            self.grow(rows - 1 + max(name.count("\n") for name in names), "small")
            legend = self.figure.legend(handles, names, loc=loc, ncols=-(-len(names) // rows), frameon=False, **of)
        else:
            legend = self.axes[0].legend(handles, names, framealpha=0.9, **of)
        for text in legend.get_texts():
            text.set_parse_math(False)

    def width(self, ax: Axes) -> float:
        """About how many inches wide a panel is."""
        if self.own:
            return (self.figure.get_figwidth() - _MARGIN) / self.columns - _GAP
        return float(ax.get_window_extent().width / self.figure.dpi)

    def height(self, ax: Axes) -> float:
        """About how many inches high a panel is."""
        if self.own:
            return self.figure.get_figheight() * self.columns / len(self.axes) - _MARGIN
        return float(ax.get_window_extent().height / self.figure.dpi)

    def titles(self, names: Sequence[str], *, loc: Literal["left", "center", "right"] = "center") -> None:
        """A heading for each panel, in up to three lines; shown as it is, never read as a formula."""
        fits = [wrapped(name, self.width(ax)) for name, ax in zip(names, self.axes, strict=True)]
        for ax, text in zip(self.axes, fits, strict=True):
            ax.set_title(text, loc=loc, fontsize="medium", parse_math=False)
        for row in range(0, len(fits), self.columns):
            self.grow(max(text.count("\n") for text in fits[row : row + self.columns]))

    def grow(self, lines: int, size: str = "medium") -> None:
        """Make an own figure higher by lines of text, so that its panels keep their size."""
        if self.own:
            self.figure.set_figheight(self.figure.get_figheight() + height(lines, size))

    def spread_ticks(self) -> None:
        """Leave the numbers under each panel room; a scale that is not linear has its own way."""
        for ax in self.axes:
            if ax.get_xscale() == "linear":
                ax.locator_params(axis="x", nbins=max(2, int(self.width(ax) / (_NUMBER * height(size="small")))))

    def label_x(self, text: str) -> None:
        """A name for the horizontal axes: of an own figure, for the lowest; where they are too narrow, once for all."""
        named = self.axes[-self.columns :] if self.own else self.axes
        if self.own and wide(text) > self.width(named[0]):
            named = named[len(named) // 2 :][:1]
            text = wrapped(text, self.figure.get_figwidth() - _MARGIN)
        for ax in named:
            ax.set_xlabel(text, parse_math=False)

    def label_y(self, text: str) -> None:
        """A name for the vertical axes: one for all in an own figure, else one for each."""
        if self.own:
            fits = wrapped(text, self.figure.get_figheight() - _MARGIN / 2)
            self.figure.supylabel(fits, fontsize="medium", parse_math=False)
        else:
            for ax in self.axes:
                ax.set_ylabel(wrapped(text, self.height(ax)), parse_math=False)

    def finish(self, said: str, note: str = "") -> Figure:
        """Keep what is said of the figure for `caption`, and write what must not be missed under an own one.

        Args:
            said: What is shown, and from how many examples, seeds and directions, in a sentence or two.
            note: How to read it, or how exact it is; the end of the caption. A figure for a page has it there alone.
        """
        self.axes[0].set_label(" ".join(filter(None, (said, note))))
        if note and self.own and not for_paper():
            lines = wrapped(note, self.figure.get_figwidth() - 0.3, "small", lines=20)
            self.grow(lines.count("\n") + 2, "small")
            self.figure.supxlabel(
                lines, fontsize="small", color="#444444", parse_math=False
            )  # which the layout leaves room for
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
