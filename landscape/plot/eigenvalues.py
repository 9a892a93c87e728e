"""The eigenvalues at an end of a curvature's spectrum."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from landscape.hessian import Eigenpairs
from landscape.plot._axis import is_wide
from landscape.plot._canvas import Given, canvas
from landscape.plot._names import short, visible
from landscape.plot._style import MISSING_COLOR, WIDTH, Look, looks, tidy, width

_SPREAD = 0.5
"""Of the stems of one number, as a share of the way to the next."""
_ENDS = {"LA": "largest", "SA": "smallest", "LM": "largest in magnitude"}


def eigenvalues(found: Eigenpairs | Mapping[str, Eigenpairs], *, ax: Given = None) -> Figure:
    """A stem from zero to each eigenvalue, in the order in which they were found.

    The whisker is the residual: an eigenvalue lies within it. Markers are hollow where the search was given up before
    it had converged: others may have been missed. The vertical axis is logarithmic, on both sides of zero where values
    of both signs are there, where the magnitudes span a factor of 30 or more; it is linear around zero then.

    Args:
        found: What `landscape.hessian.eigenpairs` returned, or 1 to 6 of them by name.
        ax: Where to draw; a new figure if None.

    Raises:
        ValueError: There are none, or more than 6.
    """
    named = {"": found} if isinstance(found, Eigenpairs) else dict(found)
    of_name = looks(named)
    on = canvas(ax, size=(width(WIDTH), max(2.3, 0.5 * width(WIDTH))))
    (panel,) = on.axes
    panel.axhline(0.0, color=MISSING_COLOR, linewidth=0.8)
    shifts = np.linspace(-_SPREAD / 2, _SPREAD / 2, len(named)) if len(named) > 1 else [0.0]
    for shift, (name, one) in zip(shifts, named.items(), strict=True):
        _draw(panel, name, one, of_name[name], float(shift))
    sizes = np.abs(np.concatenate([one.values for one in named.values()]))
    if is_wide(sizes[sizes > 0]):
        panel.set_yscale("symlog", linthresh=10 ** np.ceil(np.log10(sizes[sizes > 0].min())))
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlim(0.5, max(len(one.values) for one in named.values()) + 0.5)
    ends = dict.fromkeys(_ENDS[one.which] for one in named.values())
    on.label_x(f"number, from the {next(iter(ends))}" if len(ends) == 1 else "number")
    on.label_y("eigenvalue")
    tidy(panel)
    given_up = any(not one.converged for one in named.values())
    if len(named) > 1 or given_up:
        on.legend()
    kinds = " and ".join(dict.fromkeys(one.kind for one in named.values()))
    most = " and ".join(ends)
    said = f"The {most} eigenvalues ({kinds})" + (f"; {', '.join(named)}." if len(named) > 1 else ".")
    note = "Whisker: residual, within which an eigenvalue lies."
    return on.finish(said, note + (" Hollow: the search had not converged." if given_up else ""))


def _draw(ax: Axes, name: str, one: Eigenpairs, look: Look, shift: float) -> None:
    at = np.arange(1, len(one.values) + 1) + shift
    ax.vlines(at, 0, one.values, color=look.color, linestyle=look.linestyle, linewidth=1.2)
    label = ": ".join(filter(None, (short(name), "" if one.converged else "not converged")))
    face = look.color if one.converged else "white"
    ax.errorbar(
        at,
        one.values,
        yerr=one.residuals,
        color=look.color,
        linestyle="none",
        marker=look.marker,
        markersize=5.5,
        markerfacecolor=face,
        elinewidth=1.0,
        capsize=3,
        label=visible(label) or None,
    )
