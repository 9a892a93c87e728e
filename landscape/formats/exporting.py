"""Which writer a file gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from landscape.formats.original import write_original
from landscape.formats.tables import write_csv, write_npz
from landscape.formats.vtp import write_vtp
from landscape.results import Surface

_FORMATS = {".csv": "csv", ".npz": "npz", ".vtp": "vtp", ".h5": "original"}
_OF_A_TERM: Mapping[str, Callable[[Surface, Path, str], None]] = {"vtp": write_vtp, "original": write_original}
_OF_ALL_TERMS: Mapping[str, Callable[[Surface, Path], None]] = {"csv": write_csv, "npz": write_npz}


def export(surface: Surface, path: str | Path, *, term: str | None = None, format: str | None = None) -> None:
    """Write a surface for another program, replacing a file that is there in a single step.

    ``csv``: a row for each cell, `write_csv`. ``npz``: NumPy arrays, `write_npz`. ``vtp``: a mesh for ParaView,
    `write_vtp`. ``original``: HDF5 of the original loss-landscape tool, `write_original`, which is less than the file
    that was measured.

    Args:
        surface: What to write; it may have pending cells, which each format marks as such.
        path: Of the file. Its ending says the format: .csv, .npz, .vtp, or .h5 for ``original``.
        term: The height of a mesh, and the loss of the original tool; the first term by default. Tables hold them all.
        format: ``"csv"``, ``"npz"``, ``"vtp"`` or ``"original"``, where the ending does not say it.

    Raises:
        ValueError: The format is unknown, or cannot hold this surface, or a term is chosen for a table.
        KeyError: The surface has no such term.
        OSError: The file cannot be written; one that was there is kept.
    """
    path = Path(path)
    kind = format or _FORMATS.get(path.suffix, "")
    if kind in _OF_A_TERM:
        _OF_A_TERM[kind](surface, path, term or surface.terms[0])
    elif kind in _OF_ALL_TERMS:
        if term is not None:
            raise ValueError(f"term must be left out for {kind}, which holds every term. Got {term!r}.")
        _OF_ALL_TERMS[kind](surface, path)
    elif format is not None:
        raise ValueError(f"format must be one of {', '.join(_FORMATS.values())}. Got {format!r}.")
    else:
        raise ValueError(f"{path} must end in one of {', '.join(_FORMATS)}. Got {path.suffix or 'none'}.")
