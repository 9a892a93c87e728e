"""Room on a page: what fits into the width that a figure has in the end."""

from __future__ import annotations

from landscape.plot._style import width


def columns_of(inches: float, wanted: int, each: float) -> int:
    """How many of ``wanted`` columns, of ``each`` inches at least, fit into a figure that is so many inches wide."""
    return max(1, min(wanted, int(width(inches) / each)))
