"""How many examples to ask for: the sizes of both phases, and which examples are worth evaluating for certain."""

from __future__ import annotations

import math

import numpy as np

from landscape.results import Array

TAIL = 4
"""By how much the number of drawn examples is to exceed the squared skewness of the expected residuals: the mean's own
skewness is then 0.5 or less. Cochran (2.15) asks for 25 where nothing corrects for it, as `quantile` does here."""


def two_phase(
    total: float, residual: float, goal: float, population: int, *, first_cost: float, second_cost: float
) -> tuple[int, int]:
    """The cheapest n1 and n2 with which a two-phase regression estimate has a variance of ``goal`` or less.

    Minimises c1 n1 + c2 n2 under (1/n1 - 1/N) S_y^2 + (1/n2 - 1/n1) S_e^2 <= goal and n2 <= n1 <= N. Inside these
    bounds, with a = S_y^2 - S_e^2, b = S_e^2 and k = goal + S_y^2 / N, it is Neyman's: n1 = sqrt(a/c1) r / k and n2 =
    sqrt(b/c2) r / k, with r = sqrt(a c1) + sqrt(b c2) (Cochran, 12.3 and 12.7); on a bound the other follows. Rounded
    up; ``(n, n)`` is a plain sample, ``(N, n2)`` a regression on what is known for all.

    Args:
        total: S_y^2.
        residual: S_e^2, at most ``total``.
        goal: Wanted variance.
        population: N.
        first_cost: c1, the anchors that an example of the first phase is evaluated at.
        second_cost: c2, the cells that one of the second phase is evaluated at.
    """
    n = population
    bound = goal + total / n
    if bound <= 0 or not math.isfinite(bound):
        return n, n
    between = max(total - residual, 0.0)
    if between <= 0:
        n1 = n2 = total / bound
    else:
        root = math.sqrt(between * first_cost) + math.sqrt(residual * second_cost)
        n1 = math.sqrt(between / first_cost) * root / bound
        n2 = math.sqrt(residual / second_cost) * root / bound
        if n1 > n:
            n1, n2 = n, second_phase(total, residual, goal, n, n)
        elif n2 > n1:
            n1 = n2 = total / bound
    n1 = min(n, max(1, math.ceil(n1 * (1 - 1e-12))))
    return n1, max(1, min(n1, math.ceil(second_phase(total, residual, goal, n, n1) * (1 - 1e-12))))


def second_phase(total: float, residual: float, goal: float, population: int, first: int) -> float:
    """How many examples of a first phase of ``first`` must be evaluated for a variance of ``goal``; inf: too few."""
    left = goal - (1 / first - 1 / population) * (total - residual) + residual / population
    return residual / left if left > 0 else math.inf if residual > 0 or left < 0 else 1.0


def certainty(size: Array, goal: float, least: int, margin: float = 1.0) -> tuple[int, int]:
    """How many of the examples with the largest expected residuals to evaluate for certain, and of the others how many.

    With h certain ones, the total of the L others has the variance L^2 (1/m - 1/L) S^2 when m are drawn, with S^2 the
    mean square of their sizes. And m must be large enough for the rare large residuals to be seen: at least `TAIL`
    times the squared skewness of the sizes, E|z|^3 / (E z^2)^1.5. h is where h + m is smallest.

    Args:
        size: Expected magnitude of each residual, in descending order, ``[n]``.
        goal: Wanted variance of the total of the residuals.
        least: Fewer are not drawn.
        margin: How many times more are drawn than the variance asks for.

    Returns:
        h and m.
    """
    n = len(size)
    left = n - np.arange(n + 1)
    scaled = size / size[0] if n and size[0] > 0 else size
    squares, cubes = (np.append(np.cumsum((scaled**power)[::-1])[::-1], 0.0) for power in (2, 3))
    with np.errstate(divide="ignore", invalid="ignore"):
        need = left * squares / (goal / (size[0] ** 2 if n and size[0] > 0 else 1.0) + squares)
        tail = TAIL * cubes**2 * left / squares**3
    drawn = np.minimum(left, np.maximum(np.nan_to_num(np.maximum(margin * need, tail)), least))
    h = int(np.argmin(np.arange(n + 1) + drawn))
    return h, math.ceil(drawn[h])
