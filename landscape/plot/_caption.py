"""What a figure of surfaces must say of their errors, in a sentence or two under it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure

from landscape.results import PENDING, Surface

_LETTERS, _LINE = 17.5, 0.16
"""Letters that fit into an inch, and the height of a line in inches."""


def caption(surfaces: Iterable[Surface]) -> str:
    """How exact surfaces are: from how many of their examples, and in which precision; empty where neither matters.

    Of several surfaces each different sentence once.
    """
    said = [sentence for surface in surfaces for sentence in (_sample(surface), _precision(surface))]
    return " ".join(dict.fromkeys(filter(None, said)))


def write_under(figure: Figure, text: str) -> None:
    """Put a caption under a figure, in lines that fit its width, for which it grows."""
    if text:
        lines = textwrap.wrap(text, max(30, int(_LETTERS * figure.get_figwidth())))
        figure.set_figheight(figure.get_figheight() + _LINE * (len(lines) + 0.5))
        figure.supxlabel("\n".join(lines), fontsize=7.5, color="#444444")


def _sample(surface: Surface) -> str:
    if surface.sampled is None:
        return ""
    done = surface.status != PENDING
    share = surface.sampled.n_examples[done].sum() / max(1, surface.attrs["population"] * int(done.sum()))
    to = f"to a standard error of {_goal(surface.attrs['goal'])}"
    return f"Each cell from a sample of the examples, {to}; {100 * share:.2g} % of all evaluations."


def _goal(goal: dict[str, Any]) -> str:
    relative, absolute = goal["rel_error"], goal["abs_error"]
    floors = absolute if isinstance(absolute, dict) else {"": absolute} if absolute else {}
    parts = [f"{100 * relative:.3g} % of the mean"] if relative else []
    texts = [f"{floor:.3g}" + (f" ({name})" if name else "") for name, floor in floors.items()]
    parts += [", ".join(texts)] if texts else []
    return ", or of ".join(parts) + (" where that is more" if len(parts) > 1 else "")


def _precision(surface: Surface) -> str:
    precision, errors = surface.attrs.get("precision"), surface.attrs.get("errors")
    if precision not in ("bf16", "fp16", "tf32") or not errors:
        return ""
    origin, corners = (max(errors[where].values()) for where in ("origin", "corners"))
    return f"Computed in {precision}: relative error {origin:.1e} at the origin, {corners:.1e} at the corners."
