"""Figures as files: the same figure gives the same bytes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import matplotlib as mpl
from matplotlib.figure import Figure

from landscape.files import write_whole

Kind = Literal["pdf", "svg", "png"]

_DPI = {"pdf": 300, "svg": 200, "png": 160}
"""Dots an inch of a picture; within a vector file, of the meshes that are drawn as one."""
# A date or a version of the writer would change the bytes of an unchanged figure.
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}
# Fonts embedded as TrueType, as journals ask for; ids that depend on the figure alone.
_FILE: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "path", "svg.hashsalt": "landscape"}


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Write a figure, replacing files that are there; the same figure gives the same bytes.

    Args:
        figure: What to write.
        path: Ending in ``.pdf``, ``.svg`` or ``.png``, for one file; without such an ending, for one of each. Missing
            folders are made.

    Returns:
        The paths of what was written.

    Raises:
        OSError: A file cannot be written.
    """
    path = Path(path)
    kinds: tuple[Kind, ...] = get_args(Kind)
    asked = [kind for kind in kinds if path.suffix == f".{kind}"]
    path.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in asked or kinds:
        target = path if asked else Path(f"{path}.{kind}")
        write_whole(target, render(figure, kind))
        paths.append(target)
    return paths


def render(figure: Figure, kind: Kind) -> bytes:
    """The content of a file of a kind, with no date in it."""
    buffer = BytesIO()
    with mpl.rc_context(_FILE), _quiet("fontTools"):
        figure.savefig(buffer, format=kind, dpi=_DPI[kind], metadata=_METADATA[kind])
    return buffer.getvalue()


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the log below warnings of a library, which tells of every table of every font."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(max(logging.WARNING, logger.getEffectiveLevel()))
    try:
        yield
    finally:
        logger.setLevel(level)
