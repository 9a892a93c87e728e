"""How much of each gradient the other term does not share, over training or over batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.conflict.result import Conflict
from landscape.plot._bands import band, mark_alone
from landscape.plot._canvas import Given, canvas
from landscape.plot._conflicts import (
    at_steps,
    band_said,
    common_steps,
    common_terms,
    headings,
    recordings_said,
    row_size,
)
from landscape.plot._names import visible
from landscape.plot._style import BAND_ALPHA, looks, tidy


def inconsistency(conflicts: Mapping[str, Sequence[Conflict]], *, ax: Given = None) -> Figure:
    """Share of the squared norm of each of two gradients that is inconsistent, a row of axes for each method.

    What is inconsistent is what `landscape.conflict.decompose` leaves of a gradient: 0 where the other term shares all
    of it, 1 where it shares none. Lines are means over the seeds and bands reach from the lowest to the highest of
    them, at the steps that all seeds have; nothing is smoothed. A step at which a gradient is zero is left open.

    Args:
        conflicts: For each method one recording for each seed.
        ax: Where to draw, axes for each method; a new figure if None.

    Raises:
        ValueError: As `landscape.plot.cosine`.
    """
    terms = common_terms(conflicts)
    looks(conflicts)  # which refuses too many
    on = canvas(ax, len(conflicts), size=row_size(len(conflicts)), share_x=True, share_y=True)
    for panel, (name, seeds) in zip(on.axes, conflicts.items(), strict=True):
        _draw(panel, name, seeds, terms)
    on.axes[0].set_ylim(-0.02, 1.02)
    on.titles(headings(conflicts), loc="left")
    on.spread_ticks()
    on.label_x("step")
    on.label_y("inconsistent share of the squared norm")
    on.legend(on.axes[0].get_lines())
    said = f"Share of the squared norm that the other gradient does not share; {recordings_said(conflicts)}."
    return on.finish(said, band_said(conflicts))


def _draw(ax: Axes, name: str, seeds: Sequence[Conflict], terms: tuple[str, str]) -> None:
    steps = common_steps(name, seeds)
    for term, look in looks(terms).items():
        rows = np.stack([at_steps(seed, steps, seed.inconsistent_share[term]) for seed in seeds])
        mean, low, high = band(rows, 0.0, 1.0)
        ax.fill_between(steps, low, high, color=look.color, alpha=BAND_ALPHA, linewidth=0)
        label = visible(f"{term} gradient")
        (line,) = ax.plot(steps, mean, color=look.color, linestyle=look.linestyle, linewidth=1.0, label=label)
        mark_alone(line, mean, look.marker)
    tidy(ax)
