"""Names in figures: whatever the user has called things, at a length that fits."""

from __future__ import annotations

_LETTERS = 28


def visible(label: str) -> str:
    """A label that a legend shows: one that begins with an underscore is for matplotlib one that it must hide."""
    return f" {label}" if label.startswith("_") else label


def short(name: str, letters: int = _LETTERS) -> str:
    """A name with its middle left out where it is too long: both ends may be what tells it from others."""
    if len(name) <= letters:
        return name
    half = (letters - 1) // 2
    return f"{name[: letters - 1 - half]}…{name[-half:]}"
