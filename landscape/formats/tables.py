"""Tables of every cell: CSV for any program, NPZ for NumPy."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from landscape.files import write_whole
from landscape.formats._cells import by_name, cells
from landscape.results import Surface

_RESERVED = ("attrs", "file", "allow_pickle")
"""What ``np.savez_compressed`` calls its own arguments, and what is added below."""


def write_csv(surface: Surface, path: Path) -> None:
    """A header, then a row for each cell (RFC 4180, UTF-8), floats with every digit that they need to come back.

    Columns: ``x``, then ``y`` of a plane or ``direction`` of a bundle; ``<term>`` and ``<term>_sem`` for each term;
    ``status``: 0 pending, 1 done, 2 done and not finite.

    Raises:
        ValueError: Two columns would have the same name.
        OSError: The file cannot be written; one that was there is kept.
    """
    columns = cells(surface)
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(columns)
    rows.writerows(zip(*(column.ravel().tolist() for column in columns.values()), strict=True))
    write_whole(path, text.getvalue().encode())


def write_npz(surface: Surface, path: Path) -> None:
    """Arrays for ``np.load``, which needs no pickle for them.

    ``x`` ``[nx]`` and, of a plane, ``y`` ``[ny]``; ``<term>``, ``sem_<term>`` and ``status`` in the shape of the grid;
    ``attrs``: the provenance as a JSON text.

    Raises:
        ValueError: Two arrays would have the same name, or NumPy reserves the name of a term.
        OSError: The file cannot be written; one that was there is kept.
    """
    axes = [("x", surface.x)] + ([] if surface.y is None else [("y", surface.y)])
    means = [(term, surface.values(term)) for term in surface.terms]
    sems = [(f"sem_{term}", surface.sem(term)) for term in surface.terms]
    arrays: dict[str, Any] = by_name([*axes, *means, *sems, ("status", surface.status)], _RESERVED)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, attrs=np.array(json.dumps(surface.attrs)))
    write_whole(path, buffer.getvalue())
