"""What a measurement returns: labelled arrays with their provenance, and nothing that computes or draws."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from landscape.directions import Directions

Array = NDArray[np.float64]

PENDING, DONE, NOT_FINITE = 0, 1, 2
"""Values of ``Surface.status``."""


@dataclass
class Sampled:
    """What a surface holds besides, where a cell's mean is an estimate from some of the examples.

    Attributes:
        n_examples: How many examples were evaluated at each cell, int64 in the shape of the grid.
        sampling_sem: Standard error of each mean as an estimate of the mean over all the examples; 0 where all were
            evaluated. What ``rel_error`` and ``abs_error`` bound.
        half: Half the width of the 95 % interval for the mean over all the examples.
        sem_diff: Like ``sem``, of the difference from the origin: both share their examples.
        samples: The losses, and which examples they are of, by name. They may be large: a surface that is read from a
            file leaves them there, for `landscape.store.load_samples`.
    """

    n_examples: NDArray[np.int64]
    sampling_sem: dict[str, Array]
    half: dict[str, Array]
    sem_diff: dict[str, Array]
    samples: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def arrays(self) -> dict[str, dict[str, Array]]:
        """Those that have one for each term, by name."""
        return {"sampling_sem": self.sampling_sem, "half": self.half, "sem_diff": self.sem_diff}


@dataclass
class Surface:
    """The mean of each term at each point of a grid around the weights.

    Three shapes exist, told apart by ``dims``: a line ``("x",)``; a bundle of lines, one along each of several
    directions, ``("direction", "x")``; and a plane ``("y", "x")``.

    Attributes:
        x: Coordinates ``[nx]`` in units of the direction (of the filter norm, for filter-normalised directions).
        y: Coordinates ``[ny]`` of a plane, else None.
        dims: Names of the axes of ``status`` and of each term.
        means: Mean of each term, float64, in the shape of the grid.
        sems: Standard error of each mean over the examples, in the shape of the grid.
        status: uint8 in the shape of the grid: 0 pending, 1 done, 2 done and not finite.
        origin: ``{term: (mean, sem)}`` at the unperturbed weights.
        attrs: Provenance; the root attributes of the file.
        directions: What ``x`` and ``y`` are multiples of.
        path: For a line along a path, the coordinates of each point along every direction, ``[nx, n]``; else None.
        sums: Of a part of the data, what `landscape.merge` needs besides the means: ``{"squares" | "cross": {term:
            array}}``, see `landscape.averages.Moments`.
        sampled: Where cells were estimated from samples, their errors; None where all examples were evaluated.
    """

    x: Array
    y: Array | None
    dims: tuple[str, ...]
    means: dict[str, Array]
    sems: dict[str, Array]
    status: NDArray[np.uint8]
    origin: dict[str, tuple[float, float]]
    attrs: dict[str, Any]
    directions: Directions | None = None
    path: Array | None = None
    sums: dict[str, dict[str, Array]] = field(default_factory=dict)
    sampled: Sampled | None = None

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the measured terms."""
        return tuple(self.means)

    @property
    def unit(self) -> str:
        """What ``x`` and ``y`` count: such as filter norms, for filter-normalised directions."""
        if self.path is not None:
            return "position along the path"
        units = {"filter": "filter norms", "layer": "layer norms", "model": "norms of the weights"}
        return units.get(str(self.attrs.get("normalize")), "lengths of the direction")

    @property
    def complete(self) -> bool:
        """Whether no cell is pending."""
        return bool((self.status != PENDING).all())

    def values(self, term: str) -> Array:
        """Mean of ``term`` over the examples, in the shape of the grid.

        Raises:
            KeyError: The surface has no such term.
        """
        return self.means[self._known(term)]

    def sem(self, term: str) -> Array:
        """Standard error of ``values(term)`` over the examples, in the shape of the grid.

        Raises:
            KeyError: The surface has no such term.
        """
        return self.sems[self._known(term)]

    def half_width(self, term: str) -> Array:
        """Half the width of a 95 % interval for each mean of ``term``: over all the examples, for a sampled surface; of
        another, over examples like these, ``1.96 sem``.

        Raises:
            KeyError: The surface has no such term.
        """
        known = self._known(term)
        return 1.96 * self.sems[known] if self.sampled is None else self.sampled.half[known]

    def show(self) -> None:
        """Show the surface to be turned and read: in a notebook below the cell, elsewhere in the web browser.

        Raises:
            ValueError: No value is finite.
        """
        from landscape import notebook

        notebook.show(self)

    def _repr_html_(self) -> str:
        from landscape import notebook

        return notebook.surface_html(self)

    def _known(self, term: str) -> str:
        if term not in self.means:
            raise KeyError(f"expected a term of this surface, one of {', '.join(self.means)}. Got {term!r}.")
        return term

    def __repr__(self) -> str:
        shape = " x ".join(f"{name} {size}" for name, size in zip(self.dims, self.status.shape, strict=True))
        done = int((self.status != PENDING).sum())
        return f"<Surface {shape}: {', '.join(self.means)}; {done} of {self.status.size} cells done>"
