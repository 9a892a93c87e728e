"""`explore`: which page shows what is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from landscape.conflict.result import Conflict
from landscape.explorer.methods import Explored, gathered
from landscape.explorer.page import Page
from landscape.explorer.surfaces import surface_page
from landscape.results import Surface

Results = Surface | Conflict | Mapping[str, Surface | Sequence[Explored]] | Mapping[str, Conflict]


def explore(results: Results, *, term: str | None = None) -> Page:
    """A page for the browser in which methods are compared hand in hand.

    ``explore(...).write_html(path)`` gives one file that needs no network.

    Of surfaces it shows each plane in 3-D and from above, with one camera and one cross-hair for all; lines and bundles
    of lines as curves. Term, scale, colours, split and epoch are chosen in the page, and stand in its address. Pending
    cells and those that are not finite are marked as such. What follows ± is half of a 95 % interval.

    Of gradient conflict it shows the cosine over training and its layers.

    Args:
        results: A surface; or 1 to 6 by name. Of a name there may be several, which differ in ``attrs["epoch"]`` or
            ``attrs["split"]``, and the `Flatness` of its minimum, for the table. Or a conflict, or some by name.
        term: Which term of surfaces is shown first; the first with a finite value by default.

    Raises:
        ValueError: There are no or too many names; a name has no surface, or two of the same epoch and split; there are
            planes and lines, or surfaces and conflicts; no surface has the term, or no value of it is finite.
        TypeError: Something is none of these.
    """
    conflicts = _conflicts(results)
    if conflicts is None:
        return surface_page(gathered(results), term)  # type: ignore[arg-type]
    if term is not None:
        raise ValueError(f"term goes with surfaces: a conflict is of all its terms. Got {term!r} for conflicts.")
    from landscape.explorer.conflicts import conflict_page

    return conflict_page(conflicts)


def _conflicts(results: Results) -> dict[str, Conflict] | None:
    """The conflicts by name; None where there are none."""
    if isinstance(results, Conflict):
        return {"": results}
    if isinstance(results, Surface):
        return None
    found = {name: one for name, one in results.items() if isinstance(one, Conflict)}
    if found and len(found) < len(results):
        other = next(name for name in results if name not in found)
        raise ValueError(
            f"expected surfaces or conflicts. Got a conflict of {next(iter(found))!r} and something else of {other!r}. "
            "Make a page of each."
        )
    return found or None
