"""A surface as a mesh for ParaView and other programs that read VTK.

The format is VTK's XML PolyData, described at https://docs.vtk.org/en/latest/vtk_file_formats/vtkxml_file_format.html.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from landscape.files import write_whole
from landscape.formats._cells import cells
from landscape.results import PENDING, Surface

_TYPES = {"float64": "Float64", "int64": "Int64", "uint8": "UInt8"}


def write_vtp(surface: Surface, path: Path, term: str) -> None:
    """A point ``(x, y, term)`` for each cell, row after row, and a quad between each four neighbours.

    Every term, its standard error (``<term>_sem``) and ``status`` are arrays on the points, to colour by. Where the
    term is pending or not finite, its point has height 0 and the quads that touch it are left out: a hole.

    Raises:
        ValueError: The surface is not a plane, or two arrays would have the same name.
        KeyError: The surface has no such term.
        OSError: The file cannot be written; one that was there is kept.
    """
    if surface.y is None:
        raise ValueError(f"VTP needs a plane with dims ('y', 'x'). Got {surface.dims}. Export its lines as CSV.")
    height = surface.values(term)
    known = (surface.status != PENDING) & np.isfinite(height)
    arrays = cells(surface)
    points = np.stack([arrays.pop("x"), arrays.pop("y"), np.where(known, height, 0.0)], axis=-1).reshape(-1, 3)
    quads = _quads(known)
    on_points = "".join(_array(name, values) for name, values in arrays.items())
    write_whole(
        path,
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64">\n<PolyData>\n'
        f'<Piece NumberOfPoints="{len(points)}" NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" '
        f'NumberOfPolys="{len(quads)}">\n'
        f"<PointData Scalars={quoteattr(term)}>\n{on_points}</PointData>\n"
        f"<Points>\n{_array('Points', points)}</Points>\n"
        f"<Polys>\n{_array('connectivity', quads)}{_array('offsets', 4 * np.arange(1, len(quads) + 1))}</Polys>\n"
        "</Piece>\n</PolyData>\n</VTKFile>\n".encode(),
    )


def _quads(known: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Points ``[n, 4]`` around each square of the grid, counter-clockwise, where all four are known."""
    point = np.arange(known.size).reshape(known.shape)
    corners = [point[:-1, :-1], point[:-1, 1:], point[1:, 1:], point[1:, :-1]]
    quads = np.stack(corners, axis=-1).reshape(-1, 4)
    return quads[known.ravel()[quads].all(axis=1)]


def _array(name: str, values: NDArray[Any]) -> str:
    """An array with its bytes in base64, their number first; of ``[n, 3]``, each row is a point."""
    parts = ' NumberOfComponents="3"' if name == "Points" else ""
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    text = base64.b64encode(np.array(len(data), "<u8").tobytes() + data).decode()
    kind = _TYPES[values.dtype.name]
    return f'<DataArray type="{kind}" Name={quoteattr(name)}{parts} format="binary">{text}</DataArray>\n'
