"""How much noise the weights bear: the noise of a PAC-Bayes bound, at which the loss has risen by a stated amount."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy import optimize
from torch import Tensor

from landscape import directions, modules
from landscape.directions import Directions
from landscape.grid import Grid1D
from landscape.problem import Problem
from landscape.results import Array
from landscape.sharpness import centres
from landscape.sharpness.measure import Definition, Measure
from landscape.sharpness.noise import rises
from landscape.surface import evaluate

_DOUBLINGS = 20
"""In either direction, after which the search ends without a root."""
_PRECISION = 1e-4
"""Of the noise, relative; far below its interval."""
_FAR = 1e3
"""Ratios of rises beyond this, or below its inverse, are not told apart; one that is not finite is that large."""
_NEAR = 0.05
"""How far off, relative, the mean rise is taken for its slope."""


def isotropic(problem: Problem, term: str, rise: float, draws: int, seed: int) -> Measure:
    """Standard deviation of the Gaussian noise, the same for all weights, whose mean rise of the loss is ``rise``.

    Over ``draws`` draws, each of both signs, the same at every size: the mean rise is then a smooth function, whose
    root is found. Each sample is the root that the mean would have if it were moved to that draw's rise, to first order
    (the delta method), so that the mean of the samples is the root, and their spread that of the draws.

    Args:
        problem: Model, objective and data. All parameters are moved.
        term: A term to be low.
        rise: In the units of the term.
        draws: How many, at least 2.
        seed: Of the draws.

    Raises:
        ValueError: The loss rises by more however small the noise, or is not finite around the root.
    """
    drawn = directions.random(problem.model, n=draws, normalize="none", ignore="none", seed=seed)
    weights = modules.parameters(problem.model).values()
    size = math.sqrt(sum(float(w.abs().double().square().sum()) for w in weights) / sum(w.numel() for w in weights))
    what = Definition(
        key="pac-bayes",
        name=f"PAC-Bayes sigma at +{rise:g}",
        text=f"standard deviation of Gaussian noise on every weight that raises the loss by {rise:g} on average",
        source="Jiang et al. 2020, PAC-Bayes flatness; Dziugaite & Roy 2017",
        flatter="large",
        invariant="none",
    )
    return bearable(what, _rises(problem, drawn, term), rise, size / 10 if size else 1.0)


def relative(problem: Problem, term: str, rise: float, draws: int, seed: int) -> Measure:
    """As `isotropic`, of noise in proportion to each weight's magnitude.

    Raises:
        ValueError: As `isotropic`.
    """
    drawn = directions.random(problem.model, n=draws, normalize="none", ignore="none", seed=seed)
    weights = modules.parameters(problem.model)
    axes: list[dict[str, Tensor]] = [{name: d * weights[name].abs() for name, d in axis.items()} for axis in drawn.axes]
    what = Definition(
        key="pac-bayes-relative",
        name=f"magnitude-aware PAC-Bayes sigma at +{rise:g}",
        text=f"standard deviation of Gaussian noise, as a share of each weight's magnitude, that raises the loss by "
        f"{rise:g} on average",
        source="Jiang et al. 2020, magnitude-aware PAC-Bayes flatness; Neyshabur et al. 2017",
        flatter="large",
        invariant="filters",
    )
    return bearable(what, _rises(problem, Directions(tuple(axes), "none", "none", seed), term), rise, 0.1)


def bearable(what: Definition, rises_at: Callable[[float], Array], rise: float, start: float) -> Measure:
    """The size of noise at which the mean rise first reaches ``rise``.

    Args:
        what: The number.
        rises_at: ``rises_at(size)``: what each draw raises the loss by, ``[draws]``.
        rise: Above 0.
        start: Where the search begins: sizes are doubled or halved from there until the root is between two.

    Raises:
        ValueError: The mean rise is above ``rise`` however small the noise, or not finite around the root.
    """

    known = cache(rises_at)

    def above(log: float) -> float:
        """Logarithm of the mean rise over ``rise``, within bounds: linear where the rise is a power of the size."""
        with np.errstate(invalid="ignore"):
            found = float(known(math.exp(log)).mean()) / rise
        return math.log(min(max(found, 1 / _FAR), _FAR)) if math.isfinite(found) else math.log(_FAR)

    low, high = _bracket(above, math.log(start))
    if math.isinf(high):
        size = math.exp(low)
        return centres.single(what, size, "the loss rises by less however large the noise", at_least=True)
    if math.isinf(low):
        raise ValueError(
            f"the loss must rise by less than {rise:g} under small noise. Got more at {math.exp(high):.2g}."
        )
    size = math.exp(optimize.brentq(above, low, high, xtol=_PRECISION))
    here, less, more = (known(size * factor) for factor in (1, 1 - _NEAR, 1 + _NEAR))
    slope = float((more - less).mean()) / (2 * _NEAR * size)
    if not (np.isfinite(here).all() and slope > 0 and math.isfinite(slope)):
        raise ValueError(f"the loss must be finite, and rise, around noise of {size:.3g}. Got one that does not.")
    return centres.mean(what, size - (here - here.mean()) / slope)


def _bracket(above: Callable[[float], float], start: float) -> tuple[float, float]:
    """Two sizes, in logarithms, between which the root lies; -inf or inf in place of one that was not found."""
    step = math.log(2)
    down = above(start) >= 0
    for i in range(1, _DOUBLINGS + 1):
        at = start - i * step if down else start + i * step
        if (above(at) >= 0) != down:
            return (at, at + step) if down else (at - step, at)
    return (-math.inf, at) if down else (at, math.inf)


def _rises(problem: Problem, drawn: Directions, term: str) -> Callable[[float], Array]:
    def at(size: float) -> Array:
        surface = evaluate(problem, drawn, Grid1D(x=(-size, size, 3)), label="flatness: noise")
        return rises(surface, term, size)

    return at
