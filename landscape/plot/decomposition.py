"""How long the part is that two gradients share, and what is left of each, over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landscape.conflict.result import Conflict
from landscape.plot._axis import is_wide
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
from landscape.plot._edge import mark_edge
from landscape.plot._style import BAND_ALPHA, looks, tidy
from landscape.results import Array


def decomposition(conflicts: Mapping[str, Sequence[Conflict]], *, ax: Given = None) -> Figure:
    """Norm of the consistent part of two gradients and of the inconsistent part of each, a row for each method.

    The parts are those of `landscape.conflict.decompose`: the consistent one is the same for both gradients, and each
    gradient is the sum of it and of its own inconsistent part. Lines are means over the seeds and bands reach from the
    lowest to the highest of them, at the steps that all seeds have; nothing is smoothed. The vertical axes are
    logarithmic where the means above zero span a factor of 30 or more; a mean of zero is then a triangle at the lower
    edge.

    Args:
        conflicts: For each method one recording for each seed.
        ax: Where to draw, axes for each method; a new figure if None.

    Raises:
        ValueError: As `landscape.plot.cosine`.
    """
    terms = common_terms(conflicts)
    looks(conflicts)  # which refuses too many
    drawn = {name: _bands_of(name, seeds, terms) for name, seeds in conflicts.items()}
    rows = len(conflicts)
    on = canvas(ax, rows, size=row_size(rows), share_x=True, share_y=True)
    means = np.concatenate([mean for lines in drawn.values() for mean, _, _ in lines.values()])
    log = is_wide(means[means > 0])
    for panel, (name, seeds) in zip(on.axes, conflicts.items(), strict=True):
        if log:
            panel.set_yscale("log", nonpositive="mask")
        _draw(panel, common_steps(name, seeds), drawn[name], log)
        tidy(panel)
    if not log:
        on.axes[0].set_ylim(bottom=0.0)
    on.titles(headings(conflicts), loc="left")
    on.spread_ticks()
    on.label_x("step")
    on.label_y("norm")
    on.legend(on.axes[0].get_lines()[: len(terms) + 1])
    said = f"Norms of the consistent part of the {terms[0]} and {terms[1]} gradients and of what is left of each"
    return on.finish(f"{said}; {recordings_said(conflicts)}.", band_said(conflicts))


def _bands_of(name: str, seeds: Sequence[Conflict], terms: tuple[str, str]) -> dict[str, tuple[Array, Array, Array]]:
    """Mean, lowest and highest norm of each part at the common steps, each ``[B]``."""
    steps = common_steps(name, seeds)

    def of(rows: list[Array]) -> tuple[Array, Array, Array]:
        return band(np.stack([at_steps(seed, steps, row) for seed, row in zip(seeds, rows, strict=True)]), 0.0, 1.0)

    parts = {"consistent part": of([seed.consistent for seed in seeds])}
    return parts | {f"inconsistent, {term}": of([seed.inconsistent[term] for seed in seeds]) for term in terms}


def _draw(ax: Axes, steps: NDArray[np.int64], lines: Mapping[str, tuple[Array, Array, Array]], log: bool) -> None:
    for (label, (mean, low, high)), look in zip(lines.items(), looks(lines).values(), strict=True):
        (line,) = ax.plot(steps, mean, color=look.color, linestyle=look.linestyle, linewidth=1.0, label=label)
        mark_alone(line, np.where(mean > 0, mean, np.nan) if log else mean, look.marker)
        ax.fill_between(steps, low, high, color=look.color, alpha=BAND_ALPHA, linewidth=0)
    for (mean, _, _), look in zip(lines.values(), looks(lines).values(), strict=True):
        if log:
            mark_edge(ax, steps[mean == 0], look.color, zero=True)
