"""Text that fits: its width is known before it is drawn."""

from __future__ import annotations

import textwrap

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

LINE = 1.3
"""Height of a line of text, in heights of its letters."""


def points(size: str | float = "medium") -> float:
    """A size of letters, such as ``"small"``, in points, by the style that is set."""
    return float(FontProperties(size=size).get_size_in_points())


def height(lines: int = 1, size: str | float = "medium") -> float:
    """Of lines of text, in inches."""
    return lines * LINE * points(size) / 72


def wide(text: str, size: str | float = "medium") -> float:
    """Width of a text in inches, of the widest of its lines."""
    letters = FontProperties(size=size)
    return (
        max(float(text_to_path.get_text_width_height_descent(line, letters, False)[0]) for line in text.split("\n"))
        / 72
    )


def wrapped(text: str, inches: float, size: str | float = "medium", *, lines: int = 3) -> str:
    """A text broken into lines of a width, at most so many of them; what is left out is three dots."""
    text = " ".join(text.split())
    whole = wide(text, size)
    if whole <= inches:
        return text
    letters = max(6, int(len(text) * inches / whole))
    return "\n".join(textwrap.wrap(text, letters, max_lines=lines, placeholder="…"))
