"""What a figure says of itself: in a sentence for its caption, and of its surfaces and their errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from landscape.plot._axis import count
from landscape.results import PENDING, Surface


def caption(figure: Figure) -> str:
    """What a figure of this package shows, and from how many examples, seeds and directions, in which precision.

    For the text under it in a paper. Empty for a figure that none of these functions drew on.
    """
    said = (str(ax.get_label()) for ax in figure.axes)
    return " ".join(dict.fromkeys(text for text in said if text and text != "<colorbar>"))


def surfaces_said(term: str, surfaces: Mapping[str, Sequence[Surface]]) -> str:
    """What was averaged and where: the term, its examples and split, the methods, seeds, directions, precision."""
    every = [surface for seeds in surfaces.values() for surface in seeds]
    names = ", ".join(name for name in surfaces if name)
    seeds = sorted({len(group) for group in surfaces.values()})
    parts = [
        mean_label(term, every),
        names,
        f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else count(seeds[0], "seed") if seeds[0] > 1 else "",
        _where(every),
        _once(surface.attrs.get("precision") for surface in every),
    ]
    return "; ".join(filter(None, parts)) + "."


def mean_label(term: str, surfaces: Iterable[Surface]) -> str:
    """Name of a term with what it is averaged over, as far as all agree: ``ce, mean over 898 test examples``."""
    attrs = [surface.attrs for surface in surfaces]
    numbers = [of.get("n_examples", "") for of in attrs]
    number = _once(str(n.get(term, "") if isinstance(n, dict) else n) for n in numbers)
    split = {"train": "training", "test": "test"}.get(_once(of.get("split") for of in attrs), "")
    return " ".join(filter(None, [f"{term}, mean over", number, split, "examples"]))


def exactness(surfaces: Iterable[Surface]) -> str:
    """How exact surfaces are: from how many of their examples, and in which precision; empty where neither matters.

    Of several surfaces each different sentence once.
    """
    said = [sentence for surface in surfaces for sentence in (_sample(surface), _precision(surface))]
    return " ".join(dict.fromkeys(filter(None, said)))


def _where(surfaces: Sequence[Surface]) -> str:
    """The grid and the directions, where all surfaces have the same."""
    shape = _once(tuple(zip(surface.dims, surface.status.shape, strict=True)) for surface in surfaces)
    if not shape:
        return ""
    size = dict(shape)
    scaled = _once(surface.attrs.get("normalize") for surface in surfaces)
    of = f"{scaled}-normalised directions" if scaled and scaled != "none" else "directions"
    if "y" in size:
        return f"{size['x']} x {size['y']} cells in a plane of {of}"
    if all(surface.path is not None for surface in surfaces):
        return f"{size['x']} points along a path"
    n = size.get("direction", 1)
    return f"{size['x']} points along {n} {of if n > 1 else of.removesuffix('s')} each"


def _once(values: Iterable[Any]) -> Any:
    """What all have alike; empty where they differ."""
    known = list(dict.fromkeys(values))
    return known[0] if len(known) == 1 and known[0] is not None else ""


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
