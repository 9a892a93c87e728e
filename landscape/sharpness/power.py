"""How many more seeds, or directions, it would take to tell a difference apart."""

from __future__ import annotations

import math

from scipy import optimize, special

POWER = 0.8
"""How often a difference is to be told apart."""

MOST = 10_000
"""Seeds, or directions, beyond which no number is given."""


def power(effect: float, n: int, level: float) -> float:
    """How often the paired t test of n pairs finds a difference of a size, on its own side.

    From the noncentral t distribution (Cohen, "Statistical Power Analysis for the Behavioral Sciences", 1988, section
    2.3).

    Args:
        effect: Mean over standard deviation of the differences, of either sign.
        n: Pairs, at least 2.
        level: Two-sided level of the test.
    """
    threshold = -special.stdtrit(n - 1, level / 2)
    return 1.0 - float(special.nctdtr(n - 1, abs(effect) * math.sqrt(n), threshold))


def pairs_needed(effect: float, level: float) -> int | None:
    """The smallest number of pairs with which a difference of a size is told apart in 80 % of studies.

    Args:
        effect: Mean over standard deviation of the differences; infinite where they are all equal, which takes the
            sign test of `landscape.comparing.paired`.
        level: Two-sided level of the test.

    Returns:
        None for more than 10,000.
    """
    if math.isinf(effect):
        return math.floor(1 - math.log2(level)) + 1
    if math.isnan(effect) or power(effect, MOST, level) < POWER:
        return None
    low, high = 1, MOST  # fewer than needed, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, level) >= POWER else (middle, high)
    return high


def directions_needed(mean: float, between: float, within: float, n: int, directions: int, level: float) -> int | None:
    """How many directions a seed would tell a difference apart in 80 % of studies with the seeds as they are.

    The variance of a pair's difference is ``between + within * directions / m`` with m directions instead.

    Args:
        mean: Of the differences.
        between: Their variance without the noise of the directions.
        within: Variance from the noise of ``directions`` directions.
        n: Pairs, at least 2.
        directions: Of each seed.
        level: Two-sided level of the test.

    Returns:
        None where no number of directions would do, or more than 10,000.
    """
    top = 1.0
    while power(top, n, level) < POWER:
        top *= 2
    smallest = optimize.brentq(lambda effect: power(effect, n, level) - POWER, 0.0, top)
    left = (mean / smallest) ** 2 - between
    if within <= 0 or left <= 0:
        return None
    needed = math.ceil(directions * within / left)
    return needed if needed <= MOST else None
