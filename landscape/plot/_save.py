"""Figures as files: the same figure gives the same bytes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

from landscape.files import write_whole

_DPI = 160
# A date or a version of the writer would change the bytes of an unchanged figure.
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}


def save(figure: Figure, stem: str | Path) -> list[Path]:
    """Write ``stem.pdf`` and ``stem.png``, replacing files that are there.

    Args:
        figure: What to write.
        stem: Path without a suffix (a ``.pdf`` or ``.png`` is left off); missing folders are made.

    Returns:
        The two paths.

    Raises:
        OSError: A file cannot be written.
    """
    stem = Path(stem)
    stem = stem.with_suffix("") if stem.suffix in (".pdf", ".png") else stem
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in ("pdf", "png"):
        path = Path(f"{stem}.{kind}")
        write_whole(path, render(figure, kind))
        paths.append(path)
    return paths


def render(figure: Figure, kind: Literal["pdf", "png"]) -> bytes:
    """The content of a PDF or PNG file (160 dots an inch) with no date in it."""
    buffer = BytesIO()
    figure.savefig(buffer, format=kind, dpi=_DPI, metadata=_METADATA[kind])
    return buffer.getvalue()
