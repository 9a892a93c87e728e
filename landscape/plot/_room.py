"""Room on a page: what fits into the width that a figure has in the end."""

from __future__ import annotations

from landscape.plot._style import sized


def at_least(width: float, height: float, least: float) -> tuple[float, float]:
    """A size for `canvas` whose height a style does not scale below ``least``; all in inches."""
    return width, height * max(1.0, least / sized(width, height)[1])


def columns_of(width: float, wanted: int, each: float) -> int:
    """How many of ``wanted`` columns of ``each`` inches fit into a figure that ``canvas`` is asked for as ``width``."""
    return max(1, min(wanted, int(sized(width, 1.0)[0] / each)))
