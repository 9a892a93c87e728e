"""Both ends of the spectrum of a curvature, from one search: how convex a loss is at a place."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

from landscape.derivatives import Derivatives, NotFinite
from landscape.hessian.searching import find, residuals_of


class Ends(NamedTuple):
    """The smallest and the largest eigenvalue, each with the length of its residual; NaN where the loss is not finite.

    Attributes:
        smallest: Negative where the loss is not convex.
        largest: The other end.
        smallest_error: An eigenvalue lies within it of ``smallest``.
        largest_error: Likewise.
        converged: Whether both residuals, as estimated by the search, are within its tolerance.
    """

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float
    converged: bool

    @property
    def terms(self) -> dict[str, tuple[float, float]]:
        """``{name: (value, error)}``, with the ratio ``|smallest| / |largest|``."""
        return {
            "smallest": (self.smallest, self.smallest_error),
            "largest": (self.largest, self.largest_error),
            "ratio": (self._ratio, self._ratio_error),
        }

    @property
    def _ratio(self) -> float:
        return abs(self.smallest / self.largest) if self.largest else math.nan

    @property
    def _ratio_error(self) -> float:
        """How far both errors can take the ratio at most."""
        least = abs(self.largest) - self.largest_error
        return (self.smallest_error + self._ratio * self.largest_error) / least if least > 0 else math.inf


def ends(derivatives: Derivatives, tolerance: float, max_products: int, seed: int) -> Ends:
    """Where the copy stands; residuals are within ``tolerance`` of the larger magnitude of the two."""
    try:
        ritz = find(derivatives, min(2, derivatives.size), "ends", tolerance, max_products, seed, floor=1.0)
        errors = residuals_of(derivatives, ritz)
    except NotFinite:
        return Ends(math.nan, math.nan, math.nan, math.nan, True)
    return Ends(float(ritz.values[0]), float(ritz.values[-1]), float(errors[0]), float(errors[-1]), ritz.converged)


def warn_of_given_up(number: int, of: str, max_products: int, calls: int = 1) -> None:
    """Warn where searches were given up; ``calls`` tells how many lie between here and the user's code."""
    if number:
        warnings.warn(
            f"{number} of {of} were given up after {max_products} products: see their residuals, or use a larger "
            "max_products or tolerance.",
            stacklevel=2 + calls,
        )
