"""Sharpness as the largest rise of the loss near the weights; a search finds a lower bound of it.

All of them move the parameters that require gradients, and take the loss over all the examples, where training by these
papers takes it over a batch. The weights themselves are within reach, so that no number is below 0.
"""

from __future__ import annotations

from landscape.derivatives import Derivatives
from landscape.results import Array
from landscape.sharpness import centres
from landscape.sharpness.ascent import highest
from landscape.sharpness.measure import Definition, Measure


def sam(derivatives: Derivatives, rho: float, *, starts: int, steps: int, seed: int) -> Measure:
    """Largest rise of the loss within a Euclidean distance ``rho``, see `landscape.sharpness.ascent.highest`.

    Raises:
        ValueError: The term has no gradient, or is not finite somewhere in the ball.
    """
    what = Definition(
        key="sam",
        name=f"SAM sharpness at {rho:g}",
        text=f"largest rise of the loss within a Euclidean distance of {rho:g}",
        source="Foret et al. 2021, section 2",
        flatter="small",
        invariant="none",
        bound="lower",
    )
    scale = derivatives.weights().new_ones(derivatives.size)
    return _largest(what, highest(derivatives, scale, rho, "l2", starts=starts, steps=steps, seed=seed))


def adaptive(derivatives: Derivatives, rho: float, *, starts: int, steps: int, seed: int) -> Measure:
    """Largest rise of the loss under an offset ``e`` with ``|e / |w|| <= rho``, element by element.

    A weight that is zero stays put.

    Raises:
        ValueError: As `sam`.
    """
    what = Definition(
        key="adaptive",
        name=f"adaptive sharpness at {rho:g}",
        text="largest rise of the loss where the weights change by shares of themselves whose Euclidean norm is at "
        f"most {rho:g}",
        source="Kwon et al. 2021, definition 2; Andriushchenko et al. 2023",
        flatter="small",
        invariant="filters",
        bound="lower",
    )
    scale = derivatives.weights().abs()
    return _largest(what, highest(derivatives, scale, rho, "l2", starts=starts, steps=steps, seed=seed))


def keskar(derivatives: Derivatives, epsilon: float, *, starts: int, steps: int, seed: int) -> Measure:
    """Largest rise of the loss in the box ``|e_i| <= epsilon (|w_i| + 1)``, in per cent of 1 + the loss.

    Raises:
        ValueError: As `sam`.
    """
    what = Definition(
        key="keskar",
        name=f"epsilon-sharpness at {epsilon:g}",
        text="largest rise of the loss, in per cent of 1 + the loss, where each weight w changes by at most "
        f"{epsilon:g} (|w| + 1)",
        source="Keskar et al. 2017, metric 2.1",
        flatter="small",
        invariant="none",
        bound="lower",
    )
    scale = derivatives.weights().abs() + 1
    rises = highest(derivatives, scale, epsilon, "linf", starts=starts, steps=steps, seed=seed)
    return _largest(what, 100 * rises / (1 + derivatives.slope().value))


def _largest(what: Definition, rises: Array) -> Measure:
    # The weights themselves are in the ball, which starts at its border may not get back to.
    note = f"{len(rises)} starts end at {rises.min():.3g} to {rises.max():.3g}" if len(rises) > 1 else ""
    return centres.single(what, max(0.0, float(rises.max())), note, at_least=True)
