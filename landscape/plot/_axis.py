"""How axes are scaled and named, and things counted."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from landscape.results import Array, Surface

_WIDE = 30.0
_SPAN = float(np.finfo(np.float64).max) / 8
"""The most that values on a linear scale may span: matplotlib computes with multiples of it."""


def is_wide(values: ArrayLike) -> bool:
    """Whether values need a log scale: the finite ones are all positive and span a factor of 30 or more."""
    values = np.asarray(values, dtype=np.float64)
    known = values[np.isfinite(values)]
    return bool(known.size and known.min() > 0 and known.max() / known.min() >= _WIDE)


def in_log(log: bool | None, values: ArrayLike) -> bool:
    """Whether to draw on a log scale: as it is asked for; if None, where values need one."""
    return is_wide(values) if log is None else log


def coordinate_label(axis: str, surface: Surface) -> str:
    """Name of a coordinate with its unit, such as ``x (filter norms)``."""
    if surface.path is not None:
        return surface.unit
    return f"{axis} ({surface.unit})"


def round_levels(low: float, high: float, *, log: bool) -> Array:
    """Round numbers strictly between two values, for contour lines and ticks.

    Args:
        low: Smallest value; positive if ``log``.
        high: Largest value.
        log: Whether to take 1, 2 and 5 times the powers of ten (the powers alone over more than four decades).

    Raises:
        ValueError: The values are too far apart to be drawn.
    """
    if not log and high / 2 - low / 2 > _SPAN / 2:
        raise ValueError(
            f"values on a linear scale must span at most {_SPAN:.1e}. Got {low:.3g} to {high:.3g}. "
            "Divide the term by a constant, or draw it without the largest values."
        )
    if log:
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        levels = decades if high / low > 1e4 else np.outer(decades, (1.0, 2.0, 5.0)).ravel()
    else:
        levels = np.asarray(MaxNLocator(nbins=10).tick_values(low, high))
    return levels[(levels > low) & (levels < high)]


def count(n: int, what: str) -> str:
    """A number with its noun, such as ``1 seed`` and ``3 seeds``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
