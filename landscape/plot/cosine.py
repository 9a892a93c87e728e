"""Agreement of two gradients over training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from landscape.conflict.result import Conflict
from landscape.plot._bands import band, mark_alone, mean_of_known
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
from landscape.plot._style import BAND_ALPHA, MISSING_COLOR, Look, looks, tidy


def cosine(conflicts: Mapping[str, Sequence[Conflict]], *, ax: Given = None) -> Figure:
    """Cosine of the gradients of two terms at each recorded step, a row of axes for each method.

    The line is the mean over the seeds and the band reaches from the lowest to the highest of them, both at the steps
    that all seeds have; nothing is smoothed. Below the line at zero the gradients conflict. A step at which a seed has
    no cosine is left open. Where the gradients over all the examples were measured too, what they say stands below: the
    mean cosine of batches is biased by their noise.

    Args:
        conflicts: For each method one recording for each seed.
        ax: Where to draw, axes for each method; a new figure if None.

    Raises:
        ValueError: A method has no recording or no step that all its recordings share, the recordings compare
            different terms, or there are no methods or more than 6.
    """
    a, b = common_terms(conflicts)
    on = canvas(ax, len(conflicts), size=row_size(len(conflicts)), share_x=True, share_y=True)
    for panel, (name, look) in zip(on.axes, looks(conflicts).items(), strict=True):
        _draw(panel, name, conflicts[name], look)
    on.titles(headings(conflicts), loc="left")
    on.spread_ticks()
    on.label_x("step")
    on.label_y(f"cosine of the {a} and {b} gradients")
    biases = (_bias(name, seeds) for name, seeds in conflicts.items())
    note = " ".join(filter(None, (band_said(conflicts), *biases)))
    return on.finish(f"Cosine of the {a} and {b} gradients; {recordings_said(conflicts)}.", note)


def _bias(name: str, seeds: Sequence[Conflict]) -> str:
    """How far the mean cosine of batches is from that of the gradients over all the examples, averaged over seeds."""
    wholes = [seed.whole for seed in seeds if seed.whole is not None]
    if len(wholes) < len(seeds):
        return ""
    batches = float(np.mean([mean_of_known(seed.cosine, axis=0) for seed in seeds]))
    whole = float(np.mean([found.cosine for found in wholes]))
    halves = float(np.mean([found.split_half_cosine for found in wholes]))
    return (
        f"{name}: mean of the batches {batches:.3f}, which is off by {batches - whole:+.3f} from {whole:.3f} over all "
        f"the examples; without noise, by split halves, {'undefined' if np.isnan(halves) else f'{halves:.3f}'}."
    )


def _draw(ax: Axes, name: str, seeds: Sequence[Conflict], look: Look) -> None:
    steps = common_steps(name, seeds)
    mean, low, high = band(np.stack([at_steps(seed, steps, seed.cosine) for seed in seeds]), 0.0, 1.0)
    ax.axhline(0.0, color=MISSING_COLOR, linewidth=0.8)
    ax.fill_between(steps, low, high, color=look.color, alpha=BAND_ALPHA, linewidth=0)
    (line,) = ax.plot(steps, mean, color=look.color, linewidth=1.0)
    mark_alone(line, mean, look.marker)
    tidy(ax)
