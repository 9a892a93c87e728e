"""How much of each gradient the other term does not share, over training or over batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.conflict.result import Conflict
from landscape.plot._axis import count
from landscape.plot._bands import band
from landscape.plot._conflicts import at_steps, common_steps, common_terms
from landscape.plot._style import BAND_ALPHA, WIDTH, looks, tidy


def inconsistency(conflicts: Mapping[str, Sequence[Conflict]]) -> Figure:
    """Share of the squared norm of each of two gradients that is inconsistent, a row of axes for each method.

    What is inconsistent is what `landscape.conflict.decompose` leaves of a gradient: 0 where the other term shares all
    of it, 1 where it shares none. Lines are means over the seeds and bands reach from the lowest to the highest of
    them, at the steps that all seeds have; nothing is smoothed. A step at which a gradient is zero is left open.

    Args:
        conflicts: For each method one recording for each seed.

    Raises:
        ValueError: As `landscape.plot.cosine`.
    """
    terms = common_terms(conflicts)
    looks(conflicts)  # which refuses too many
    figure = Figure(figsize=(WIDTH, 1.5 + 1.3 * len(conflicts)), layout="constrained")
    axes = figure.subplots(len(conflicts), sharex=True, sharey=True, squeeze=False)[:, 0]
    for ax, (name, seeds) in zip(axes, conflicts.items(), strict=True):
        _draw(ax, name, seeds, terms)
    axes[0].set_ylim(-0.02, 1.02)
    axes[-1].set_xlabel("step")
    figure.supylabel("inconsistent share of the squared norm", fontsize=10)
    lines = axes[0].get_lines()
    figure.legend(lines, [f"{term} gradient" for term in terms], loc="outside upper center", ncols=2, frameon=False)
    return figure


def _draw(ax: Axes, name: str, seeds: Sequence[Conflict], terms: tuple[str, str]) -> None:
    steps = common_steps(name, seeds)
    for term, look in looks(terms).items():
        rows = np.stack([at_steps(seed, steps, seed.inconsistent_share[term]) for seed in seeds])
        mean, low, high = band(rows, 0.0, 1.0)
        ax.fill_between(steps, low, high, color=look.color, alpha=BAND_ALPHA, linewidth=0)
        ax.plot(steps, mean, color=look.color, linestyle=look.linestyle, linewidth=1.0)
    spread = " (band: lowest to highest)" if len(seeds) > 1 else ""
    ax.set_title(f"{name}: mean of {count(len(seeds), 'seed')}{spread}", loc="left", fontsize=9)
    tidy(ax)
