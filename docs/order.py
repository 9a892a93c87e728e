"""In which order the gallery shows its examples: what most readers look for first."""

from __future__ import annotations

import os
from pathlib import Path

_SECTIONS = ("surfaces", "training", "conflict", "flatness", "curvature", "paper", "pages")
_EXAMPLES = (
    *("curves", "contour", "relief", "difference", "trajectory", "connectivity", "error"),
    *("tradeoff", "effects", "sweep"),
    *("cosine", "layers", "heatmap", "decomposition", "inconsistency", "cosines"),
    *("verdicts", "flatness"),
    *("density", "eigenvalues"),
    *("style", "own_axes"),
    *("surfaces", "conflict"),
)


def of_section(folder: str | os.PathLike[str]) -> tuple[int, str]:
    """Where a folder of the gallery stands; one that is not named stands last."""
    return _place(Path(folder).name, _SECTIONS)


def of_example(script: str | os.PathLike[str]) -> tuple[int, str]:
    """Where a script stands within its folder; one that is not named stands last."""
    return _place(Path(script).stem, _EXAMPLES)


def _place(name: str, known: tuple[str, ...]) -> tuple[int, str]:
    return (known.index(name) if name in known else len(known), name)
